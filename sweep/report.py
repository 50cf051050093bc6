"""Report: figures and one self-contained report.html from the files of a sweep.

    python -m sweep.report sweeps/NAME

Reads plan.json, records.csv, fit.json, seal.json and verdict.json and computes nothing that they do not hold;
a stage that has not run yet is said to be missing. Writes figures/*.png and report.html, which needs no network.
"""

import argparse
import base64
import html
import json
import shlex
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from sweep.figures import draw_copy_scores, draw_forecast, draw_pass_rates, draw_residuals
from sweep.folder import CorruptFile, SweepFolder, open_sweep, read_json
from sweep.laws import Law
from sweep.records import Record, read_records
from sweep.run_spec import Plan, read_plan

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
img { max-width: 100%; background: white; border-radius: 6px }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.verdict { font-size: 1.15rem; padding: .8rem 1rem; border-radius: 6px; background: var(--soft) }
.warning { border-left: 4px solid #d80; padding-left: .8rem; margin: .4rem 0 }
pre { background: var(--soft); padding: .8rem; border-radius: 6px; overflow-x: auto }
"""


def write_report(folder: SweepFolder) -> Path:
    """Draw the figures and write report.html; returns its path."""
    plan = read_plan(folder)
    records = read_records(folder.records) if folder.records.exists() else []
    fit, seal, verdict = (_read(path) for path in (folder.fit, folder.seal, folder.verdict))
    folder.figures.mkdir(exist_ok=True)
    figures = []
    if fit is not None:
        figures = [
            ("Loss against compute", draw_forecast(records, fit, verdict, folder.figures / "forecast.png")),
            ("Residuals of the fitted law", draw_residuals(records, fit, folder.figures / "residuals.png")),
            ("Copying from context, the phase probe", draw_copy_scores(records, plan, folder.figures / "copying.png")),
        ]
    capability = (fit or {}).get("capability")
    if fit is not None and capability and capability["buckets"]:
        path = draw_pass_rates(capability, verdict, fit["target_flops"], folder.figures / "pass_rates.png")
        figures.insert(1, ("Pass rates against compute, by difficulty", path))
    sections = [
        f"<h1>Scaling sweep <em>{html.escape(plan.name)}</em></h1>",
        _verdict_section(seal, verdict),
        *(f"<h2>{title}</h2>{_image(path)}" for title, path in figures),
        _law_section(fit, seal),
        _pass_rates_section(capability, verdict),
        _runs_section(plan, records, folder),
        _corpus_section(plan),
        _reproduce_section(plan, folder, seal),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(plan.name)}: scaling sweep</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(sections)}</body></html>\n"
    )
    folder.report.write_text(page)
    return folder.report


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return read_json(path)
    except CorruptFile as error:
        return {"damaged": str(error)} if path.name == "seal.json" else None


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{path.stem}" src="data:image/png;base64,{data}">'


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def line(tag: str, cells: Iterable[object]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f'<div class="scroll"><table><thead>{line("th", head)}</thead><tbody>{body}</tbody></table></div>'


def _number(value: float | None, form: str = ".4f") -> str:
    return "" if value is None else format(value, form)


def _verdict_section(seal: dict[str, Any] | None, verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        text = "No verdict yet: " + ("the forecast is sealed." if seal else "the forecast is not sealed.")
    elif verdict["status"] != "judged":
        text = f"No verdict ({verdict['status']}): " + "; ".join(verdict["reasons"])
        if "unsealed_backtest" in verdict:
            both = verdict["unsealed_backtest"]
            text += (
                f". As a backtest, not a forecast: {both['prediction']:.4f} against a measured"
                f" {both['measured']:.4f} ({both['error']:+.2%})"
            )
    else:
        text = (
            f"{'Held' if verdict['held'] else 'Missed'}: predicted {verdict['prediction']:.4f} nats per token"
            f" ({verdict['level']:.0%} interval {verdict['low']:.4f} to {verdict['high']:.4f}),"
            f" measured {verdict['measured']:.4f}, so {verdict['error']:+.2%} off at"
            f" {verdict['extrapolation_ratio']:.3g} times the compute of the largest fitted run."
            f" Sealed {verdict['sealed_utc']}, target started {verdict['target_started_utc']}."
        )
    return f'<p class="verdict">{html.escape(text)}</p>'


def _law_section(fit: dict[str, Any] | None, seal: dict[str, Any] | None) -> str:
    if fit is None:
        return "<h2>The law</h2><p>Not fitted yet.</p>"
    noise = fit["noise"]
    facts = [
        ("forecast", f"{fit['prediction']:.4f} ({fit['low']:.4f} to {fit['high']:.4f}, {fit['level']:.0%})"),
        ("heaviest form", fit["form"]),
        ("its law", str(Law(**fit["coefficients"]))),
        ("runs", f"{fit['num_runs']} at {fit['num_budgets']} budgets"),
        ("noise of a run", f"{noise['relative_sd']:.2%}"),
        ("noise between seeds", _number(noise["replicate_sd"], ".2%") or "not measured: no replicates"),
        ("phase", f"{fit['phase']['phase']}" + (" (STRADDLES A PHASE CHANGE)" if fit["phase"]["straddles"] else "")),
        ("forecastable", "yes" if fit["forecastable"] else "NO: " + "; ".join(fit["not_forecastable_because"])),
    ]
    if seal is not None and "cut_off" in seal:
        cut_off = seal["cut_off"]
        facts.append(
            (
                "cut-off",
                f"runs of at most {cut_off['max_flops_fraction']:g} of the target's compute;"
                f" the largest has {cut_off['largest_fitted_flops']:.4g} FLOPs",
            )
        )
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in fit["warnings"])
    forms = _table(
        ("form tried", "its forecast", "its interval", "weight"),
        (
            (
                form["form"],
                _number(form["prediction"]),
                f"{form['low']:.4f} to {form['high']:.4f}",
                f"{form['weight']:.0%}",
            )
            for form in fit["forms_tried"]
        ),
    )
    tests = _table(
        ("backtest: fitted up to", "predicted at", "ratio", "prediction", "measured", "error", "inside"),
        (
            (
                f"{t['largest_fitted_flops']:.3g}",
                f"{t['flops']:.3g}",
                f"{t['ratio']:.1f}",
                _number(t["prediction"]),
                _number(t["measured"]),
                f"{t['error']:+.2%}",
                "yes" if t["inside"] else "no",
            )
            for t in fit["backtests"]
        ),
    )
    changes = _table(
        ("what would change it", "forecast", "by"),
        ((row["change"], _number(row["prediction"]), f"{row['by']:+.2%}") for row in fit["what_would_change_it"]),
    )
    return f"<h2>The law</h2>{_table(('', ''), facts)}{warnings}<h2>What was tried</h2>{forms}<br>{tests}<br>{changes}"


def _pass_rates_section(capability: dict[str, Any] | None, verdict: dict[str, Any] | None) -> str:
    if capability is None:
        return ""
    judged = {row["bucket"]: row for row in (verdict or {}).get("pass_rates") or []}
    words = {True: "held", False: "missed", None: ""}
    rows = []
    for bucket in capability["buckets"]:
        row = judged.get(bucket["bucket"], {})
        never_solved = f" or more ({row['never_solved']} never solved)" if row.get("never_solved") else ""
        rows.append(
            (
                bucket["bucket"],
                len(bucket["tasks"]),
                _number(bucket["prediction"], ".3f")
                or "not forecastable: " + "; ".join(bucket["not_forecastable_because"]),
                f"{bucket['low']:.3f} to {bucket['high']:.3f}" if bucket["forecastable"] else "",
                _number(row.get("measured"), ".3f") + never_solved,
                words[row.get("inside_interval")],
                _number(bucket["pass_rate_prediction"], ".3f"),
                _number(row.get("pass_rate_measured"), ".3f"),
            )
        )
    head = (
        *("bucket, easiest first", "problems", "mean -log pass rate forecast", "interval", "measured", ""),
        *("mean pass rate forecast", "measured"),
    )
    left_out = ", ".join(f"{task} ({why})" for task, why in capability["left_out"].items())
    return (
        f"<h2>Pass rates</h2><p>{capability['num_samples']:,} samples of {capability['num_problems']} problems"
        f" ({html.escape(capability['problems'])}), from runs of at most"
        f" {capability['cut_off']['max_flops_fraction']:g} of the target's compute."
        f" {html.escape(capability['no_buckets_because'])}</p>{_table(head, rows)}"
        f"<details><summary>Left out: {len(capability['left_out'])} problems</summary>"
        f"<p>{html.escape(left_out)}</p></details>"
    )


def _runs_section(plan: Plan, records: list[Record], folder: SweepFolder) -> str:
    states = {run.run_id: folder.run(run.run_id) for run in plan.runs}
    by_id = {record.run_id: record for record in records}
    rows = []
    for run in plan.runs:
        record = by_id.get(run.run_id)
        measured = _read(states[run.run_id].eval) or {}
        train = _read(states[run.run_id].train) or {}
        marks = "; ".join(train.get("marks", []))
        try:
            state = states[run.run_id].state()
            status, reason = state.status, state.reason
        except CorruptFile as error:
            status, reason = "failed", str(error)
        rows.append(
            (
                run.run_id,
                run.role,
                ": ".join(part for part in (status, reason, marks) if part),
                f"{run.flops:.3g}",
                f"{run.num_params:,}",
                f"{run.num_tokens:,}",
                _number(measured.get("loss_nats", record.loss_nats if record else None)),
                _number(measured.get("loss_se_nats")),
                _number(measured.get("bits_per_byte")),
                _number(measured.get("copy_score_nats"), ".2f"),
                " ".join(_number(value, ".2f") for value in measured.get("loss_by_position_nats", [])),
                _number(train.get("train_seconds"), ".0f"),
            )
        )
    head = (
        *("run", "role", "status", "FLOPs", "parameters", "tokens", "loss (nats/token)", "std. error"),
        *("bits/byte", "copy score (nats)", "loss by position", "train s"),
    )
    return f"<h2>Runs</h2>{_table(head, rows)}"


def _corpus_section(plan: Plan) -> str:
    corpus = plan.corpus
    rows = [
        (split.replace("_", " "), *(f"{corpus[split][key]:,}" for key in ("documents", "bytes", "tokens")))
        for split in ("train", "held_out")
    ]
    data = plan.config["data"]
    groups = [*data["held_out_groups"], *(group for source in data["sources"] for group in source["held_out_packages"])]
    ways = [f"the groups {', '.join(groups)}"] if groups else []
    ways += [f"{data['held_out_fraction']:.2%} of all other groups"] if data["held_out_fraction"] else []
    mixture = ", ".join(
        f"{part['source']} {part['tokens']:,} tokens"
        + ("" if part["weight"] is None else f", share {float(Fraction(part['weight'])):g}")
        for part in corpus["mixture"]
    )
    return (
        f"<h2>Data</h2>{_table(('split', 'documents', 'bytes', 'tokens'), rows)}"
        f"<p>Trained on {html.escape(mixture)}. Held out as a whole: {html.escape('; '.join(ways))}. Near-duplicates"
        f" dropped from the training documents: {corpus['near_duplicates']:,}. Corpus {corpus['sha256'][:16]}. No token"
        " is seen twice.</p>"
    )


def _override(value: Any) -> str:
    """A value as the command line takes it: JSON, but for the keys of objects, which stand without quotes."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_override(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_override, value)) + "]"
    return json.dumps(value)


def _reproduce_section(plan: Plan, folder: SweepFolder, seal: dict[str, Any] | None) -> str:
    code = (seal or {}).get("code", {})
    commit = f"git checkout {code['commit']}\n" if code.get("commit") else ""
    verify = f"python -m sweep.verify {shlex.quote(str(folder.path))}"
    settings = [
        shlex.quote(f"{group}.{key}={_override(value)}")
        for group, values in plan.config.items()
        for key, value in values.items()
    ]
    again = f"{commit}python -m sweep.launch name={plan.name} sweeps_dir=again \\\n  " + " \\\n  ".join(settings)
    changed = "<p>The code had changes that were not committed.</p>" if code.get("changed_since_commit") else ""
    return (
        f"<h2>Check and reproduce</h2><p>Recompute every hash and the fit:</p><pre>{html.escape(verify)}</pre>"
        "<details><summary>Train it all again, every setting spelt out</summary>"
        f"<pre>{html.escape(again)}</pre></details>"
        f"{changed}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.report", description="Write a sweep's report.html.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    print(write_report(open_sweep(parser.parse_args().sweep)))
    return 0


if __name__ == "__main__":
    from sweep.errors import run_main

    run_main(main)
