"""Contamination: what was found in the training data of what is evaluated, and which numbers rest on it.

    python -m sweep.contamination sweeps/NAME [--json]

Launch searches once, before anything is trained, and writes contamination.json (``sweep/search/hits.py`` says what is
a hit).

Of a number with the hits and the number without them the worse is quoted: the lower pass rate and the higher loss, as
in OpenAI 2023, "GPT-4 technical report", section 4 ("we run a variant with these questions removed and report the
lower score of the two"). A forecast is judged on the number that was forecast, with the hits.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from sweep.errors import CorruptFile, SweepError, run_main
from sweep.folder import SweepFolder, open_sweep, read_json, sha256_of


def read_contamination(folder: SweepFolder) -> dict[str, Any] | None:
    """What was found; None where nothing was searched, as in older sweeps.

    Raises:
        SweepError: the file is damaged.
    """
    if not folder.contamination.exists():
        return None
    try:
        return read_json(folder.contamination)
    except CorruptFile as error:
        raise SweepError(
            str(error),
            "contamination.json as it was written",
            "before the seal: launch again, it is made anew; after the seal: restore it from a copy",
        ) from error


def hit_tasks(contamination: dict[str, Any] | None) -> frozenset[str]:
    """The problems that stand in the training data."""
    return frozenset(row["task_id"] for row in (contamination or {"problem_rows": []})["problem_rows"] if row["hit"])


def held_out_sha256(contamination: dict[str, Any]) -> str:
    """Hash of the search of the held-out text: it depends on the corpus and the methods, not on the problems."""
    return sha256_of([contamination["corpus_sha256"], contamination["held_out"]])


def clean_loss_of(evaluated: dict[str, Any], contamination: dict[str, Any] | None) -> float | None:
    """The loss of an eval.json without hits; None if it was measured by another search than this one, or none."""
    if contamination is None or evaluated.get("searched_sha256") != held_out_sha256(contamination):
        return None
    return evaluated["clean_loss_nats"]


def contamination_counts(contamination: dict[str, Any] | None) -> dict[str, int] | None:
    """What a seal says of it; None where nothing was searched."""
    if contamination is None:
        return None
    held_out = contamination["held_out"]
    return {
        "problems": len(contamination["problem_rows"]),
        "hit_problems": len(hit_tasks(contamination)),
        "held_out_documents": held_out["num_documents"],
        "hit_held_out_documents": len(held_out["hit_documents"]),
        "hit_held_out_tokens": held_out["hit_tokens"],
    }


def contamination_summary(contamination: dict[str, Any] | None) -> list[str]:
    """What was found in a sentence on the problems, if there are any, and one on the held-out text."""
    counts = contamination_counts(contamination)
    if contamination is None or counts is None:
        return ["the training data was not searched for what is evaluated"]
    methods, held_out = contamination["methods"], contamination["held_out"]
    lines = []
    if counts["problems"]:
        rule = (
            "docstring and solution byte for byte"
            if methods["literal_problems"]
            else f"by a {methods['ngram_words']}-gram or {methods['substring_characters']} characters"
        )
        lines.append(
            f"{_of(counts['hit_problems'], counts['problems'])} problems ({contamination['problems']}) stand in the"
            f" training data, {rule}{_some(sorted(hit_tasks(contamination)))}"
        )
    with_tokens = (
        f" with {held_out['hit_tokens']:,} of {held_out['num_tokens']:,} tokens" if held_out["hit_tokens"] else ""
    )
    lines.append(
        f"{_of(counts['hit_held_out_documents'], counts['held_out_documents'])} held-out documents{with_tokens} stand"
        f" in the training data, by {methods['held_out_ngram_fraction']:.0%} of their {methods['ngram_words']}-grams or"
        f" a Jaccard index of {methods['held_out_similarity']:g} with one training document; the others share at most"
        f" {held_out['largest_fraction_without_hit']:.0%} of theirs"
    )
    return lines


def _of(hits: int, total: int) -> str:
    return f"{hits or 'none'} of {total}"


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f": {', '.join(names[:most])}{more}" if names else ""


def contamination_rows(contamination: dict[str, Any]) -> list[tuple[str, ...]]:
    """A line of text for each hit: what is hit, by what, and the training document where it stands."""
    rows: list[tuple[str, ...]] = []
    for row in contamination["problem_rows"]:
        if row["hit"]:
            by = (
                f"{row['ngram_hits']} of {row['ngrams']} n-grams,"
                f" {row['substring_hits']} of {row['substrings']} substrings"
                if "ngrams" in row
                else "docstring and solution"
            )
            rows.append((row["task_id"], by, row["document_name"]))
    for row in contamination["held_out"]["hit_documents"]:
        near = f", Jaccard index {row['similarity']:.2f}" if row["similarity"] else ""
        by = f"{row['ngram_fraction']:.0%} of its n-grams{near}"
        rows.append((f"held-out {row['name']}", by, row["near_duplicate_name"] or ""))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sweep.contamination", description="What is evaluated and stands in the training data."
    )
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    parser.add_argument("--json", action="store_true", help="print contamination.json")
    options = parser.parse_args()
    contamination = read_contamination(open_sweep(options.sweep))
    if options.json:
        print(json.dumps(contamination, indent=1, allow_nan=False))
        return 0
    for line in contamination_summary(contamination):
        print(line)
    for cells in contamination_rows(contamination) if contamination else []:
        print("  " + "  ".join(cells))
    return 0


if __name__ == "__main__":
    run_main(main)
