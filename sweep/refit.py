"""Refit: a claimed forecast computed again from the records and counts that it rests on.

With the fitting code, numpy and scipy that made the claim the numbers come out the same, to ``_SAME``. Later code can
forecast otherwise: then a claim counts as reproduced if none of its numbers moves by more than ``TOLERANCE`` of half
the width of its interval, in logarithms. That is no licence: the sealed commit repeats the fit exactly.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sweep.capability import forecast_passes, point_forecasts, sealed_part
from sweep.cut_offs import NUMBERS, cut_off_text, forecast_cut_offs
from sweep.forecast import forecast, too_wide
from sweep.ladder import make_ladder
from sweep.laws import FitError
from sweep.phase import NOT_ONE_PHASE, above_knee, phase_of
from sweep.records import Record, as_table, fitted_records
from sweep.run_spec import Plan
from sweep.spec import CapabilitySpec

TOLERANCE = 0.5
_SAME = 1e-6  # relative; other processors and library versions round otherwise in the last bits
_MOVES = (*NUMBERS, "uncorrected")  # what TOLERANCE is about; all positive


@dataclass(frozen=True)
class Refit:
    """What is claimed under a name, and what was found again; keys that one of them lacks are not compared."""

    name: str
    rests_on: str  # records or counts
    said: dict[str, Any]
    found: dict[str, Any]
    half_width: float = 0.0  # of the claimed interval, in logarithms; 0: nothing was forecast

    @property
    def differences(self) -> list[str]:
        """A line for each value that does not come out the same."""
        return [
            f"the {self.rests_on} give {self.name}{key} = {self.found[key]}, the claim is {value}"
            for key, value in self.said.items()
            if key in self.found and not _same(value, self.found[key])
        ]

    @property
    def reproduced(self) -> bool:
        """Whether the claim still stands with the code at hand, to within ``TOLERANCE``."""
        if not self.half_width:
            return True
        computed = [key for key in _MOVES if self.said.get(key) is not None and key in self.found]
        pairs = [(self.said[key], self.found[key]) for key in computed]
        if self.said.get("tasks") != self.found.get("tasks") or not all(isinstance(found, float) for _, found in pairs):
            return False
        return all(abs(math.log(found / said)) <= TOLERANCE * self.half_width for said, found in pairs)


def refit_loss(claim: dict[str, Any], plan: Plan, records: list[Record]) -> list[Refit]:
    """The forecasts of the loss in a fit or a seal (``claim``), at the main cut-off and at the further ones."""
    used = fitted_records(records)
    above, _ = above_knee(used)
    keys = (*NUMBERS, "forecastable")
    said = _part(claim, keys) | {f"coefficient {key}": claim["coefficients"][key] for key in "abc"}
    try:
        again = forecast(make_ladder(as_table(above)), plan.target.flops, plan.fit.level)
        law = again.law.relative_to(plan.target.flops)
        found: dict[str, Any] = {key: getattr(again, key) for key in NUMBERS}
        found["forecastable"] = not too_wide(again) and not phase_of(above, plan.fit.copying_nats)[NOT_ONE_PHASE]
        found |= {f"coefficient {key}": getattr(law, key) for key in "abc"}
    except FitError as error:
        found = dict.fromkeys(said, f"no forecast ({error})")
    return [Refit("", "records", said, found, _half_width(claim))] + [
        Refit(
            f"{cut_off_text(row['max_flops_fraction'])}: ", "records", _part(row, keys), _part(other, keys), _width(row)
        )
        for row, other in zip(claim["cut_offs"], forecast_cut_offs(used, plan), strict=True)
    ]


def refit_passes(
    claim: dict[str, Any], plan: Plan, spec: CapabilitySpec, passes: dict[str, Any], thorough: bool
) -> list[Refit]:
    """The forecasts of pass rates in a seal (``claim``).

    Not ``thorough``: how the problems are sorted, and at the main cut-off each bucket's estimate before the bootstrap,
    which takes a tenth of a second; the bootstrap, which gives its correction and the interval, takes seconds a bucket.
    """
    sealed = [claim, *claim["cut_offs"]]
    if thorough:
        whole = sealed_part(forecast_passes(plan, spec, passes))
        again = [part["buckets"] for part in (whole, *whole["cut_offs"])]
    else:
        main = {bucket["bucket"] for bucket in claim["buckets"] if bucket["forecastable"]}
        again = [
            point_forecasts(plan, spec, passes, part["cut_off"]["max_flops_fraction"], wanted)
            for part, wanted in zip(sealed, [main, *[set()] * len(claim["cut_offs"])], strict=True)
        ]
    refits = []
    for part, buckets in zip(sealed, again, strict=True):
        where = "" if part is claim else f"{cut_off_text(part['cut_off']['max_flops_fraction'])}, "
        number = {"buckets": len(part["buckets"])}
        refits.append(Refit(f"{where}the number of ", "counts", number, {"buckets": len(buckets)}))
        refits += [
            Refit(f"{where}bucket {said['bucket']}: ", "counts", said, found, _width(said))
            for said, found in zip(part["buckets"], buckets, strict=False)
        ]
    return refits


def _part(row: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: row[key] for key in keys}


def _width(row: dict[str, Any]) -> float:
    return _half_width(row) if row["forecastable"] else 0.0


def _half_width(row: dict[str, Any]) -> float:
    return math.log(row["high"] / row["low"]) / 2


def _same(said: Any, found: Any) -> bool:
    if isinstance(said, float) and isinstance(found, int | float):
        return math.isclose(said, found, rel_tol=_SAME, abs_tol=1e-9)
    return bool(said == found)
