"""`attnbench.evaluate`: from submissions and tasks to records, and to a row for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.engines.engine import Conditions, Device, Engine, engine_named
from attnbench.errors import AttnbenchError
from attnbench.evaluation.isolation import Isolation
from attnbench.materials import Materials
from attnbench.runs.events import Event

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    submissions: Sequence[str | Path],
    *,
    track: str = "mini",
    tasks: Sequence[str] | None = None,
    backbone: str | None = None,
    device: Device = "cpu",
    seeds: int = 1,
    engine: str | Engine = "local",
    workers: int | None = None,
    address: str | None = None,
    isolation: Isolation = "process",
    timeout: float | None = None,
    fresh: bool = False,
    timing_only: bool = False,
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
        engine: what runs the episodes: `local`, `ray`, `slurm`, or an `Engine` of one's own.
        workers: how many episodes run at a time; by default what the engine has devices for. Where
            several share a processor their times rank nobody (`contended` in the record).
        address: of a Ray cluster; `local` runs Slurm's tasks on this machine.
        isolation: `process` or `bwrap`, see docs/trust.md.
        timeout: seconds for one adaptation; by default the track's.
        fresh: run again what is already in `records`.
        timing_only: time those recorded episodes once more, alone, that were contended.
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
    if timing_only and device == "cpu" and workers not in (None, 1):
        raise AttnbenchError("--timing-only times one episode at a time: leave out --workers")
    materials = Materials(data, untrained=untrained)
    conditions = Conditions(device, isolation, (records,), data, untrained, workers)
    if isinstance(engine, str):
        folder = records / ".engine"
        engine = engine_named(engine, address=address, folder=folder, materials=materials)
    with engine.open(conditions) as run:
        # Torch is imported here and by the engine's processes at the same time.
        import pandas as pd

        from attnbench.records.rows import COLUMNS
        from attnbench.runs import planning
        from attnbench.runs.announcing import Announcement
        from attnbench.runs.recording import make_records
        from attnbench.runs.retiming import time_records

        request = planning.Request(
            track, tasks, backbone, device, seeds, isolation, timeout, untrained
        )
        chosen, refused = planning.read_submissions(submissions)
        modules = tuple(sorted({name for each in chosen for name in each.modules}))
        plans = planning.make_plans(chosen, request, materials)
        without = planning.rows_of_refused(refused, request)
        names = [each.name for each in chosen]
        with Announcement(records, type(engine).__name__.lower(), names) as announcement:

            def tell(event: Event) -> None:
                announcement.hear(event)
                if on_event is not None:
                    on_event(event)

            if timing_only:
                rows = time_records(plans, run, records, modules=modules, tell=tell)
            else:
                rows = make_records(plans, run, records, modules=modules, fresh=fresh, tell=tell)
        return pd.DataFrame([*rows, *without], columns=list(COLUMNS))
