"""The sections of docs/measured.md about corpora."""

from typing import Any

from benchmarks.drawing import table


def tokenizing_speed(result: dict[str, Any]) -> str:
    names = {"preparation": "whole preparation", "encoding": "its encoding", "encode_batch": "`encode_batch`"}
    rows = [
        [text, f"{result['megabytes_per_cpu_second'][name]:.2f}", f"{result['of_encode_batch'].get(name, 1):.2f}"]
        for name, text in names.items()
    ]
    head = [f"{result['megabytes']:.0f} MB of Python", "MB per CPU second", "of `encode_batch`"]
    return table(head, rows)


def loader_overhead(result: dict[str, Any]) -> str:
    order, windows = (result[f"{name}_microseconds_per_step"] for name in ("order", "windows"))
    return (
        f"{order + windows:.0f} microseconds a step ({order:.0f} for its part of the order, {windows:.0f} for windows)"
        f" beside {result['step_microseconds']:,.0f} of training: {result['overhead']:.2%}, in the smallest run of the"
        f" default ladder ({result['num_steps']} steps of {result['batch_rows']} windows)."
    )


def corpus_memory(result: dict[str, Any]) -> str:
    return (
        f"{result['bytes'] / 1e9:.1f} GB of synthetic text, {result['documents']:,} documents, {result['workers']}"
        f" workers: {result['tokens']:,} tokens in {result['seconds'] / 60:.0f} minutes, at most"
        f" {result['peak_memory_bytes'] / 1e9:.2f} GB of memory (limit {result['limit_bytes'] / 1e9:g} GB)."
    )
