"""`attnbench.evaluate`: from submissions and tasks to records, and to a row for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.evaluation.isolation import Isolation
from attnbench.evaluation.warm import Template
from attnbench.events import Event

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    submissions: Sequence[str | Path],
    *,
    track: str = "mini",
    tasks: Sequence[str] | None = None,
    backbone: str | None = None,
    device: str = "cpu",
    seeds: int = 1,
    isolation: Isolation = "process",
    timeout: float | None = None,
    fresh: bool = False,
    data: Path | None = None,
    records: Path = Path("records"),
    untrained: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> pd.DataFrame:
    """Run submissions on tasks, write a record for each, and return a row for each.

    Args:
        submissions: folders, or names of shipped submissions.
        track: `mini`, `small` or `full`.
        tasks: names of tasks; by default every task that has this track.
        backbone: one backbone in place of the track's own.
        device: `cpu` or `cuda`.
        seeds: how many seeds, counted from 0.
        isolation: `process` or `bwrap`, see docs/trust.md.
        timeout: seconds for one adaptation; by default the track's.
        fresh: run again what is already in `records`.
        data: a folder whose sub-folders stand in for hub datasets.
        records: where records are kept.
        untrained: use the backbones' untrained weights (for counting and timing).
        on_event: told what happens while it happens.

    Returns:
        A row per submission x task x track x backbone x seed with the columns of
        `attnbench.records.rows.COLUMNS`.

    Raises:
        AttnbenchError: for what cannot be run at all. A submission's failure is a row, no exception.
    """
    hidden = [records] if data is None else [records, data]
    with Template(isolation, hidden=hidden, data=data) as template:
        # Torch is imported here and there at the same time.
        import pandas as pd

        from attnbench import planning
        from attnbench.recording import make_records
        from attnbench.records.rows import COLUMNS

        request = planning.Request(
            track, tasks, backbone, device, seeds, isolation, timeout, data, untrained
        )
        chosen, refused = planning.read_submissions(submissions)
        template.import_modules(name for each in chosen for name in each.modules)
        plans = planning.make_plans(chosen, request)
        without = planning.rows_of_refused(refused, request)
        rows = make_records(plans, template, records, fresh=fresh, tell=on_event or _unheard)
        return pd.DataFrame([*rows, *without], columns=list(COLUMNS))


def _unheard(event: Event) -> None:
    """Tells nobody."""
