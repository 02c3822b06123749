"""`attnbench evaluate`: run submissions on tasks, write records, and return a row per record."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from attnbench.backbone_names import is_own
from attnbench.engines.engine import Engine
from attnbench.engines.registry import create_engine
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.resource_cache import ResourceCache
from attnbench.overrides import Settings
from attnbench.records.record import EpisodeResult
from attnbench.records.rows import COLUMNS
from attnbench.runs.chosen_tasks import ChosenTask, choose_tasks
from attnbench.runs.complete_runs import rows_of_complete_run
from attnbench.runs.events import Event, Noted, RecordWritten
from attnbench.runs.identities import Request
from attnbench.runs.submissions import read_submissions
from attnbench.submission import Submission
from attnbench.vocabulary import PUBLISHED_FOLDER, DeviceKind, EngineName, IsolationLevel

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.runs.curve_plans import Size


_Item = TypeVar("_Item")
P = ParamSpec("P")
# A folder, the name of a shipped submission, or a function like `adapt`.
Submitted = str | Path | Callable[..., object]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives.

    Attributes:
        rows: a row for each record, see `attnbench.records.rows`.
        folders: the folder of each submission, by name.
    """

    rows: list[dict[str, object]]
    folders: dict[str, str]

    @property
    def episodes(self) -> dict[int, Sequence[EpisodeResult]]:
        """The results of the chosen targets, by row number, if a row is not of all targets."""
        return {
            number: cast("Sequence[EpisodeResult]", row["episodes"])
            for number, row in enumerate(self.rows)
            if "episodes" in row
        }

    def frame(self) -> pd.DataFrame:
        """Return the rows as a data frame, with the folders and the episodes in its `attrs`."""
        import pandas as pd

        frame = pd.DataFrame(self.rows, columns=list(COLUMNS))
        frame.attrs["folders"] = self.folders
        if self.episodes:
            frame.attrs["episodes"] = self.episodes
        return frame


def _as_frame(run: Callable[P, Evaluation]) -> Callable[P, pd.DataFrame]:
    """Return a function that returns the data frame of an evaluation."""

    @functools.wraps(run)
    def evaluate(*args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
        return run(*args, **kwargs).frame()

    evaluate.__name__ = evaluate.__qualname__ = "evaluate"
    return evaluate


def run_evaluation(
    submissions: Submitted | Sequence[Submitted],
    *,
    track: str | Sequence[str] | None = None,
    tasks: str | Path | Sequence[str | Path] | None = None,
    targets: Sequence[str] | None = None,
    backbone: str | None = None,
    settings: Settings | None = None,
    device: DeviceKind = "cpu",
    seeds: int = 1,
    engine: EngineName | Engine = "local",
    workers: int | None = None,
    address: str | None = None,
    isolation: IsolationLevel = "process",
    timeout: float | None = None,
    fresh: bool = False,
    keep_going: bool = False,
    retry_failed: bool = True,
    timing_only: bool = False,
    data: Path | None = None,
    records: Path = Path("records"),
    untrained: bool = False,
    sizes: Sequence[Size] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Evaluation:
    """Run submissions on tasks, write a record for each, and return a row for each.

    Args:
        submissions: folders, or names of shipped submissions; one or several. Functions like `adapt`
            are accepted too. They run in this process, without isolation and without records, and
            exceptions that they raise are not caught. For them, only `track`, `tasks`, `targets`,
            `backbone`, `device`, `seeds`, `data`, `untrained` and `on_event` have an effect.
        track: `mini`, `small`, `full`, or a track of a task file; one or several. By default `mini`,
            or the only track of a task that has no `mini`.
        tasks: names of tasks, or paths of task files; one or several. By default every task that has
            the track.
        targets: run only these targets. A record is written once all of its targets have run; until
            then its finished episodes are kept, and its row has no path.
        backbone: a backbone to use instead of the track's own; see `attnbench.backbones.load`.
        settings: hyperparameters to override, by name: a value, or several values to run one after
            the other. Each combination is a submission named after it, such as
            `attention-intensity-0.3`.
        device: `cpu` or `cuda`.
        seeds: the number of seeds, counted from 0.
        engine: what runs the episodes: `local`, `ray`, `slurm`, or an `Engine`.
        workers: how many episodes run at a time. By default one per device of the engine. Times of
            episodes that share a CPU are marked (`contended`) and excluded from the leaderboard.
        address: the address of a Ray cluster; `local` runs Slurm's array tasks on this machine.
        isolation: `process` or `bwrap`, see docs/trust.md.
        timeout: seconds for one adaptation. By default the track's.
        fresh: whether to make existing records again, or the given targets of them.
        keep_going: whether to run all targets of a record, even if its first two fail alike.
        retry_failed: whether failed episodes of existing records run again.
        timing_only: whether to only time the contended episodes of existing records again, one at a
            time.
        data: a folder whose sub-folders replace data sets of the hub.
        records: the folder for records.
        untrained: whether to leave the backbones' weights as initialised, for counting and timing.
        sizes: makes the records of learning curves instead: the numbers of positives to adapt on, see
            `attnbench.runs.curve_plans.plans_of_curve`.
        on_event: called with each event of the run.

    Returns:
        A row per submission x task x track x backbone x seed, with the columns of
        `attnbench.records.rows.COLUMNS`. With `targets`, a row covers these targets only.
        `attrs["folders"]` has the folder of each submission, by name, and `attrs["episodes"]` the
        results of `targets`, by row number.

    Raises:
        AttnbenchError: if something cannot be run at all. If a submission fails, its row says so.
    """
    listed = _as_list(submissions)
    functions = [each for each in listed if callable(each)]
    if functions:
        if len(functions) < len(listed):
            raise AttnbenchError(
                "evaluate functions and submissions in separate calls, and join the results with "
                "pandas.concat"
            )
        from attnbench.commands.evaluate_functions import evaluate_functions

        rows = evaluate_functions(
            functions,
            choose_tasks(_as_list(tasks) or None, track, backbone),
            targets=targets,
            device=device,
            seeds=seeds,
            data=data,
            untrained=untrained,
            report=on_event or _ignore,
        )
        return _evaluation(rows, ())
    if timing_only:
        _require_timing_options(device, workers, targets)
    _require_own_records(records)
    names = [each for each in listed if isinstance(each, str | Path)]
    chosen, rejected = read_submissions(names, settings or {})
    chosen_tasks = choose_tasks(_as_list(tasks) or None, track, backbone)
    unused = _options_without_effect(chosen_tasks, data=data, address=address, engine=engine)
    request = Request(device, seeds, isolation, timeout, untrained)
    if not (fresh or timing_only or targets or rejected or sizes is not None):
        complete = rows_of_complete_run(
            chosen,
            chosen_tasks,
            request,
            records,
            retry_failed=retry_failed,
            report=on_event or _ignore,
        )
        if complete is not None:
            return _evaluation(complete, chosen)
    resources = ResourceCache(data, untrained=untrained)
    conditions = Conditions(
        device=device,
        isolation=isolation,
        modules=tuple(sorted({name for submission in chosen for name in submission.modules})),
        hidden=(records, *(folder for task in chosen_tasks for folder in task.folders)),
        data=data,
        backbone_files=own_backbone_files(chosen_tasks),
        untrained=untrained,
        workers=workers,
    )
    can_retime = engine == "local" and workers in (None, 1)
    if isinstance(engine, str):
        folder = records / ".engine"
        engine = create_engine(engine, address=address, folder=folder, resources=resources)
    with engine.open(conditions) as run_jobs:
        # The engine's processes are importing torch now. Import it here at the same time.
        from attnbench.runs.chosen_targets import choose_targets
        from attnbench.runs.curve_plans import plans_of_curve
        from attnbench.runs.planning import make_plans, notes_of, rows_of_rejected
        from attnbench.runs.record_writer import make_records
        from attnbench.runs.retiming import retime_if_quiet, retime_records
        from attnbench.runs.status_file import StatusFile

        chosen_tasks, left_out = choose_targets(chosen_tasks, targets, resources)
        plans = make_plans(chosen, chosen_tasks, request, resources)
        if sizes is not None:
            plans = plans_of_curve(plans, sizes, resources)
        failures = rows_of_rejected(rejected, chosen_tasks, request)
        run_names = [submission.name for submission in chosen]
        written: set[Path] = set()
        with StatusFile(records, type(engine).__name__.lower(), run_names) as status:

            def report(event: Event) -> None:
                status.update(event)
                if isinstance(event, RecordWritten):
                    written.add(event.path)
                if on_event is not None:
                    on_event(event)

            for note in [*unused, *left_out, *notes_of(chosen_tasks, seeds, resources)]:
                report(Noted(note))
            if timing_only:
                rows = retime_records(plans, run_jobs, records, report=report)
            else:
                rows = make_records(
                    plans,
                    run_jobs,
                    records,
                    fresh=fresh,
                    keep_going=keep_going,
                    retry_failed=retry_failed,
                    report=report,
                )
                if can_retime:
                    rows = retime_if_quiet(
                        plans, rows, run_jobs, records, written=written, report=report
                    )
        return _evaluation([*rows, *failures], chosen)


def _require_timing_options(
    device: DeviceKind, workers: int | None, targets: Sequence[str] | None
) -> None:
    """Raise AttnbenchError for options that contradict `timing_only`."""
    if device == "cpu" and workers not in (None, 1):
        raise AttnbenchError("--timing-only times one episode at a time: leave out --workers")
    if targets is not None:
        raise AttnbenchError("--timing-only times all targets of a record: leave out --target")


def _require_own_records(records: Path) -> None:
    """Raise AttnbenchError for the folder of published records."""
    if records.resolve() == Path(PUBLISHED_FOLDER).resolve():
        raise AttnbenchError(
            f"{records} holds published records, which a run does not write; choose another folder. "
            "`attnbench publish` copies your records there"
        )


def _evaluation(rows: Sequence[dict[str, object]], submissions: Sequence[Submission]) -> Evaluation:
    return Evaluation(list(rows), {sub.name: str(sub.folder.absolute()) for sub in submissions})


# The function that users call. The command line uses `run_evaluation`, since importing pandas takes
# a good part of the time of a run that has nothing to do.
evaluate = _as_frame(run_evaluation)


def _as_list(value: _Item | Sequence[_Item] | None) -> list[_Item]:
    """Return one value or several as a list; an empty list for None."""
    if value is None:
        return []
    is_several = isinstance(value, Sequence) and not isinstance(value, str)
    return list(cast("Sequence[_Item]", value)) if is_several else [cast("_Item", value)]


def _ignore(event: Event) -> None:
    """Show nothing of a run's events."""


def own_backbone_files(tasks: Sequence[ChosenTask]) -> tuple[Path, ...]:
    """Return the files of the user's own backbones, which the fork server must read."""
    names = {name for task in tasks for name in task.backbones}
    own = sorted(filter(is_own, names))
    if not own:
        return ()  # without importing torch
    from attnbench.backbones.own_file import files_of

    return tuple(file for name in own for file in files_of(name))


def _options_without_effect(
    tasks: Sequence[ChosenTask],
    *,
    data: Path | None,
    address: str | None,
    engine: EngineName | Engine,
) -> list[str]:
    """Return a note for each option that changes nothing in this run."""
    notes = []
    if data is not None and not any(task.uses_data_folder for task in tasks):
        what = (
            "no task of this run reads the data folder" if data.is_dir() else "it is not a folder"
        )
        notes.append(f"--data {data} has no effect: {what}")
    if address is not None and engine == "local":
        notes.append(f"--address {address} has no effect with the local engine")
    return notes
