"""Making the records of interference: finished adaptations are kept, missing ones are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attnbench.judge.environment import describe_environment
from attnbench.judge.judge import Judge
from attnbench.judge.sequential import SequentialAdaptations, pairs_of_targets
from attnbench.records.interference import Alone, InSequence, InterferenceRecord, Pair
from attnbench.records.interference_store import InterferenceStore
from attnbench.records.record import Identity
from attnbench.runs.events import Event, RecordWritten
from attnbench.runs.planning import Plan
from attnbench.runs.progress import Progress


def make_interference_records(
    plans: Sequence[Plan],
    judge: Judge,
    store: InterferenceStore,
    *,
    pairs: int,
    fresh: bool,
    report: Callable[[Event], None],
) -> list[InterferenceRecord]:
    """Make the records of plans, or complete them.

    A record is written after every adaptation, so an interrupted run resumes. If the first two
    adaptations of a kind fail for the same reason, the others of that kind do not run.

    Args:
        plans: the submissions, tasks, backbones and seeds, grouped by backbone.
        judge: an open judge.
        store: where the records are kept.
        pairs: how many pairs of either kind, see `pairs_of_targets`.
        fresh: whether to make existing records again.
        report: called with each event.

    Raises:
        AttnbenchError: if the pairs cannot be chosen, or a record cannot be written.
    """
    chosen: dict[tuple[str, int], tuple[Pair, ...]] = {}
    records = []
    for plan in plans:
        key = plan.backbone, plan.identity.seed
        if key not in chosen:
            backbone = judge.resources.backbone(plan.backbone)
            stimuli = judge.resources.stimuli(plan.track, plan.backbone)
            chosen[key] = tuple(pairs_of_targets(backbone, stimuli, plan.targets, key[1], pairs))
        earlier = None if fresh else store.find(plan.identity)
        records.append(_resumed(plan.identity, chosen[key], earlier))
    missing = (record.identity for record in records for _ in _missing(record))
    complete = [store.path_of(r.identity) for r in records if not _missing(r)]
    progress = Progress(missing, complete, report)
    return [
        _completed(plan, record, judge, store, progress) if _missing(record) else record
        for plan, record in zip(plans, records, strict=True)
    ]


def _resumed(
    identity: Identity, pairs: tuple[Pair, ...], earlier: InterferenceRecord | None
) -> InterferenceRecord:
    """Return a record with what an earlier run has done of it."""
    record = InterferenceRecord(identity=identity, pairs=pairs)
    if earlier is None:
        return record
    targets = {pair.first for pair in pairs}
    done = {
        "environment": earlier.environment,
        "alone": tuple(each for each in earlier.alone if each.target in targets),
        "in_sequence": tuple(each for each in earlier.in_sequence if each.pair in pairs),
    }
    return record.model_copy(update=done)


def _missing(record: InterferenceRecord) -> list[str | Pair]:
    """Return the targets to adapt to alone, and then the pairs to adapt to in sequence."""
    ended = {each.target for each in record.alone}
    followed = {each.pair for each in record.in_sequence}
    targets = dict.fromkeys(pair.first for pair in record.pairs)
    missing: list[str | Pair] = []
    if not _fail_alike(record.alone):
        missing += [target for target in targets if target not in ended]
        if not _fail_alike(record.in_sequence):
            missing += [pair for pair in record.pairs if pair not in followed]
    return missing


def _completed(
    plan: Plan,
    record: InterferenceRecord,
    judge: Judge,
    store: InterferenceStore,
    progress: Progress,
) -> InterferenceRecord:
    """Run what a record misses, and write it after each adaptation."""
    evaluator = judge.evaluator(plan.backbone)
    adaptations = SequentialAdaptations(
        evaluator,
        judge.resources.backbone(plan.backbone),
        judge.resources.stimuli(plan.track, plan.backbone),
        plan.submission,
        seed=plan.identity.seed,
        timeout=plan.timeout,
    )
    left = len(_missing(record))
    with store.claim(plan.identity):
        while missing := _missing(record):
            result: Alone | InSequence
            if isinstance(step := missing[0], Pair):
                name, kind = f"{step.first}, then {step.second}", "in_sequence"
                result = adaptations.in_sequence(step)
            else:
                name, kind = step, "alone"
                result = adaptations.alone(step)
            done = {
                kind: (*getattr(record, kind), result),
                "environment": describe_environment(judge.conditions.device, evaluator.confinement),
            }
            record = record.model_copy(update=done)
            path = store.save(record)
            progress.episode_ended(plan.identity, name, result.status, result.reason)
            left -= 1
    if left:
        progress.episodes_left_out(plan.identity, left)
    progress.report(RecordWritten(path))
    return record


def _fail_alike(ended: Sequence[Alone | InSequence]) -> bool:
    """Return whether the first two adaptations failed for the same reason."""
    first = ended[:2]
    return (
        len(first) == 2
        and all(each.status != "ok" for each in first)
        and len({each.reason for each in first}) == 1
    )
