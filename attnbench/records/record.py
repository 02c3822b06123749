"""What is kept of a run: the record, a pydantic model written as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from attnbench.statistics.detection import Counts

SCHEMA_VERSION: Literal[1] = 1

Status = Literal["ok", "failed", "not applicable"]
Text = Annotated[str, Field(max_length=10_000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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


class Readout(_Model):
    """Detection at one threshold, or by arg-max (see `attnbench.statistics.detection`)."""

    hits: int
    positives: int
    false_alarms: int
    negatives: int
    hit_rate: float
    false_alarm_rate: float
    d_prime: float
    criterion: float

    @property
    def counts(self) -> Counts:
        """What the figures were computed from."""
        return Counts(self.hits, self.positives, self.false_alarms, self.negatives)


class Measures(Readout):
    """Detection by the score: at its threshold 0, and without a threshold."""

    auc: float
    d_a: float


class Cost(_Model):
    """What one adaptation cost. Times in seconds, by the evaluator's clock.

    Attributes:
        parameters_opaque: of those added, scalars that are not in tensors (see
            `attnbench.evaluation.inventory`).
        adaptation_seconds: from "go" until a fresh process holds the detector, late work included.
        adaptation_seconds_cold: in a process which has not adapted before; for some targets only.
        late_seconds: of these, what loading the detector took, and work put off until it predicted.
    """

    parameters_added: int
    parameters_changed: int
    parameters_opaque: int = 0
    artefact_bytes: int
    adaptation_seconds: float
    adaptation_seconds_cold: float | None
    late_seconds: float = 0.0
    pass_seconds: float
    prediction_seconds: float


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


class Summary(_Model):
    """The task's figures: means over targets, medians for times; None where not all episodes are ok."""

    targets: int
    d_prime: float | None = None
    d_prime_low: float | None = None
    d_prime_high: float | None = None
    criterion: float | None = None
    d_a: float | None = None
    auc: float | None = None
    hit_rate: float | None = None
    false_alarm_rate: float | None = None
    parameters_added: int | None = None
    parameters_changed: int | None = None
    artefact_bytes: int | None = None
    adaptation_seconds: float | None = None
    adaptation_seconds_low: float | None = None
    adaptation_seconds_high: float | None = None
    adaptation_seconds_cold: float | None = None
    adaptation_passes: float | None = None
    prediction_seconds: float | None = None


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
    episodes: tuple[EpisodeResult, ...]
    scores_file: Text
    scores_sha256: Sha256
