"""What was published in forecasts/: every claim with what became of it, and whether it would be made today.

A claim is one number forecast from one cut-off. The rules of ``sweep/phase.py`` grew with the misses, so an old
claim may rest on a ladder that they refuse now: it stays, and is marked.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweep.cut_offs import cut_off_text
from sweep.folder import SweepFolder, read_json
from sweep.phase import NOT_ONE_PHASE, above_knee, phase_of
from sweep.records import Record, fitted_records, read_records
from sweep.refit import refit_loss
from sweep.run_spec import plan_from_json

RATIOS = (30, 100, 300, 1_000, 3_000, 10_000)  # claims are summed up under the nearest of these, in logarithms


@dataclass(frozen=True)
class Claim:
    """One sealed forecast of a number at one cut-off, and what became of it."""

    forecast: str
    cut_off: str
    ratio: float | None
    predicted: float | None  # None: not forecastable
    low: float | None
    high: float | None
    measured: float | None  # None: the target is not done
    word: str
    optimizer: str
    refused_today: bool  # by a rule on its ladder's phase that was made after it was sealed

    @property
    def error(self) -> float | None:
        return None if self.predicted is None or self.measured is None else self.predicted / self.measured - 1


@dataclass(frozen=True)
class BucketClaim:
    claim: Claim  # of the mean of -log pass rate in nats
    bucket: int
    never_solved: int  # problems that the target did not solve once: the measurement is a lower bound
    rate_predicted: float | None
    rate_measured: float | None


@dataclass(frozen=True)
class Published:
    folder: SweepFolder
    plan: dict[str, Any]
    records: list[Record]  # of the fitted runs
    seal: dict[str, Any]
    fit: dict[str, Any]
    verdict: dict[str, Any]  # only its status, if it is not judged

    @property
    def name(self) -> str:
        return self.folder.path.name


def read_published(forecasts: Path) -> list[Published]:
    """Every published forecast, the oldest first. Raises CorruptFile."""
    found = []
    for path in forecasts.glob("*/seal.json"):
        folder = SweepFolder(path.parent)
        verdict = read_json(folder.verdict) if folder.verdict.exists() else {"status": "waiting", "reasons": []}
        records = fitted_records(read_records(folder.records))
        found.append(
            Published(folder, read_json(folder.plan), records, read_json(folder.seal), read_json(folder.fit), verdict)
        )
    return sorted(found, key=lambda published: (published.seal["sealed_utc"], published.name))


def loss_claims(published: Published) -> list[Claim]:
    """The main cut-off and the further ones, the largest first."""
    seal, verdict = published.seal, published.verdict
    main = {**seal, **{key: seal["cut_off"][key] for key in ("max_flops_fraction", "largest_fitted_flops")}}
    judged = [verdict, *verdict["cut_offs"]] if verdict["status"] == "judged" else [None] * (1 + len(seal["cut_offs"]))
    return [
        _claim(published, row, row["max_flops_fraction"], row["largest_fitted_flops"], found)
        for row, found in zip([main, *seal["cut_offs"]], judged, strict=True)
    ]


def _claim(
    published: Published,
    said: dict[str, Any],
    fraction: float,
    largest_flops: float | None,
    found: dict[str, Any] | None,
) -> Claim:
    """What was sealed (``said``) from runs up to ``largest_flops`` with what was judged of it, if anything was."""
    known = said if said["forecastable"] else dict.fromkeys(("prediction", "low", "high"))
    return Claim(
        forecast=published.name,
        cut_off=cut_off_text(fraction),
        ratio=published.seal["target_flops"] / largest_flops if largest_flops else None,
        predicted=known["prediction"],
        low=known["low"],
        high=known["high"],
        measured=found["measured"] if found else None,
        word=_word(said["forecastable"], found["held"] if found else None, published.verdict["status"]),
        optimizer=published.plan["config"]["recipe"]["optimizer"],
        refused_today=bool(largest_flops and _refused(published, largest_flops)),
    )


def _refused(published: Published, largest_flops: float) -> bool:
    below = [record for record in published.records if record.flops <= largest_flops]
    return bool(phase_of(above_knee(below)[0], published.plan["fit"]["copying_nats"])[NOT_ONE_PHASE])


def refitted_claims(published: Published) -> list[Claim]:
    """The same claims as the fit of today would make them: after the target was measured, so no forecasts."""
    again = refit_loss(published.seal, plan_from_json(published.plan), published.records)
    claims = []
    for claim, refit in zip(loss_claims(published), again, strict=True):
        known = refit.found if refit.found["forecastable"] is True else {}
        predicted, low, high = (known.get(key) for key in ("prediction", "low", "high"))
        held = bool(low <= claim.measured <= high) if low and high and claim.measured else None
        word = _word(predicted is not None, held, published.verdict["status"])
        claims.append(replace(claim, predicted=predicted, low=low, high=high, word=word))
    return claims


def bucket_claims(published: Published) -> list[BucketClaim]:
    """All buckets at all cut-offs; none where the sweep was not sampled."""
    sealed, verdict = published.seal["pass_rates"], published.verdict
    if sealed is None:
        return []
    parts = [sealed, *sealed["cut_offs"]]
    judged: list[Any] = [[None] * len(part["buckets"]) for part in parts]
    if verdict["status"] == "judged":
        judged = [verdict["pass_rates"], *(part["buckets"] for part in verdict["pass_rate_cut_offs"])]
    claims = []
    for part, rows in zip(parts, judged, strict=True):
        fraction, largest = part["cut_off"]["max_flops_fraction"], part["cut_off"]["largest_fitted_flops"]
        for bucket, found in zip(part["buckets"], rows, strict=True):
            claims.append(
                BucketClaim(
                    claim=_claim(published, bucket, fraction, largest, found),
                    bucket=bucket["bucket"],
                    never_solved=(found or {}).get("never_solved") or 0,
                    rate_predicted=bucket["pass_rate_prediction"],
                    rate_measured=(found or {}).get("pass_rate_measured"),
                )
            )
    return claims


def _word(forecastable: bool, held: bool | None, status: str) -> str:
    if not forecastable:
        return "not forecast"
    if status != "judged":
        return status
    return {True: "held", False: "**missed**", None: "can't be told"}[held]


def nearest_ratio(ratio: float) -> int:
    return min(RATIOS, key=lambda each: max(each / ratio, ratio / each))
