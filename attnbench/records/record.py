"""The record of a run: a pydantic model, written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from operator import not_
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from attnbench.overrides import Overrides
from attnbench.statistics.measures import Counts, Detection
from attnbench.task_schema import PlainName
from attnbench.vocabulary import ArgmaxRule, DeviceKind, IsolationLevel, Status

SCHEMA_VERSION: Literal[1] = 1

Text = Annotated[str, Field(max_length=10_000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=10**12)]
Finite = Annotated[float, Field(ge=-1e12, le=1e12)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]


def _is_none(value: object) -> bool:
    return value is None


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Identity(_Model):
    """What a record is about. Two runs with the same identity measure the same thing.

    Attributes:
        submission, task, track, backbone: names.
        submission_sha256, task_sha256, backbone_sha256: SHA-256 (hex) of the submission's files, the
            definition of the task's track, the backbone's weights and labels.
        task_version: the task's version.
        seed, untrained: what the images were drawn with; whether the weights were untrained.
        device, isolation: what the submission ran on, and how it was isolated.
        images: for a point of a learning curve, how many positives were adapted on; None for all.
        seen: for a point of a learning curve, whether the detector was tested on the images that it
            had adapted to.
    """

    submission: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    submission_sha256: Sha256
    task: PlainName
    task_version: int
    task_sha256: Sha256
    track: PlainName
    backbone: Annotated[str, Field(pattern=r"^[a-z]+/[A-Za-z0-9_.-]{1,80}$")]
    backbone_sha256: Sha256
    untrained: bool
    seed: int
    device: DeviceKind
    isolation: IsolationLevel
    images: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude_if=_is_none)
    seen: bool = Field(default=False, exclude_if=not_)


class Environment(_Model):
    """The machine and the library versions that a record was measured with.

    Attributes:
        device_name: the name of the CPU or GPU.
        threads: CPU threads of the episode.
        python, torch, torchvision, numpy, attnbench: the version; several if machines differed.
        confinement: names of the restrictions that the kernel enforced on workers (see
            `attnbench.isolation.confinement`).
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
    """Detection at one threshold, or by arg-max; see `attnbench.statistics.detection`.

    Attributes:
        hits, false_alarms: positives and negatives that were called present.
        positives, negatives: test images with and without the target.
        hit_rate, false_alarm_rate: shares of the images, with the log-linear correction.
        d_prime: sensitivity at this threshold, z(hit rate) - z(false-alarm rate).
        criterion: minus half the sum of both z-scores.
    """

    hits: Count
    positives: Annotated[int, Field(ge=1, le=10**12)]
    false_alarms: Count
    negatives: Annotated[int, Field(ge=1, le=10**12)]
    hit_rate: Finite
    false_alarm_rate: Finite
    d_prime: Finite
    criterion: Finite

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.hits > self.positives or self.false_alarms > self.negatives:
            raise ValueError("more hits or false alarms than images")
        return self

    @property
    def counts(self) -> Counts:
        """The counts from which all other values are computed."""
        return Counts(self.hits, self.positives, self.false_alarms, self.negatives)


class Measures(Readout):
    """Detection by the score: at the threshold 0, and over all thresholds.

    Attributes:
        auc: the area under the ROC curve.
        d_a: sensitivity over all thresholds, the square root of 2 times z(AUC).
    """

    auc: Finite
    d_a: Finite

    @classmethod
    def of(cls, detection: Detection) -> Self:
        """Return the measures of a detection in the form that a record keeps."""
        return cls(
            hits=detection.counts.hits,
            positives=detection.counts.positives,
            false_alarms=detection.counts.false_alarms,
            negatives=detection.counts.negatives,
            hit_rate=detection.hit_rate,
            false_alarm_rate=detection.false_alarm_rate,
            d_prime=detection.d_prime,
            criterion=detection.criterion,
            auc=detection.auc,
            d_a=detection.d_a,
        )


class Cost(_Model):
    """The cost of one adaptation. Times are in seconds, by the evaluator's clock.

    Only `pass_seconds` is timed in a worker, before the submission's code is in that process.

    Attributes:
        parameters_added: scalars added to the backbone.
        parameters_changed: scalars in tensors that replace one of the backbone's.
        other_numbers: numbers that the detector holds outside tensors (see
            `attnbench.judge.parameter_count`); None in older records, which did not report them.
        artefact_bytes: the size of the artefact in bytes.
        peak_memory_bytes: memory that the adaptation took beyond the loaded backbone, at most: on the
            CPU resident memory, with that of a forward pass over the same images; on a GPU what its
            allocator counted. None in older records.
        adaptation_seconds: the time from "go" until a fresh process has loaded the detector,
            including deferred work.
        adaptation_seconds_cold: the same time in a process that has not rehearsed; None for most
            targets.
        late_seconds: the part of `adaptation_seconds` spent on loading the detector, and on work
            that was deferred until prediction.
        pass_seconds: the time of one forward pass of the backbone over as many images.
        prediction_seconds: the time of scoring all test images.
        contended: whether other episodes or other work used the CPU meanwhile. Contended times are
            excluded from the leaderboard.
    """

    parameters_added: Count
    parameters_changed: Count
    other_numbers: Count | None = None
    artefact_bytes: Count
    peak_memory_bytes: Count | None = None
    adaptation_seconds: Seconds
    adaptation_seconds_cold: Seconds | None
    late_seconds: Seconds = 0.0
    pass_seconds: Annotated[float, Field(gt=0, le=1e12)]
    prediction_seconds: Seconds
    contended: bool = False

    @model_validator(mode="before")
    @classmethod
    def _without_opaque_parameters(cls, values: Any) -> Any:
        """Drop a count of older records, which are all in `parameters_added`."""
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if name != "parameters_opaque"}
        return values


class EpisodeResult(_Model):
    """The result of one episode: one target with one seed.

    Attributes:
        target: the target's name.
        status: whether it succeeded.
        reason: why it did not succeed, in one line.
        detail: after a failure, the exception with the frames of the submission's own files. Their
            paths are relative to its folder, so a record does not reveal where that was.
        traceback: the exception with all frames.
        printed: the end of what the submission printed while it adapted, and while its detector
            predicted. It may contain anything; see `attnbench.text.printable_lines`.
        images_sha256: the SHA-256 (hex) of the pixels of all its pictures, before any generator.
        measures: how well the detector detects; None after a failure.
        cost: what the adaptation cost; None after a failure.
        readouts: detection by arg-max (see `attnbench.judge.argmax_readouts`), if the track asks for
            it and the detector has logits.
        nondeterministic: operations used that have no deterministic form on the device.
        precision: what the adaptation and the detector compute matrix products and convolutions in,
            such as `float32`, `bfloat16` or `tf32`, as their processes observed it; empty in older
            records.
        has_label: whether the target is one of the backbone's labels; None in older records.
        artefact_sha256: the SHA-256 (hex) of the artefact. Episodes of several tasks that share an
            adaptation have the same one. None after a failure and in older records.
    """

    target: Text
    status: Status
    reason: Text = ""
    detail: Text = ""
    traceback: Text = ""
    printed: Text = ""
    images_sha256: Sha256
    measures: Measures | None = None
    cost: Cost | None = None
    readouts: dict[ArgmaxRule, Readout] = {}
    nondeterministic: tuple[Text, ...] = ()
    precision: tuple[Text, ...] = ()
    has_label: bool | None = None
    artefact_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _check_completeness(self) -> Self:
        if (self.status == "ok") != (self.measures is not None and self.cost is not None):
            raise ValueError("an episode is ok if and only if it has measures and a cost")
        return self


def failed_alike(episodes: Sequence[EpisodeResult]) -> bool:
    """Return whether the first two episodes failed in the same way. Then a run stops by default.

    Args:
        episodes: the episodes of a record so far, in the order of the task's targets.
    """
    reasons = {(episode.status, episode.reason, episode.detail) for episode in episodes[:2]}
    return len(episodes) > 1 and len(reasons) == 1 and episodes[0].status == "failed"


class Summary(_Model):
    """A record's summary: means over targets, and medians of times.

    Unless all episodes are ok, the values are None.
    Times are those of uncontended episodes; they are None if all episodes are contended.

    Attributes:
        targets, contended: the number of targets, and of contended episodes.
        d_prime, criterion, d_a, auc, hit_rate, false_alarm_rate: means over targets.
        d_prime_low, d_prime_high: the 95 % interval over targets.
        d_prime_pooled: d' from the counts of all targets together, for targets with few positives;
            None in older records.
        parameters_added, parameters_changed, other_numbers, artefact_bytes, peak_memory_bytes: the
            largest over targets.
        adaptation_seconds, adaptation_seconds_cold, prediction_seconds: medians over targets.
        adaptation_seconds_low, adaptation_seconds_high: the 95 % interval of the median.
        adaptation_passes: the median over targets of adaptation time over the time of a pass.
        precision: of all its episodes together.
    """

    targets: Count
    d_prime: Finite | None = None
    d_prime_low: Finite | None = None
    d_prime_high: Finite | None = None
    d_prime_pooled: Finite | None = None
    criterion: Finite | None = None
    d_a: Finite | None = None
    auc: Finite | None = None
    hit_rate: Finite | None = None
    false_alarm_rate: Finite | None = None
    parameters_added: Count | None = None
    parameters_changed: Count | None = None
    other_numbers: Count | None = None
    artefact_bytes: Count | None = None
    peak_memory_bytes: Count | None = None
    adaptation_seconds: Seconds | None = None
    adaptation_seconds_low: Finite | None = None
    adaptation_seconds_high: Finite | None = None
    adaptation_seconds_cold: Seconds | None = None
    adaptation_passes: Finite | None = None
    prediction_seconds: Seconds | None = None
    precision: tuple[Text, ...] = ()
    contended: Count = 0


class Record(_Model):
    """The result of a submission on a task, track and backbone with one seed.

    Attributes:
        schema_version, created: the version of this format; when it was written (ISO 8601).
        identity: what the record is about.
        title, declared_parameters: as in the submission's manifest.
        environment: the machine and the versions that it was measured with.
        status, reason: whether all episodes succeeded, and if not, why, in one line.
        summary: means and medians over targets.
        overrides: the hyperparameters that replaced those of the submission's manifest, if any.
        not_run: how many targets have no episode, because the first two failed in the same way.
        episodes: in the order of the task's targets.
        scores_file: the name of the file with its scores (see `attnbench.records.scores`).
        scores_sha256: the SHA-256 (hex) of that file.
        test_images_sha256: the SHA-256 (hex) of the list of its test images, a file that records
            share; None in older records, whose scores name the images themselves.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    identity: Identity
    title: Text
    declared_parameters: int | None = None
    overrides: Overrides | None = Field(default=None, exclude_if=_is_none)
    environment: Environment
    created: Text
    status: Status
    reason: Text = ""
    not_run: Count = 0
    summary: Summary
    episodes: Annotated[tuple[EpisodeResult, ...], Field(min_length=1)]
    scores_file: Text
    scores_sha256: Sha256
    test_images_sha256: Sha256 | None = None

    @property
    def original_submission(self) -> str:
        """The name of the submission without overrides."""
        return self.overrides.submission if self.overrides else self.identity.submission

    @model_validator(mode="after")
    def _check_overrides(self) -> Self:
        if self.overrides is not None and self.overrides.name != self.identity.submission:
            raise ValueError(f"its overrides make the submission {self.overrides.name}")
        return self

    @model_validator(mode="after")
    def _check_episodes(self) -> Self:
        if len({episode.target for episode in self.episodes}) < len(self.episodes):
            raise ValueError("two episodes have the same target")
        if self.status == "ok" and any(episode.status != "ok" for episode in self.episodes):
            raise ValueError("the record is ok, but an episode is not")
        if self.not_run and not failed_alike(self.episodes):
            raise ValueError("targets were left out, but the first two did not fail alike")
        return self
