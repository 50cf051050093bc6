"""The sections of docs/measured.md about sweeps on a cluster."""

from typing import Any

from benchmarks.drawing import table

DRILL_HEAD = ["", "at s", "fault", "hit", "made again", "until it went on", "outcome"]


def slurm_drill(result: dict[str, Any]) -> str:
    lost, different, wrong = (len(result[name]) for name in ("lost", "different", "wrong_records"))
    intro = (
        f"{result['faults']} faults in {result['seconds'] / 60:.0f} minutes, {result['in_the_target']} of them in the"
        f" target; {result['runs']} runs of {result['steps']:,} steps in all, begun {result['starts']} times."
        f" Runs lost: {lost}. Results that differ from the undisturbed sweep's (evaluations, each step's"
        f" loss, forecast, verdict): {different}. Steps kept twice or missing, runs finished twice:"
        f" {wrong}. The seal: {result['verdict']}. Steps made again from the last checkpoint, saved every"
        f" second: {result['steps_made_again']:,}. Submissions: {result['submissions']}, of which a person had to make"
        f" {1 + result['relaunches']}. Two processes at work in one run side by side: for"
        f" {result['longest_side_by_side_seconds']:.1f} s at most."
    )
    left_out = f"Left out without root: {', '.join(result['left_out'])}." if result["left_out"] else ""
    kinds = table(["fault", "how often"], [[name, str(number)] for name, number in result["by_kind"].items()])
    outcomes = table(["outcome", "how often"], [[name, str(number)] for name, number in result["by_outcome"].items()])
    parts = [intro, left_out, kinds, outcomes, table(DRILL_HEAD, result["rows"])]
    return "\n\n".join(part for part in parts if part)


def slurm_cost(result: dict[str, Any]) -> str:
    """Plan, submission and status of a large sweep, and what an element adds to its runs."""
    steps = [
        [name, f"{found['seconds']:.1f}", f"{found['cpu_seconds']:.1f}", f"{found['peak_mib']:.0f}"]
        for name in ("plan", "submit", "status")
        for found in [result[name]]
    ]
    rounds = [[f"{one['pool_seconds']:.1f}", f"{one['element_seconds']:.0f}"] for one in result["rounds"]]
    return "\n\n".join(
        [
            f"{result['runs']:,} runs, half of them made to look finished, in {result['elements']} elements:",
            table(["", "wall seconds", "CPU seconds", "peak MiB"], steps),
            f"{result['rounds'][0]['runs']} small runs, one at a time; an element takes"
            f" {result['overhead_seconds_per_run']:.2f} s a run longer (median):",
            table(["this machine's pool, s", "as an element, s"], rounds),
        ]
    )
