"""How much memory does preparing a large corpus take? Synthetic documents of the size that is asked for, in GB.

    python -m benchmarks.corpus_memory [--gigabytes 1] [--workers 1] [--folder FOLDER]

Proportional set size of all its processes together (shared pages count once), sampled twice a second; what the kernel
keeps of files in its cache is not in it, as it gives that back when it is asked.
"""

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.study import write_result
from sweep.data import prepare_corpus
from sweep.data_spec import DataSpec, SourceSpec

NUM_WORDS, LINE_WORDS, DOCUMENT_LINES, FILE_BYTES = 50_000, 9, 80, 100_000_000
LIMIT_BYTES = 2e9


def write_documents(folder: Path, num_bytes: int) -> int:
    """Parquet files of documents of words with Zipf's frequencies, of 20,000 repositories; returns their bytes."""
    import pyarrow
    import pyarrow.parquet

    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz_"))
    words = np.array(["".join(random.choice(letters, 2 + int(random.geometric(0.2)))) for _ in range(NUM_WORDS)])
    odds = np.cumsum(1 / np.arange(1, NUM_WORDS + 1))
    total, number = 0, 0
    while total < num_bytes:
        texts: list[str] = []
        in_file = 0
        while in_file < min(FILE_BYTES, num_bytes - total):
            drawn = words[np.searchsorted(odds, odds[-1] * random.random((DOCUMENT_LINES, LINE_WORDS)))]
            texts.append("\n".join(" ".join(line) for line in drawn.tolist()))
            in_file += len(texts[-1])
        groups = [f"repo{n}" for n in random.integers(0, 20_000, len(texts))]
        table = pyarrow.table({"text": texts, "repo": groups})
        pyarrow.parquet.write_table(table, folder / f"{number:05}.parquet", row_group_size=1000)
        total, number = total + in_file, number + 1
    return total


def family(pid: str) -> Iterator[str]:
    """A process and all its descendants."""
    yield pid
    try:
        children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return
    for child in children.split():
        yield from family(child)


def memory_bytes() -> int:
    total = 0
    for pid in family("self"):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # ended meanwhile
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus_memory")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where there is room for four times as much")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        (folder / "documents").mkdir()
        num_bytes = write_documents(folder / "documents", int(asked.gigabytes * 1e9))
        peak, ended = [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.5):
                peak[0] = max(peak[0], memory_bytes())

        source = SourceSpec("synthetic", "files", paths=[str(folder / "documents")], group_column="repo")
        spec = DataSpec(
            sources=[source],
            held_out_groups=[],
            held_out_fraction=0.01,
            max_shared_line_fraction=0.5,
            line_table_bytes=1 << 29,
            vocab_size=1024,
            tokenizer="trained",
            end_of_document=None,
            tokenizer_bytes=4_000_000,
            shuffle_seed=0,
            micro_fraction=0.0,
        )
        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.monotonic()
        try:
            corpus = prepare_corpus(spec, folder, asked.workers)
        finally:
            ended.set()
            watcher.join()
        seconds = time.monotonic() - start
    finally:
        shutil.rmtree(folder)
    found = {
        "bytes": num_bytes,
        "workers": asked.workers,
        "documents": corpus.info["train"]["documents"] + corpus.info["held_out"]["documents"],
        "tokens": corpus.info["train"]["tokens"] + corpus.info["held_out"]["tokens"],
        "near_duplicates": corpus.info["near_duplicates"],
        "seconds": seconds,
        "peak_memory_bytes": peak[0],
        "limit_bytes": LIMIT_BYTES,
    }
    write_result("corpus_memory", found)
    print(found)
    if peak[0] > LIMIT_BYTES:
        raise SystemExit(f"FAILED: {peak[0] / 1e9:.2f} GB, more than {LIMIT_BYTES / 1e9:g}")


if __name__ == "__main__":
    main()
