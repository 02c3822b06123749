"""`attnbench.evaluate` of Python functions: in this process, without isolation or records."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.backbones.backbone import Backbone
from attnbench.commands.in_process import Adapt, adapt_in_process
from attnbench.devices import require_device
from attnbench.errors import NotApplicable
from attnbench.judge.resource_cache import ResourceCache
from attnbench.records.record import EpisodeResult
from attnbench.records.rows import COLUMNS
from attnbench.records.summary import overall, summarise
from attnbench.runs.chosen_targets import choose_targets
from attnbench.runs.chosen_tasks import ChosenTask
from attnbench.runs.events import EpisodeDone, EpisodeStarted, Event, Noted, Planned
from attnbench.stimuli.adaptation_images import shared_definition
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.vocabulary import DeviceKind


@dataclass(frozen=True, eq=False)  # a key of dictionaries by identity: networks have no equality
class _Run:
    """All episodes of a function on one task and backbone with one seed: a row."""

    function: Adapt
    chosen: ChosenTask
    backbone: Backbone
    stimuli: TrackStimuli
    seed: int

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def targets(self) -> tuple[str, ...]:
        return self.chosen.targets or self.stimuli.targets

    @property
    def adaptation(self) -> tuple[object, ...]:
        """What its adaptations depend on. Runs in which this is equal share them."""
        shared = shared_definition(self.chosen.definition)
        return id(self.function), self.backbone.name, self.seed, shared

    def row(self, results: Sequence[EpisodeResult], device: DeviceKind) -> dict[str, object]:
        """Return the row of all results."""
        status, reason = overall(results)
        row = dict.fromkeys(COLUMNS) | {
            "submission": self.name,
            "task": self.chosen.task.name,
            "track": self.chosen.track,
            "backbone": self.backbone.name,
            "seed": self.seed,
            "device": device,
            "status": status,
            "reason": reason,
            "isolation": "none",
        }
        summary = summarise(results).model_dump()
        return row | {name: summary[name] for name in COLUMNS if name in summary}


def evaluate_functions(
    functions: Sequence[Adapt],
    tasks: Sequence[ChosenTask],
    *,
    targets: Sequence[str] | None,
    device: DeviceKind,
    seeds: int,
    data: Path | None,
    untrained: bool,
    report: Callable[[Event], None],
) -> list[dict[str, object]]:
    """Run functions like `adapt` on tasks, and return a row for each function, task and seed.

    Args:
        functions: the methods. A row's `submission` is the function's name.
        tasks: the tasks to run them on.
        targets, device, seeds, data, untrained: as for `attnbench.evaluate`.
        report: called with each event.

    Returns:
        Rows as in `attnbench.records.rows`. Their `isolation` is "none", their `record` None.

    Raises:
        Exception: whatever a function raises, except `NotApplicable`.
    """
    require_device(device)
    resources = ResourceCache(data, untrained=untrained)
    tasks, left_out = choose_targets(tasks, targets, resources)
    for note in left_out:
        report(Noted(note))
    runs = list(_runs(functions, tasks, resources, device, seeds))
    counts: dict[str, int] = {}
    for run in runs:
        task = run.chosen.task.name
        counts[task] = counts.get(task, 0) + len(run.targets)
    report(Planned(counts, reused=()))
    total, done = sum(counts.values()), itertools.count(1)
    groups: dict[tuple[object, ...], list[_Run]] = defaultdict(list)
    for run in runs:
        groups[run.adaptation].append(run)
    results: dict[_Run, list[EpisodeResult]] = {run: [] for run in runs}
    for group in groups.values():
        for target in dict.fromkeys(itertools.chain(*(run.targets for run in group))):
            tested = [run for run in group if target in run.targets]
            for run in tested:
                report(EpisodeStarted(run.name, run.chosen.task.name, target))
            for run, result in zip(tested, _results(tested, target), strict=True):
                results[run].append(result)
                ended = (result.status, result.reason, next(done), total)
                report(EpisodeDone(run.name, run.chosen.task.name, target, *ended))
    return [run.row(results[run], device) for run in runs]


def _results(runs: Sequence[_Run], target: str) -> Iterator[EpisodeResult]:
    """Adapt once to a target, and yield the result of each of several runs that share this."""
    episodes = [run.stimuli.episode(target, run.seed) for run in runs]
    try:
        adaptation = adapt_in_process(runs[0].function, runs[0].backbone, episodes[0], {})
    except NotApplicable as refusal:
        for episode in episodes:
            yield EpisodeResult(
                target=target,
                status="not applicable",
                reason=str(refusal)[:1000],
                images_sha256=episode.fingerprint,
            )
    else:
        for episode in episodes:
            yield adaptation.test(episode).result


def _runs(
    functions: Sequence[Adapt],
    tasks: Sequence[ChosenTask],
    resources: ResourceCache,
    device: DeviceKind,
    seeds: int,
) -> Iterator[_Run]:
    for chosen in tasks:
        for name in chosen.backbones:
            stimuli = resources.stimuli(chosen.definition, name)
            stimuli.check(range(seeds))
            backbone = resources.backbone(name).to(device)
            for function, seed in itertools.product(functions, range(seeds)):
                yield _Run(function, chosen, backbone, stimuli, seed)
