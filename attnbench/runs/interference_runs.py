"""Making the records of interference: finished adaptations are kept, missing ones are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attnbench.judge.environment import describe_environment
from attnbench.judge.judge import Judge
from attnbench.judge.sequential import SequentialAdaptations, pairs_of_targets
from attnbench.records.interference import (
    Alone,
    InSequence,
    InterferenceRecord,
)
from attnbench.records.interference_store import InterferenceStore
from attnbench.runs.events import Event, RecordWritten
from attnbench.runs.planning import Plan
from attnbench.runs.progress import Progress


def make_interference_record(
    plan: Plan,
    judge: Judge,
    store: InterferenceStore,
    *,
    pairs: int,
    fresh: bool,
    report: Callable[[Event], None],
) -> InterferenceRecord:
    """Make the record of a plan, or complete it.

    It is written after every adaptation, so an interrupted run resumes. If the first two adaptations
    of a kind fail for the same reason, the others of that kind do not run.

    Args:
        plan: the submission, task, backbone and seed.
        judge: an open judge.
        store: where the record is kept.
        pairs: how many pairs of either kind, see `pairs_of_targets`.
        fresh: whether to make an existing record again.
        report: called with each event.

    Raises:
        AttnbenchError: if the pairs cannot be chosen, or the record cannot be written.
    """
    backbone = judge.resources.backbone(plan.backbone)
    stimuli = judge.resources.stimuli(plan.track, plan.backbone)
    identity = plan.identity
    chosen = tuple(pairs_of_targets(backbone, stimuli, plan.requested, identity.seed, pairs))
    with store.claim(identity):
        record = InterferenceRecord(identity=identity, pairs=chosen)
        earlier = None if fresh else store.find(identity)
        if earlier is not None:
            record = record.model_copy(
                update={
                    "environment": earlier.environment,
                    "alone": earlier.alone,
                    "in_sequence": tuple(e for e in earlier.in_sequence if e.pair in chosen),
                }
            )
        targets = dict.fromkeys(pair.first for pair in chosen)
        ended = {each.target for each in record.alone}
        alone = [target for target in targets if target not in ended]
        followed = {each.pair for each in record.in_sequence}
        in_sequence = [pair for pair in chosen if pair not in followed]
        progress = Progress([identity] * (len(alone) + len(in_sequence)), [], report)
        if not alone and not in_sequence:
            return record
        evaluator = judge.evaluator(plan.backbone)
        adaptations = SequentialAdaptations(
            evaluator,
            backbone,
            stimuli,
            plan.submission,
            seed=identity.seed,
            timeout=plan.timeout,
        )

        def keep(name: str, result: Alone | InSequence) -> InterferenceRecord:
            kind = "alone" if isinstance(result, Alone) else "in_sequence"
            environment = describe_environment(judge.conditions.device, evaluator.confinement)
            kept = record.model_copy(
                update={kind: (*getattr(record, kind), result), "environment": environment}
            )
            store.save(kept)
            progress.episode_ended(identity, name, result.status, result.reason)
            return kept

        for number, target in enumerate(alone):
            if _fail_alike(record.alone):
                progress.episodes_left_out(identity, len(alone) - number)
                break
            record = keep(target, adaptations.alone(target))
        for number, pair in enumerate(in_sequence):
            if _fail_alike(record.alone) or _fail_alike(record.in_sequence):
                progress.episodes_left_out(identity, len(in_sequence) - number)
                break
            record = keep(f"{pair.first}, then {pair.second}", adaptations.in_sequence(pair))
        report(RecordWritten(store.path_of(identity)))
    return record


def _fail_alike(ended: Sequence[Alone | InSequence]) -> bool:
    """Return whether the first two adaptations failed for the same reason."""
    first = ended[:2]
    return (
        len(first) == 2
        and all(each.status != "ok" for each in first)
        and len({each.reason for each in first}) == 1
    )
