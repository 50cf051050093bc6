"""Write docs/measured.md and its figures from benchmarks/results/*.json, so that no number is copied by hand.

python -m benchmarks.pages
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from benchmarks import contamination_pages, data_pages, fit_pages, pass_pages, scoring_pages, slurm_pages
from benchmarks.drawing import figure, table
from benchmarks.study import RESULTS, ROOT
from sweep.folder import read_json

PAGE = ROOT / "docs" / "measured.md"


# ---- the recipe -------------------------------------------------------------------------------


def coordinate_check(result: dict[str, Any]) -> str:
    def draw(result: dict[str, Any], *axes: Axes) -> None:
        for one, (over, fixed, value) in zip(axes, (("width", "depth", 3), ("depth", "width", 64)), strict=True):
            for name in dict.fromkeys(row["setting"] for row in result["rows"]):
                rows = [row for row in result["rows"] if row["setting"] == name and row[fixed] == value]
                rows.sort(key=lambda row: row[over])
                style = "--" if name.endswith("off") else "-"
                one.plot([r[over] for r in rows], [r["stream_change"] for r in rows], style, marker="o", label=name)
            one.set(xscale="log", yscale="log", xlabel=over, ylabel=f"change of the stream in {result['steps']} steps")
        axes[0].legend(frameon=False)

    keys = ("stream_before", "stream_after", "stream_change", "logit_change")
    rows = [
        [r["setting"], str(r["width"]), str(r["depth"]), *(f"{r[key]:.3f}" for key in keys)] for r in result["rows"]
    ]
    head = ["setting", "width", "depth", "stream at first", "after", "its change", "change of the logits"]
    return figure("coordinate_check", draw, 2, result) + "\n\n" + table(head, rows)


def learning_rate_transfer(result: dict[str, Any]) -> str:
    names = list(dict.fromkeys(one["setting"] for one in result["slices"]))

    def draw(result: dict[str, Any], *axes: Axes) -> None:
        for one, name in zip(axes, names, strict=True):
            for found in result["slices"]:
                if found["setting"] == name:
                    style = "-" if found["depth"] == 3 else ":"
                    label = f"width {found['width']}, depth {found['depth']}"
                    one.plot(found["x"], found["loss_nats"], style, marker="o", ms=3, label=label)
            one.set(xscale="log", xlabel="learning rate / the recipe's", ylabel="loss (nats)", title=name)
        axes[-1].legend(frameon=False, fontsize=6)

    def best(one: dict[str, Any]) -> str:
        return one["edge"] if one["best"] is None else f"{one['best']:.2f}"

    rows = [
        [one["setting"], str(one["width"]), str(one["depth"]), *(f"{x:.3f}" for x in one["loss_nats"]), best(one)]
        for one in result["slices"]
    ]
    head = ["setting", "width", "depth", *(f"loss at {factor:g}x" for factor in result["factors"]), "best rate"]
    spread = [
        [name, "at the edge of the rates tried" if octaves is None else f"{octaves:.2f}"]
        for name, octaves in result["octaves_between_optima"].items()
    ]
    return "\n\n".join(
        (
            figure("learning_rate_transfer", draw, len(names), result),
            table(["", "octaves between the lowest and the highest best rate"], spread),
            table(head, rows),
        )
    )


def ablations(result: dict[str, Any]) -> str:
    rows = [
        [
            row["change"],
            f"{row['budget_flops']:.2g}",
            f"{row['loss_nats']:.3f} ± {row['loss_sd']:.3f}",
            *(f"{row[key]:.3f}" for key in ("loss_repeated_nats", "loss_new_nats", "copy_score_nats")),
        ]
        for row in result["table"]
    ]
    head = ["change", "FLOPs", "loss ± sd over seeds", "on repeated bigrams", "on new ones", "copy score"]
    return table(head, rows)


def recipe_at_scale(result: dict[str, Any]) -> str:
    rows = [
        [
            row["label"],
            f"{row['flops']:.1e}",
            str(row["width"]),
            f"{row['num_tokens']:,}",
            f"{row['num_steps']:,}",
            f"{row['loss_nats']:.4f}",
            f"{row['against_the_recipe']:+.2%}",
        ]
        for row in result["runs"]
    ]
    head = ["one setting changed", "FLOPs", "width", "tokens", "steps", "loss", "against the recipe"]
    return "One seed each.\n\n" + table(head, rows)


def straight_law(result: dict[str, Any]) -> str:
    def draw(result: dict[str, Any], *axes: Axes) -> None:
        for fit in result["fits"]:
            label = f"from {fit['first_budget_flops']:.2g}, c = {fit['law']['c']:.2f}"
            axes[0].plot(fit["budgets_flops"], [100 * r for r in fit["residual"]], marker="o", label=label)
        noise = 100 * result["seed_noise"]
        axes[0].axhspan(-2 * noise, 2 * noise, alpha=0.1, lw=0, label="twice the noise between seeds")
        axes[0].set(xscale="log", xlabel="training FLOPs", ylabel="loss over law (%)")
        axes[0].legend(frameon=False, fontsize=7)
        runs = result["runs"]
        for key, label in (("loss_repeated_nats", "repeated bigrams"), ("loss_new_nats", "new bigrams")):
            axes[1].scatter([r["flops"] for r in runs], [r[key] for r in runs], s=12, label=label)
        axes[1].scatter([r["flops"] for r in runs], [r["loss_nats"] for r in runs], s=12, label="all tokens")
        axes[1].set(xscale="log", xlabel="training FLOPs", ylabel="loss (nats)")
        axes[1].legend(frameon=False, fontsize=7)

    rows = [
        [
            f"{r['budget_flops']:.2g}",
            str(r["width"]),
            f"{r['num_tokens']:,}",
            *(f"{r[key]:.4f}" for key in ("loss_nats", "loss_repeated_nats", "loss_new_nats", "copy_score_nats")),
            f"{r['train_seconds']:.0f}",
        ]
        for r in result["runs"]
    ]
    head = ["FLOPs", "width", "tokens", "loss", "repeated", "new", "copy score", "train s"]
    fits = [
        [
            f"{fit['first_budget_flops']:.2g}",
            f"{fit['law']['b']:.3f}",
            f"{fit['law']['c']:.2f}",
            f"{fit['largest_residual']:.2%}",
            " ".join(f"{100 * residual:+.2f}" for residual in fit["residual"]),
        ]
        for fit in result["fits"]
    ]
    return "\n\n".join(
        (
            f"Noise between seeds of one budget: {result['seed_noise']:.2%}.",
            figure("straight_law", draw, 2, result),
            table(["fitted from", "b", "c", "largest residual", "residuals by budget (%)"], fits),
            table(head, rows),
        )
    )


# ---- speed ------------------------------------------------------------------------------------


def training_speed(result: dict[str, Any]) -> str:
    parts = [f"Medians of {result['rounds']} rounds in turns; peers: {', '.join(result['peers'])}."]
    for one in result["widths"]:
        rows = [
            [row["contestant"], "failed: " + row["failed"].splitlines()[-1][:80], "", "", ""]
            if "failed" in row
            else [
                row["contestant"],
                str(row["num_threads"]),
                f"{row['tokens_per_cpu_second']:,.0f}",
                f"{row['mfu']:.0%}",
                f"{row['ours_times_as_fast']:.2f}",
            ]
            for row in one["contestants"]
        ]
        peak = one["peak_flops_per_second"] / 1e9
        head = ["contestant", "threads", "tokens per CPU second", "MFU", f"{one['ours']} is so many times as fast"]
        parts += [f"Width {one['width']}, {one['batch_rows']} rows, peak {peak:.0f} GFLOP/s:", table(head, rows)]
    return "\n\n".join(parts)


def sweep_overhead(result: dict[str, Any]) -> str:
    head = ["", "runs", "wall s", "worker seconds over training seconds", "wall over perfect packing", "idle tail"]
    rows = [
        [
            name,
            str(result[key]["num_runs"]),
            f"{result[key]['wall_seconds']:.0f}",
            f"{result[key]['worker_seconds_over_train_seconds']:.3f}",
            f"{result[key]['wall_over_perfect_packing']:.3f}",
            f"{result[key]['idle_tail_share']:.1%}",
        ]
        for key, name in (("ladder", "the default ladder's small runs"), ("tiny", "tiny runs"))
    ]
    return table(head, rows)


def cost_growth(result: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['budget_flops']:.2g}",
            str(row["width"]),
            str(row["batch_rows"]),
            "yes" if row["compiled"] else "no",
            f"{row['cpu_seconds_per_step'] * 1e3:.1f}",
            f"{row['cpu_seconds_per_flop'] * 1e12:.1f}",
        ]
        for row in result["rows"]
    ]
    growth = result["dearest_over_cheapest_from_there"]
    head = ["budget (FLOPs)", "width", "rows", "compiled", "ms a step", "CPU seconds per 1e12 FLOPs"]
    more = f" From {result['flat_from_flops']:.0e} FLOPs up the dearest costs {growth:.2f} times the cheapest."
    return f"{more.strip()}\n\n" + table(head, rows)


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "straight_law": ("Is the law straight?", straight_law),
    "rolling_forecasts": (
        "Forecasts of that ladder's larger budgets from its smaller ones",
        fit_pages.rolling_forecasts,
    ),
    "public_tables": ("Forecasts of other people's largest runs from their smaller ones", fit_pages.public_tables),
    "fit_coverage": ("How often the interval holds on planted laws", fit_pages.fit_coverage),
    "design_gain": ("What a designed ladder gains over an even one", fit_pages.design_gain),
    "fit_speed": ("Speed of the fit", fit_pages.fit_speed),
    "pass_law_simulation": ("The law of pass rates on planted worlds", pass_pages.pass_law_simulation),
    "pass_bends": ("How real ladders of pass rates stray from a line", pass_pages.pass_bends),
    "scoring_speed": ("Scoring programs beside the reference harness", scoring_pages.scoring_speed),
    "scoring_differential": ("Verdicts beside the reference harness's", scoring_pages.scoring_differential),
    "scoring_memory": ("Memory over a million programs", scoring_pages.scoring_memory),
    "sampling_speed": ("Drawing samples beside another tool", scoring_pages.sampling_speed),
    "contamination_speed": (
        "Searching the training data for what is evaluated",
        contamination_pages.contamination_speed,
    ),
    "ablations": ("What each switch of the recipe is worth", ablations),
    "recipe_at_scale": ("Is the recipe at its optimum where it was not tuned?", recipe_at_scale),
    "recipe_at_scale_wheels": ("And where forecasts lean low?", recipe_at_scale),
    "recipe_at_scale_muon": ("And with Muon?", recipe_at_scale),
    "coordinate_check": ("Sizes over width and depth", coordinate_check),
    "sweep_overhead": ("What a sweep costs beside its trainings", sweep_overhead),
    "slurm_cost": ("What a cluster costs a sweep", slurm_pages.slurm_cost),
    "slurm_drill": ("Faults injected into a sweep on a real Slurm", slurm_pages.slurm_drill),
    "tokenizing_speed": ("Preparing a corpus beside tokenizers' batch encoding", data_pages.tokenizing_speed),
    "corpus_memory": ("Memory of preparing a large corpus", data_pages.corpus_memory),
    "loader_overhead": ("What reading costs a step", data_pages.loader_overhead),
    "cost_growth": ("Cost over the ladder", cost_growth),
    "training_speed": ("Training speed beside other tools", training_speed),
    "learning_rate_transfer": ("The best learning rate over width and depth", learning_rate_transfer),
}


def main() -> None:
    parts = [
        "# Measured",
        "Made by `python -m benchmarks.pages` from `benchmarks/results/`. Do not edit: run the benchmark again.",
    ]
    for name, (title, write) in SECTIONS.items():
        path: Path = RESULTS / f"{name}.json"
        if path.exists():
            result = read_json(path)
            command = f"`python -m benchmarks.{name}` at commit {result['code']['commit'][:7]}"
            parts += [f"## {title}", f"{command} (`benchmarks/results/{name}.json`)", write(result)]
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
