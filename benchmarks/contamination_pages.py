"""The section of docs/measured.md about the search of the training data."""

from typing import Any

from benchmarks.drawing import table


def contamination_speed(result: dict[str, Any]) -> str:
    rows = [[name, f"{speed:.0f}"] for name, speed in result["mb_per_s"].items()]
    rows.append(["13-grams of problems in plain Python", f"{result['plain_python']['mb_per_s']:.0f}"])
    one = result["whole"][0]
    found = (
        f"{result['megabytes']:.0f} MB of Python source. Hit: {', '.join(one['hit_problems']) or 'no problem'};"
        f" {one['hit_documents']} held-out documents, of which none that is not hit shares more than"
        f" {one['largest_fraction_without_hit']:.0%} of its 13-grams."
    )
    memory = "; ".join(
        f"{each['processes']} at once: {each['cpu_seconds']:.1f} CPU seconds in all,"
        f" {each['peak_mib_of_a_process']:.0f} MiB each, pages of the mapped stream included"
        for each in result["whole"]
    )
    return f"{found} Processes {memory}.\n\n" + table(["part, on one core", "MB/s"], rows)
