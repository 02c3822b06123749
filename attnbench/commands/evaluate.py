"""`attnbench evaluate`: from submissions and tasks to records, and to a row for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.engines.engine import Engine
from attnbench.engines.registry import create_engine
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.resource_cache import ResourceCache
from attnbench.runs.events import Event
from attnbench.runs.submissions import read_submissions
from attnbench.vocabulary import DeviceKind, EngineName, IsolationLevel, TrackName

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    submissions: Sequence[str | Path],
    *,
    track: TrackName = "mini",
    tasks: Sequence[str] | None = None,
    backbone: str | None = None,
    device: DeviceKind = "cpu",
    seeds: int = 1,
    engine: EngineName | Engine = "local",
    workers: int | None = None,
    address: str | None = None,
    isolation: IsolationLevel = "process",
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
        tasks: names of tasks. By default every task that has this track.
        backbone: a backbone to use instead of the track's own.
        device: `cpu` or `cuda`.
        seeds: the number of seeds, counted from 0.
        engine: what runs the episodes: `local`, `ray`, `slurm`, or an `Engine`.
        workers: how many episodes run at a time. By default one per device of the engine. Times of
            episodes that share a CPU are marked (`contended`) and excluded from the leaderboard.
        address: the address of a Ray cluster; `local` runs Slurm's array tasks on this machine.
        isolation: `process` or `bwrap`, see docs/trust.md.
        timeout: seconds for one adaptation. By default the track's.
        fresh: run again what is recorded already.
        timing_only: only time recorded episodes again that were contended, one at a time.
        data: a folder whose sub-folders replace data sets of the hub.
        records: the folder for records.
        untrained: leave the backbones' weights as initialised (for counting and timing).
        on_event: called with each event of the run.

    Returns:
        A row per submission x task x track x backbone x seed, with the columns of
        `attnbench.records.rows.COLUMNS`.

    Raises:
        AttnbenchError: if something cannot be run at all. A submission that fails is a row instead.
    """
    if timing_only and device == "cpu" and workers not in (None, 1):
        raise AttnbenchError("--timing-only times one episode at a time: leave out --workers")
    chosen, rejected = read_submissions(submissions)
    resources = ResourceCache(data, untrained=untrained)
    conditions = Conditions(
        device=device,
        isolation=isolation,
        modules=tuple(sorted({name for submission in chosen for name in submission.modules})),
        hidden=(records,),
        data=data,
        untrained=untrained,
        workers=workers,
    )
    if isinstance(engine, str):
        folder = records / ".engine"
        engine = create_engine(engine, address=address, folder=folder, resources=resources)
    with engine.open(conditions) as run_jobs:
        # The engine's processes are importing torch by now. Import it here at the same time.
        import pandas as pd

        from attnbench.records.rows import COLUMNS
        from attnbench.runs.planning import Request, make_plans, rows_of_rejected
        from attnbench.runs.record_writer import make_records
        from attnbench.runs.retiming import retime_records
        from attnbench.runs.status_file import StatusFile

        request = Request(track, tasks, backbone, device, seeds, isolation, timeout, untrained)
        plans = make_plans(chosen, request, resources)
        failures = rows_of_rejected(rejected, request)
        names = [submission.name for submission in chosen]
        with StatusFile(records, type(engine).__name__.lower(), names) as status:

            def report(event: Event) -> None:
                status.update(event)
                if on_event is not None:
                    on_event(event)

            if timing_only:
                rows = retime_records(plans, run_jobs, records, report=report)
            else:
                rows = make_records(plans, run_jobs, records, fresh=fresh, report=report)
        return pd.DataFrame([*rows, *failures], columns=list(COLUMNS))
