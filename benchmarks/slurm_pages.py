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
