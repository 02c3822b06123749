"""Luo, Roads & Love (2021) beside the published records of `small`: the block "luo" of a page.

`python -m benchmarks.report` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median

from tabulate import tabulate

from attnbench.records.record import Readout, Record
from attnbench.records.store import RecordStore
from attnbench.statistics.detection import d_prime, pool
from attnbench.statistics.measures import Counts

TRACK, READOUT = "small", "argmax-all"
# What the paper calls them, and the submission that does the same.
METHODS = {
    "baseline": "none",
    "attention": "attention_as_published",
    "retrained last layer": "last_layer",
}
# d' as median over the 200 classes, and from rates pooled over classes. Recomputed from the rates that
# the authors released, with their correction; they released no rates of attention on ImageNet-A.
RELEASED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "imagenet-standard": {
        "baseline": (3.43, 3.95),
        "attention": (4.20, 3.80),
        "retrained last layer": (4.06, 3.79),
    },
    "alpha-blend": {
        "baseline": (3.20, 2.16),
        "attention": (3.73, 1.82),
        "retrained last layer": (1.66, 1.30),
    },
    "imagenet-a": {"retrained last layer": (1.19, 1.20)},
}


def table(records: Path) -> str:
    """Return both as a table in Markdown: median and pooled d', at the arg-max of all outputs.

    Args:
        records: the folder of records.
    """
    by_name = {
        (record.identity.task, record.identity.submission): record
        for _, record in RecordStore(records).load_all()[0]
        if record.identity.track == TRACK and record.identity.seed == 0 and record.status == "ok"
    }
    rows = []
    for task, released in RELEASED.items():
        for method, submission in METHODS.items():
            record = by_name.get((task, submission))
            ours = None if record is None else _ours(record)
            rows.append((task, method, *_cells(released.get(method)), *_cells(ours)))
    headers = ("task", "method", "released: median", "pooled", "ours: median", "pooled")
    align = ("left", "left", *["right"] * 4)
    return tabulate(rows, headers, "github", colalign=align, disable_numparse=True)


def _ours(record: Record) -> tuple[float, float] | None:
    """Return the median d' over targets, and d' from pooled counts; None without the read-out."""
    found: list[Readout] = [
        episode.readouts[READOUT] for episode in record.episodes if READOUT in episode.readouts
    ]
    if len(found) < len(record.episodes):
        return None
    counts = [Counts(r.hits, r.positives, r.false_alarms, r.negatives) for r in found]
    return median(each.d_prime for each in found), d_prime(pool(counts))


def _cells(values: tuple[float, float] | None) -> tuple[str, str]:
    return ("–", "–") if values is None else (f"{values[0]:.2f}", f"{values[1]:.2f}")
