"""`attnbench interference`: what an adaptation costs other targets and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from attnbench.commands.curve import DEFAULT_TASK
from attnbench.commands.evaluate import own_backbone_files
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import open_judge
from attnbench.judge.resource_cache import ResourceCache
from attnbench.records.interference import Interference, interference_of
from attnbench.records.interference_store import InterferenceStore
from attnbench.runs.chosen_tasks import choose_tasks
from attnbench.runs.events import Event
from attnbench.runs.identities import Request
from attnbench.runs.submissions import read_submissions
from attnbench.vocabulary import DeviceKind, IsolationLevel

# The folder of the records of interference, in the folder of records. No other command reads it.
FOLDER = "interference"
DEFAULT_PAIRS = 6


def interference(
    submissions: str | Path | Sequence[str | Path],
    *,
    pairs: int = DEFAULT_PAIRS,
    task: str | Path = DEFAULT_TASK,
    track: str | None = None,
    backbone: str | None = None,
    device: DeviceKind = "cpu",
    seeds: int = 1,
    isolation: IsolationLevel = "process",
    timeout: float | None = None,
    fresh: bool = False,
    data: Path | None = None,
    records: Path = Path("records"),
    on_event: Callable[[Event], None] | None = None,
) -> list[Interference]:
    """Adapt to one target and then to another, and measure what that does to either.

    The network that the first adaptation delivers is the backbone of the second. All networks are
    read out by the log-odds of a target in their outputs. Adaptations run in workers, one at a time.

    Args:
        submissions: folders, or names of shipped submissions.
        pairs: how many pairs of similar targets, and of dissimilar ones, each in both orders.
        task: the name of a task, or the path of a task file. Its targets must be among the labels of
            the backbone.
        track, backbone, device, seeds, isolation, timeout, fresh, data, records, on_event: as for
            `attnbench.evaluate`.

    Returns:
        What was measured of each submission on each backbone. Records are kept in the folder
        `interference` of the folder of records, and reused.

    Raises:
        AttnbenchError: if something cannot be run at all. If a submission fails, its result says so.
    """
    names = [submissions] if isinstance(submissions, str | Path) else list(submissions)
    chosen, rejected = read_submissions(names, {})
    if rejected:
        raise AttnbenchError(f"{rejected[0].name}: {rejected[0].reason}")
    tasks = choose_tasks([task], track, backbone)
    resources = ResourceCache(data, untrained=False)
    conditions = Conditions(
        device=device,
        isolation=isolation,
        modules=tuple(sorted({name for submission in chosen for name in submission.modules})),
        hidden=(records, *(folder for each in tasks for folder in each.folders)),
        data=data,
        backbone_files=own_backbone_files(tasks),
    )
    store = InterferenceStore(records / FOLDER)
    request = Request(device, seeds, isolation, timeout, untrained=False)
    with open_judge(conditions, resources) as judge:
        # The judge's processes are importing torch now. Import it here at the same time.
        from attnbench.runs.interference_runs import make_interference_records
        from attnbench.runs.planning import make_plans

        made = make_interference_records(
            make_plans(chosen, tasks, request, resources),
            judge,
            store,
            pairs=pairs,
            fresh=fresh,
            report=on_event or _ignore,
        )
    return interference_of(made)


def _ignore(event: Event) -> None:
    """Show nothing of a run's events."""
