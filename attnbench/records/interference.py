"""The record of what adaptations cost elsewhere: on other classes, and on each other's targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from attnbench.records.record import Count, Environment, Finite, Identity, Text
from attnbench.statistics.curves import Estimate, mean_estimate
from attnbench.vocabulary import Status


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pair(_Model):
    """Two targets to adapt to, one after the other.

    Attributes:
        first, second: the targets, in this order.
        similar: whether they are among those that the backbone confuses most, not least.
        confusion: the mean probability that the backbone gives one on images of the other.
    """

    first: Text
    second: Text
    similar: bool
    confusion: Finite


class Alone(_Model):
    """An adaptation to one target.

    `top1_...` are shares of the negative test images whose largest output is that of their own class.

    Attributes:
        target: the target.
        status, reason: whether it succeeded, and why not.
        d_a_untouched: d_a of the untouched backbone for the target.
        d_a: that of the adapted network.
        images: the number of negative test images whose class is one of the backbone's labels.
        top1_untouched: of the untouched backbone.
        top1_adapted: of the adapted network.
        top1_detached: of the backbone once all that the adaptation has added is taken off. What it has
            changed in the backbone's own tensors stays changed.
        parameters_added, parameters_changed: see `attnbench.records.record.Cost`.
    """

    target: Text
    status: Status = "ok"
    reason: Text = ""
    d_a_untouched: Finite | None = None
    d_a: Finite | None = None
    images: Count = 0
    top1_untouched: Finite | None = None
    top1_adapted: Finite | None = None
    top1_detached: Finite | None = None
    parameters_added: Count | None = None
    parameters_changed: Count | None = None


class InSequence(_Model):
    """An adaptation to a second target that starts from the network adapted to a first one.

    Attributes:
        pair: the targets.
        status, reason: whether it succeeded, and why not.
        d_a_first, d_a_second: d_a of the last network for either target.
    """

    pair: Pair
    status: Status = "ok"
    reason: Text = ""
    d_a_first: Finite | None = None
    d_a_second: Finite | None = None


class InterferenceRecord(_Model):
    """All adaptations of a submission in one setting.

    Attributes:
        identity: the submission, task, track, backbone and seed.
        environment: where it was measured; that of the last run.
        pairs: all pairs, in both orders.
        alone: the adaptations to one target that have ended.
        in_sequence: those to two targets that have ended.
    """

    schema_version: Literal[1] = 1
    identity: Identity
    environment: Environment | None = None
    pairs: Annotated[tuple[Pair, ...], Field(min_length=1)]
    alone: tuple[Alone, ...] = ()
    in_sequence: tuple[InSequence, ...] = ()


@dataclass(frozen=True)
class Interference:
    """What a submission's adaptations cost elsewhere, in one setting.

    Attributes:
        records: its records, one per seed.
    """

    records: tuple[InterferenceRecord, ...]

    @property
    def submission(self) -> str:
        """The submission's name."""
        return self.records[0].identity.submission

    @property
    def has_sequences(self) -> bool:
        """Whether an adaptation to two targets succeeded."""
        return any(each.status == "ok" for record in self.records for each in record.in_sequence)

    @property
    def has_references(self) -> bool:
        """Whether an adaptation to one target succeeded."""
        return any(each.status == "ok" for record in self.records for each in record.alone)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why some adaptations failed, each reason once."""
        ended: list[Alone | InSequence] = []
        for record in self.records:
            ended += [*record.alone, *record.in_sequence]
        return tuple(dict.fromkeys(each.reason for each in ended if each.status != "ok"))

    def lost(self, *, similar: bool) -> Estimate:
        """Return the change of d_a on the first target by the adaptation to the second.

        Args:
            similar: whether the pairs are the similar ones.
        """
        return self._change("lost", similar=similar)

    def gained(self, *, similar: bool) -> Estimate:
        """Return d_a on the second target after the first, minus d_a on it alone.

        Args:
            similar: whether the pairs are the similar ones.
        """
        return self._change("gained", similar=similar)

    def top1(self, state: Literal["untouched", "adapted", "detached"]) -> Estimate:
        """Return the top-1 accuracy on negatives, the mean over targets; see `Alone`."""
        return _mean_by_target(self._alone, lambda each: _number(each, f"top1_{state}"))

    @property
    def reference_cost(self) -> Estimate:
        """The change of the top-1 accuracy on negatives by an adaptation, the mean over targets."""
        return _mean_by_target(
            self._alone,
            lambda each: _number(each, "top1_adapted") - _number(each, "top1_untouched"),
        )

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield a row for each adaptation: `kind` is "alone" or "in sequence"."""
        for record in self.records:
            identity = record.identity
            setting: dict[str, object] = {
                name: getattr(identity, name)
                for name in ("submission", "task", "track", "backbone", "seed", "device")
            }
            for each in record.alone:
                yield {"kind": "alone", **setting, **each.model_dump()}
            d_a = {each.target: each.d_a for each in record.alone}
            for pair in record.in_sequence:
                yield {
                    "kind": "in sequence",
                    **setting,
                    **pair.pair.model_dump(),
                    **pair.model_dump(exclude={"pair"}),
                    "d_a_first_alone": d_a.get(pair.pair.first),
                    "d_a_second_alone": d_a.get(pair.pair.second),
                }

    @property
    def _alone(self) -> list[Alone]:
        return [each for record in self.records for each in record.alone if each.status == "ok"]

    def _change(self, what: Literal["lost", "gained"], *, similar: bool) -> Estimate:
        """Return a mean over pairs, each of which has both orders and all seeds."""
        changes: dict[frozenset[str], list[float]] = defaultdict(list)
        for record in self.records:
            d_a = {each.target: each.d_a for each in record.alone}
            for each in record.in_sequence:
                if each.status != "ok" or each.pair.similar != similar:
                    continue
                if what == "lost":
                    after, before = each.d_a_first, d_a.get(each.pair.first)
                else:
                    after, before = each.d_a_second, d_a.get(each.pair.second)
                if after is not None and before is not None:
                    changes[frozenset((each.pair.first, each.pair.second))].append(after - before)
        return _mean_of(list(changes.values()))


def interference_of(records: Sequence[InterferenceRecord]) -> list[Interference]:
    """Group the records of each submission, task, track and backbone."""
    grouped: dict[tuple[str, ...], list[InterferenceRecord]] = defaultdict(list)
    for record in records:
        identity = record.identity
        key = (identity.submission, identity.task, identity.track, identity.backbone)
        grouped[key].append(record)
    return [Interference(tuple(group)) for group in grouped.values()]


def _number(each: Alone, name: str) -> float:
    value: float | None = getattr(each, name)
    return float("nan") if value is None else value


def _mean_by_target(ended: Sequence[Alone], value_of: Callable[[Alone], float]) -> Estimate:
    values: dict[str, list[float]] = defaultdict(list)
    for each in ended:
        values[each.target].append(value_of(each))
    return _mean_of(list(values.values()))


def _mean_of(replicates: Sequence[Sequence[float]]) -> Estimate:
    """Return the mean over replicates, each of which is the mean of repeated measurements."""
    if not replicates:
        return Estimate(float("nan"), float("nan"), float("nan"))
    return mean_estimate(np.array([np.mean(values) for values in replicates]))
