"""What is kept of a run: the record, a pydantic model written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from attnbench.statistics.detection import Counts, Detection

SCHEMA_VERSION: Literal[1] = 1

Status = Literal["ok", "failed", "not applicable"]
Text = Annotated[str, Field(max_length=10_000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


Count = Annotated[int, Field(ge=0, le=10**12)]
Finite = Annotated[float, Field(ge=-1e12, le=1e12)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Identity(_Model):
    """What a record is a record of: two runs with the same identity measure the same thing."""

    submission: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    submission_sha256: Sha256
    task: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    task_version: int
    task_sha256: Sha256
    track: Literal["mini", "small", "full"]
    backbone: Annotated[str, Field(pattern=r"^[a-z]+/[A-Za-z0-9_.-]{1,80}$")]
    backbone_sha256: Sha256
    untrained: bool
    seed: int
    device: Literal["cpu", "cuda"]
    isolation: Literal["process", "bwrap"]


class Environment(_Model):
    """The machine and the versions a record was measured with.

    Attributes:
        confinement: what the kernel enforced on workers (see `attnbench.evaluation.isolation`).
    """

    device_name: Text
    threads: int
    python: Text
    torch: Text
    torchvision: Text
    numpy: Text
    attnbench: Text
    confinement: tuple[Text, ...] = ()


def together(environments: Sequence[Environment]) -> Environment:
    """What there is to say of several machines that episodes of one record ran on.

    Texts that differ stand beside each other; threads and confinement are the least of any.
    """
    described = [each.model_dump() for each in environments]
    texts = ("device_name", "python", "torch", "torchvision", "numpy", "attnbench")
    joined = {name: ", ".join(sorted({each[name] for each in described})) for name in texts}
    common = set.intersection(*(set(each.confinement) for each in environments))
    return environments[0].model_copy(
        update=joined
        | {
            "threads": min(each.threads for each in environments),
            "confinement": tuple(each for each in environments[0].confinement if each in common),
        }
    )


class Readout(_Model):
    """Detection at one threshold, or by arg-max (see `attnbench.statistics.detection`)."""

    hits: Count
    positives: Annotated[int, Field(ge=1, le=10**12)]
    false_alarms: Count
    negatives: Annotated[int, Field(ge=1, le=10**12)]
    hit_rate: Finite
    false_alarm_rate: Finite
    d_prime: Finite
    criterion: Finite

    @model_validator(mode="after")
    def _no_more_than_shown(self) -> Self:
        if self.hits > self.positives or self.false_alarms > self.negatives:
            raise ValueError("more hits or false alarms than images")
        return self

    @property
    def counts(self) -> Counts:
        """What the figures were computed from."""
        return Counts(self.hits, self.positives, self.false_alarms, self.negatives)


class Measures(Readout):
    """Detection by the score: at its threshold 0, and without a threshold."""

    auc: Finite
    d_a: Finite

    @classmethod
    def of(cls, found: Detection) -> Self:
        """The figures of a detection, as they are kept."""
        return cls(
            hits=found.counts.hits,
            positives=found.counts.positives,
            false_alarms=found.counts.false_alarms,
            negatives=found.counts.negatives,
            hit_rate=found.hit_rate,
            false_alarm_rate=found.false_alarm_rate,
            d_prime=found.d_prime,
            criterion=found.criterion,
            auc=found.auc,
            d_a=found.d_a,
        )


class Cost(_Model):
    """What one adaptation cost. Times in seconds, by the evaluator's clock.

    Attributes:
        parameters_opaque: of those added, scalars that are not in tensors (see
            `attnbench.evaluation.inventory`).
        adaptation_seconds: from "go" until a fresh process holds the detector, late work included.
        adaptation_seconds_cold: in a process which has not adapted before; for some targets only.
        late_seconds: of these, what loading the detector took, and work put off until it predicted.
        contended: whether other episodes ran on the same processor meanwhile: such times rank nobody.
    """

    parameters_added: Count
    parameters_changed: Count
    parameters_opaque: Count = 0
    artefact_bytes: Count
    adaptation_seconds: Seconds
    adaptation_seconds_cold: Seconds | None
    late_seconds: Seconds = 0.0
    pass_seconds: Annotated[float, Field(gt=0, le=1e12)]
    prediction_seconds: Seconds
    contended: bool = False


class EpisodeResult(_Model):
    """One target with one seed: what came of it.

    Attributes:
        readouts: by name, see `attnbench.evaluation.readouts`; only where the track asks for them
            and the detector has logits.
        nondeterministic: operations used that have no deterministic form on the device.
    """

    target: Text
    status: Status
    reason: Text = ""
    detail: Text = ""
    images_sha256: Sha256
    measures: Measures | None = None
    cost: Cost | None = None
    readouts: dict[Literal["argmax-all", "argmax-targets"], Readout] = {}
    nondeterministic: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _whole_or_failed(self) -> Self:
        if (self.status == "ok") != (self.measures is not None and self.cost is not None):
            raise ValueError("an episode is ok if it has measures and cost")
        return self


class Summary(_Model):
    """The task's figures: means over targets, medians for times; None where not all episodes are ok.

    Times are of the episodes that had the device to themselves, None where none had.

    Attributes:
        contended: how many episodes had not.
    """

    targets: Count
    d_prime: Finite | None = None
    d_prime_low: Finite | None = None
    d_prime_high: Finite | None = None
    criterion: Finite | None = None
    d_a: Finite | None = None
    auc: Finite | None = None
    hit_rate: Finite | None = None
    false_alarm_rate: Finite | None = None
    parameters_added: Count | None = None
    parameters_changed: Count | None = None
    artefact_bytes: Count | None = None
    adaptation_seconds: Seconds | None = None
    adaptation_seconds_low: Finite | None = None
    adaptation_seconds_high: Finite | None = None
    adaptation_seconds_cold: Seconds | None = None
    adaptation_passes: Finite | None = None
    prediction_seconds: Seconds | None = None
    contended: Count = 0


class Record(_Model):
    """The result of a submission on a task, track, backbone and seed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    identity: Identity
    title: Text
    declared_parameters: int | None = None
    environment: Environment
    created: Text
    status: Status
    reason: Text = ""
    summary: Summary
    episodes: Annotated[tuple[EpisodeResult, ...], Field(min_length=1)]
    scores_file: Text
    scores_sha256: Sha256

    @model_validator(mode="after")
    def _agrees_with_its_episodes(self) -> Self:
        if len({episode.target for episode in self.episodes}) < len(self.episodes):
            raise ValueError("two episodes of one target")
        if self.status == "ok" and any(episode.status != "ok" for episode in self.episodes):
            raise ValueError("ok with episodes that are not")
        return self
