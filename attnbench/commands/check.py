"""`attnbench check`: does a submission keep the contract? Checked in seconds, on noise images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from attnbench.backbones.backbone import Backbone
from attnbench.devices import require_device
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import Judge, open_judge
from attnbench.judge.trial import Trial
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission, load_submission
from attnbench.vocabulary import DeviceKind

# A backbone with a label for the target, and one without labels.
DEFAULT_BACKBONE, UNLABELLED_BACKBONE = "shipped/figures-vgg", "shipped/figures-simclr"
_IMAGES_PER_CLASS = 4
# As many as the judge shows twice. With fewer, scores that depend on other images could pass by chance.
_TEST_IMAGES = 24
_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class BackboneReport:
    """The result of a check on one backbone. The counts are None after a failure.

    Attributes:
        backbone: the name of the backbone.
        has_label: whether the target had a label of the backbone.
        problems: what is wrong, one line each.
        warnings: what works, but is slow or probably not meant, one line each.
        not_applicable: why the submission says that it does not apply to this backbone; else empty.
        parameters_added: scalars added to the backbone.
        parameters_changed: scalars in tensors that replace one of the backbone's.
        other_numbers: numbers that the detector holds outside tensors (docs/trust.md).
        artefact_bytes: the size of the artefact in bytes.
        changed: the names of the backbone's tensors that were changed.
    """

    backbone: str
    has_label: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    not_applicable: str
    parameters_added: int | None
    parameters_changed: int | None
    other_numbers: int | None
    artefact_bytes: int | None
    changed: tuple[str, ...]


@dataclass(frozen=True)
class CheckReport:
    """The result of a check.

    Attributes:
        submission: the submission's name.
        backbones: the result on each backbone, at least one.
    """

    submission: str
    backbones: tuple[BackboneReport, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no problems, or the submission says that it does not apply."""
        return not any(report.problems for report in self.backbones)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, one line each. A line says on which backbone, if not on all of them."""
        return self._joined("problems")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works, but is slow or probably not meant. See `problems`."""
        return self._joined("warnings")

    @property
    def main(self) -> BackboneReport:
        """The first backbone that the submission applies to, or else the first."""
        applicable = (report for report in self.backbones if not report.not_applicable)
        return next(applicable, self.backbones[0])

    @property
    def backbone(self) -> str:
        """The name of the backbone that the counts are of, see `main`."""
        return self.main.backbone

    @property
    def parameters_added(self) -> int | None:
        """Scalars added to that backbone; None after a failure."""
        return self.main.parameters_added

    @property
    def parameters_changed(self) -> int | None:
        """Scalars in tensors that replace one of that backbone's; None after a failure."""
        return self.main.parameters_changed

    @property
    def other_numbers(self) -> int | None:
        """Numbers outside tensors on that backbone; None after a failure."""
        return self.main.other_numbers

    @property
    def artefact_bytes(self) -> int | None:
        """The size of the artefact in bytes; None after a failure."""
        return self.main.artefact_bytes

    def _joined(self, kind: Literal["problems", "warnings"]) -> tuple[str, ...]:
        applicable = [report for report in self.backbones if not report.not_applicable]
        by_text: dict[str, list[BackboneReport]] = {}
        for report in applicable:
            for text in getattr(report, kind):
                by_text.setdefault(text, []).append(report)
        return tuple(
            text if len(reports) == len(applicable) else f"on {_named(reports[0])}: {text}"
            for text, reports in by_text.items()
        )


def _named(report: BackboneReport) -> str:
    return report.backbone + ("" if report.has_label else ", where backbone.target is None")


def check(
    submission: str | Path,
    *,
    backbone: str | None = None,
    untrained: bool = False,
    device: DeviceKind = "cpu",
    data: Path | None = None,
) -> CheckReport:
    """Check a submission on noise images.

    Args:
        submission: a folder, or the name of a shipped submission.
        backbone: the backbone to check it on. By default two small shipped ones, one with a label
            for the target and one without.
        untrained: whether to leave the weights as initialised, which suffices for counting.
        device: `cpu` or `cuda`.
        data: a folder that may hold the backbone's weights.

    Raises:
        AttnbenchError: if the manifest or the backbone cannot be read.
    """
    require_device(device)
    checked = load_submission(submission)
    conditions = Conditions(device=device, modules=checked.modules, data=data, untrained=untrained)
    backbones = [backbone] if backbone else [DEFAULT_BACKBONE, UNLABELLED_BACKBONE]
    with open_judge(conditions) as judge:
        reports = [check_on(name, checked, judge) for name in backbones]
    return CheckReport(checked.name, tuple(reports))


def check_on(backbone: str, submission: Submission, judge: Judge) -> BackboneReport:
    """Adapt twice to noise images, predict in a fresh process, count parameters, and compare.

    Args:
        backbone: the name of the backbone.
        submission: the submission.
        judge: runs its code.

    Raises:
        AttnbenchError: if the backbone cannot be loaded.
    """
    evaluator = judge.evaluator(backbone)
    network = judge.resources.backbone(backbone)
    episode = noise_episode(network, tested=_TEST_IMAGES)
    trial = evaluator.try_out(submission, episode, _TIMEOUT_SECONDS)
    size = trial.size
    return BackboneReport(
        backbone=network.name,
        has_label=episode.label is not None,
        problems=tuple(_problems_of(submission, network, trial)),
        warnings=(*trial.remarks.warnings, *_about_batch_norm(network, trial.changed)),
        not_applicable=trial.reason if trial.not_applicable else "",
        parameters_added=size.parameters_added if size else None,
        parameters_changed=size.parameters_changed if size else None,
        other_numbers=size.other_numbers if size else None,
        artefact_bytes=size.bytes if size else None,
        changed=trial.changed,
    )


def _problems_of(submission: Submission, backbone: Backbone, trial: Trial) -> Iterator[str]:
    if trial.not_applicable:
        return
    yield from trial.remarks.problems
    if trial.reason and trial.remarks.scored and trial.detail:
        yield (
            f"{trial.reason}. The detector works in the process that ran adapt, but not in another: "
            "keep what it needs in the detector, not in global variables or its class"
        )
    elif trial.reason:
        yield trial.reason  # in one line: `attnbench try` shows the full traceback
    if trial.size is None:
        return
    if not trial.deterministic:
        yield (
            "two adaptations with the same seed and images gave different artefacts; draw random "
            "numbers from torch's default generator, which attnbench seeds"
        )
    declared = submission.declared_for(backbone.name)
    counted = trial.size.parameters_added + trial.size.parameters_changed
    if declared is not None and declared != counted:
        yield (
            f"submission.toml declares {declared:,} parameters, but the artefact has {counted:,}; "
            f'write declared_parameters = {counted} there, below [backbone."{backbone.name}"] if it '
            "depends on the backbone"
        )


def _about_batch_norm(backbone: Backbone, changed: Sequence[str]) -> Iterator[str]:
    statistics = sorted({name for name, _ in backbone.named_buffers()} & set(changed))
    if statistics:
        yield (
            "adapt changed buffers of the backbone, which count as changed parameters "
            f"({len(statistics)}, such as {statistics[0]!r}): keep the backbone in eval mode, as it "
            "was given, unless the method means to change them"
        )


def noise_episode(
    backbone: Backbone, per_class: int = _IMAGES_PER_CLASS, tested: int | None = None
) -> Episode:
    """Return an episode of white noise, with the backbone's first label as its target.

    Args:
        backbone: decides the size and normalisation of the images.
        per_class: the number of positives and of negatives to adapt on, and of positives to test on.
        tested: the number of images to test on; by default twice `per_class`.
    """
    size = backbone.preprocessing.size
    rng = np.random.default_rng(0)
    count = 2 * per_class + (tested or 2 * per_class)
    pixels = rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return Episode.of_pixels(
        pixels,
        per_class=per_class,
        label=None if backbone.labels is None else 0,
        preprocessing=backbone.preprocessing,
    )
