"""The tables of a report, every cell a text: the law, what was tried, pass rates, the seal, the data."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sweep.capability import FIT_HALF
from sweep.contamination import contamination_rows
from sweep.cut_offs import cut_off_text
from sweep.folder import HASH_KEY
from sweep.laws import Law
from sweep.page.evidence import Content, Evidence
from sweep.quoted import mean_pass_rate


@dataclass(frozen=True)
class Row:
    cells: list[str]
    data: dict[str, str] = field(default_factory=dict)  # what filters go by


@dataclass(frozen=True)
class Table:
    head: list[str]
    rows: list[Row]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    return Table(list(head), [Row(list(cells)) for cells in rows])


def number(value: float | None, form: str = ".4f") -> str:
    return "" if value is None else format(value, form)


# ---- the law ----------------------------------------------------------------------------------


def law_facts(fit: Content) -> list[tuple[str, str]]:
    noise, phase = fit["noise"], fit["phase"]
    return [
        ("forecast", f"{fit['prediction']:.4f} {fit['unit']} at {fit['target_flops']:.4g} FLOPs"),
        ("interval", f"{fit['low']:.4f} to {fit['high']:.4f} ({fit['level']:.0%})"),
        ("heaviest form", fit["form"]),
        ("its law", str(Law(**fit["coefficients"]))),
        ("fitted to", f"{fit['num_runs']} runs at {fit['num_budgets']} budgets"),
        ("noise of a run", f"{noise['relative_sd']:.2%}"),
        ("noise between seeds", number(noise["replicate_sd"], ".2%") or "not measured: no replicates"),
        ("interval widened", f"{fit['interval_widened']:.2f} times, by what the backtests missed"),
        ("phase", phase["phase"] + (" (STRADDLES A PHASE CHANGE)" if phase["straddles"] else "")),
        ("forecastable", "yes" if fit["forecastable"] else "NO: " + "; ".join(fit["not_forecastable_because"])),
    ]


def forms_table(fit: Content) -> Table:
    rows = (
        (
            form["form"],
            number(form["prediction"]),
            f"{form['low']:.4f} to {form['high']:.4f}",
            f"{form['weight']:.0%}",
        )
        for form in fit["forms_tried"]
    )
    return table(("form tried", "its forecast", "its interval", "weight"), rows)


def backtests_table(fit: Content) -> Table:
    rows = (
        (
            f"{test['ratio']:.2f}",
            f"{test['largest_fitted_flops']:.3g}",
            f"{test['flops']:.3g}",
            number(test["prediction"]),
            f"{test['low']:.4f} to {test['high']:.4f}",
            number(test["measured"]),
            f"{test['error']:+.2%}",
            "yes" if test["inside"] else "no",
        )
        for test in sorted(fit["backtests"], key=lambda test: test["ratio"])
    )
    return table(
        ("ratio", "fitted up to", "predicted at", "prediction", "interval", "measured", "error", "inside"), rows
    )


def cut_offs_table(fit: Content, verdict: Content | None) -> Table:
    """Forecasts from fewer runs, sealed with the main one; judged if there is a verdict."""
    words = {True: "held", False: "missed", None: ""}
    rows = (
        (
            cut_off_text(row["max_flops_fraction"]),
            number(row["extrapolation_ratio"], ",.3g"),
            number(row["prediction"]),
            f"{row['low']:.4f} to {row['high']:.4f}" if row["prediction"] else "",
            number(row.get("error"), "+.2%"),
            words[row.get("held")] if row["forecastable"] else "; ".join(row["not_forecastable_because"]),
        )
        for row in (verdict or {}).get("cut_offs") or fit["cut_offs"]
    )
    return table(("from so much of the target's compute", "times", "forecast", "interval", "error", ""), rows)


def sensitivity_table(fit: Content) -> Table:
    rows = ((row["change"], number(row["prediction"]), f"{row['by']:+.2%}") for row in fit["what_would_change_it"])
    return table(("what would change it", "forecast", "by"), rows)


# ---- contamination ----------------------------------------------------------------------------


def contamination_tables(contamination: Content, verdict: Content | None) -> list[Table]:
    """Each hit, and the target's numbers without the hits beside those that were forecast; either may be empty."""
    hits = table(("what", "by", "stands in"), contamination_rows(contamination))
    found = (verdict or {}).get("contamination") or {}
    pairs = (("loss, nats per token", "loss_nats", ".4f"), (mean_pass_rate(found), "pass_rate", ".1%"))
    rows = [
        (
            name,
            number((verdict or {}).get("measured") if key == "loss_nats" else found[key], form),
            number(found[f"clean_{key}"], form),
            number(found[f"quoted_{key}"], form),
        )
        for name, key, form in pairs
        if f"quoted_{key}" in found
    ]
    numbers = table(("of the target", "with the hits, as forecast", "without them", "the worse, to be quoted"), rows)
    return [drawn for drawn in (hits, numbers) if drawn.rows]


# ---- pass rates -------------------------------------------------------------------------------


def buckets_table(capability: Content, verdict: Content | None) -> Table:
    judged = {row["bucket"]: row for row in (verdict or {}).get("pass_rates") or []}
    words = {True: "held", False: "missed", None: ""}
    rows = []
    for bucket in capability["buckets"]:
        row = judged.get(bucket["bucket"], {})
        unsolved = f" or more ({row['never_solved']} never solved)" if row.get("never_solved") else ""
        rows.append(
            (
                str(bucket["bucket"]),
                str(len(bucket["tasks"])),
                number(bucket["prediction"], ".3f") or "not forecastable",
                f"{bucket['low']:.3f} to {bucket['high']:.3f}" if bucket["forecastable"] else "",
                number(row.get("measured"), ".3f") + unsolved,
                words[row.get("held")],
                number(bucket["pass_rate_prediction"], ".1%"),
                f"{bucket['pass_rate_low']:.1%} to {bucket['pass_rate_high']:.1%}" if bucket["forecastable"] else "",
                number(row.get("pass_rate_measured"), ".1%"),
            )
        )
    head = (
        *("bucket", "problems", "mean -log p forecast", "interval", "measured", "verdict"),
        *("mean p forecast", "interval", "measured"),
    )
    return table(head, rows)


def unforecastable(capability: Content) -> list[str]:
    """A line per bucket that has no forecast, with what it would take."""
    lines = []
    for bucket in capability["buckets"]:
        if not bucket["forecastable"]:
            least = "at least " if bucket["samples_needed_is_least"] else ""
            why = "; ".join(bucket["not_forecastable_because"])
            if bucket["samples_needed"]:
                why += f"; it takes {least}{bucket['samples_needed']:,} samples per problem and budget"
            lines.append(f"Bucket {bucket['bucket']}: {why}.")
    return lines


def counts_table(capability: Content, evidence: Evidence) -> Table:
    """Pass rate and counts of every run and bucket.

    The small runs' are those of the half of the samples that the law sees, the target's all of its samples.
    """
    buckets, target = capability["buckets"], evidence.target
    judged = {row["bucket"]: row["pass_rate_measured"] for row in (evidence.verdict or {}).get("pass_rates") or []}
    flops = {seen["run_id"]: seen["flops"] for seen in buckets[0]["observed"]}
    rates = {
        (seen["run_id"], bucket["bucket"]): seen["mean_pass_rate"] for bucket in buckets for seen in bucket["observed"]
    }
    rows = []
    if target is not None and target.counts:
        problems = target.counts["problems"]
        both = slice(0, 2)
        cells = [_solved(judged.get(bucket["bucket"]), problems, bucket["tasks"], both) for bucket in buckets]
        rows.append(("the target", *cells))
    for run_id in sorted(capability["runs"], key=lambda run_id: flops[run_id]):
        problems = (evidence.passes or {"runs": {}})["runs"].get(run_id, {}).get("problems", {})
        cells = [
            _solved(rates.get((run_id, bucket["bucket"])), problems, bucket["tasks"], slice(FIT_HALF, FIT_HALF + 1))
            for bucket in buckets
        ]
        rows.append((run_id, *cells))
    return table(("run", *(f"bucket {bucket['bucket']}" for bucket in buckets)), rows)


def _solved(rate: float | None, problems: dict[str, Any], tasks: list[str], halves: slice) -> str:
    tried = [problems[task] for task in tasks if task in problems]
    samples, correct = (sum(sum(row[key][halves]) for row in tried) for key in ("n", "c"))
    counts = f"{correct:,} of {samples:,}" if tried else "no counts"
    return counts if rate is None else f"{rate:.2%} ({counts})"


# ---- the seal ---------------------------------------------------------------------------------


def seal_facts(seal: Content, verdict: Content | None) -> list[tuple[str, str]]:
    cut_off, code = seal["cut_off"], seal["code"]
    facts = [
        ("hash of the seal", seal[HASH_KEY]),
        ("sealed", time_text(seal["sealed_utc"])),
        ("target", seal["target_run_id"]),
        ("target then", seal["target_progress"]),
        ("predicted", f"{seal['prediction']:.4f} ({seal['low']:.4f} to {seal['high']:.4f}, {seal['level']:.0%})"),
        (
            "cut-off",
            f"runs of at most {cut_off['max_flops_fraction']:g} of the target's compute;"
            f" the largest has {cut_off['largest_fitted_flops']:.4g} FLOPs",
        ),
        ("assumes", f"the target is in the ladder's phase: {seal['phase_assumed']}"),
        ("would be falsified", "; ".join(f"if {sentence}" for sentence in seal["falsified_by"])),
        ("code", f"commit {code['commit'] or 'unknown'}, hash {code['sha256'][:16]}"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in seal["libraries"].items())),
    ]
    if verdict is not None and verdict["status"] == "judged":
        facts.insert(2, ("target started", time_text(verdict["target_started_utc"])))
        facts.insert(3, ("target finished", time_text(verdict["target_finished_utc"])))
    return facts


def sealed_files_table(seal: Content) -> Table:
    return table(("what the seal rests on", "SHA-256"), [*seal["files"].items(), *seal["runs"].items()])


# ---- the data ---------------------------------------------------------------------------------


def corpus_tables(corpus: Content) -> list[Table]:
    """One row per split, with whatever is counted of it; then each list of parts that the plan has, such as sources."""
    splits = {name: value for name, value in corpus.items() if isinstance(value, dict) and "tokens" in value}
    parts = [_parts([{"split": name.replace("_", " "), **value} for name, value in splits.items()])]
    parts += [_parts(value) for value in corpus.values() if _is_list_of_parts(value)]
    return [part for part in parts if part.rows]


def _parts(rows: list[Content]) -> Table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = [column.replace("_", " ") for column in columns]
    return table(head, ([_plain(row.get(column)) for column in columns] for row in rows))


def _is_list_of_parts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def corpus_facts(corpus: Content, settings: Content) -> list[tuple[str, str]]:
    """What else the plan says about the corpus, and the settings that it was made by."""
    known = {
        name: value for name, value in corpus.items() if not isinstance(value, dict) and not _is_list_of_parts(value)
    }
    return [(name.replace("_", " "), _plain(value)) for name, value in {**known, **settings}.items()]


def time_text(utc: str) -> str:
    """2026-11-22 14:50:45.493 UTC from an ISO time."""
    return datetime.fromisoformat(utc).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, dict | list):
        return json.dumps(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


# ---- commands ---------------------------------------------------------------------------------


def verify_command(evidence: Evidence) -> str:
    return f"python -m sweep.verify {shlex.quote(str(evidence.folder.path))}"


def launch_command(evidence: Evidence) -> str:
    """Trains it all again, every setting spelt out."""
    plan, code = evidence.plan, (evidence.seal or {}).get("code", {})
    checkout = f"git checkout {code['commit']}\n" if code.get("commit") else ""
    settings = [
        shlex.quote(f"{group}.{key}={override(value)}")
        for group, values in plan.config.items()
        for key, value in values.items()
    ]
    name = shlex.quote(f"name={plan.name}")
    return f"{checkout}python -m sweep.launch {name} sweeps_dir=again \\\n  " + " \\\n  ".join(settings)


def override(value: object) -> str:
    """A value as the command line takes it: JSON, but for the keys of objects, which stand without quotes."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(override, value)) + "]"
    return json.dumps(value)
