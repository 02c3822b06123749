"""`attnbench check`: does a submission keep the contract? Checked in seconds, on noise images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnbench.backbones.backbone import Backbone
from attnbench.devices import require_device
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Trial
from attnbench.judge.judge import open_judge
from attnbench.stimuli.episodes import Episode
from attnbench.submission import Submission, load_submission
from attnbench.vocabulary import DeviceKind

DEFAULT_BACKBONE = "shipped/figures-vgg"
_IMAGES_PER_CLASS = 4
_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class CheckReport:
    """The result of a check. The counts are None after a failure.

    Attributes:
        submission: the submission's name.
        ok: whether there are no problems, or the submission says that it does not apply.
        problems: what is wrong, one problem per string.
        backbone: the name of the backbone that it was checked on.
        parameters_added: scalars added to the backbone.
        parameters_changed: scalars in tensors that replace one of the backbone's.
        artefact_bytes: the size of the artefact in bytes.
        parameters_opaque: how many of the added scalars are not in tensors.
        not_applicable: whether the submission says that it does not apply to this backbone.
    """

    submission: str
    ok: bool
    problems: tuple[str, ...]
    backbone: str
    parameters_added: int | None
    parameters_changed: int | None
    artefact_bytes: int | None
    parameters_opaque: int | None
    not_applicable: bool


def check(
    submission: str | Path,
    *,
    backbone: str | None = None,
    untrained: bool = False,
    device: DeviceKind = "cpu",
    data: Path | None = None,
) -> CheckReport:
    """Adapt twice to noise images, predict in a fresh process, count parameters, and compare.

    Args:
        submission: a folder, or the name of a shipped submission.
        backbone: the backbone to check it on. By default a small shipped one.
        untrained: whether to leave the weights as initialised, which suffices for counting.
        device: `cpu` or `cuda`.
        data: a folder that may hold the backbone's weights.

    Raises:
        AttnbenchError: if the manifest or the backbone cannot be read.
    """
    require_device(device)
    checked = load_submission(submission)
    conditions = Conditions(device=device, modules=checked.modules, data=data, untrained=untrained)
    with open_judge(conditions) as judge:
        evaluator = judge.evaluator(backbone or DEFAULT_BACKBONE)
        network = judge.resources.backbone(backbone or DEFAULT_BACKBONE)
        trial = evaluator.try_out(checked, noise_episode(network), _TIMEOUT_SECONDS)
    problems = _problems_of(checked, network, trial)
    size = trial.size
    return CheckReport(
        submission=checked.name,
        ok=not problems or trial.not_applicable,
        problems=tuple(problems),
        backbone=network.name,
        parameters_added=size.parameters_added if size else None,
        parameters_changed=size.parameters_changed if size else None,
        artefact_bytes=size.bytes if size else None,
        parameters_opaque=size.parameters_opaque if size else None,
        not_applicable=trial.not_applicable,
    )


def _problems_of(submission: Submission, backbone: Backbone, trial: Trial) -> list[str]:
    if trial.not_applicable:
        return [f"not applicable: {trial.reason}"]
    problems = [trial.reason] if trial.reason else []
    if trial.size is None:
        return problems
    if not trial.deterministic:
        problems.append(
            "two adaptations with the same seed and images gave different artefacts; draw random "
            "numbers from torch's default generator, which attnbench seeds"
        )
    declared = submission.declared_for(backbone.name)
    counted = trial.size.parameters_added + trial.size.parameters_changed
    if declared is not None and declared != counted:
        problems.append(
            f"submission.toml declares {declared:,} parameters, but the artefact has {counted:,}"
        )
    return problems


def noise_episode(backbone: Backbone, per_class: int = _IMAGES_PER_CLASS) -> Episode:
    """Return an episode of white noise, with the backbone's first label as its target.

    Args:
        backbone: decides the size and normalisation of the images.
        per_class: the number of positives and of negatives, for adapting and again for testing.
    """
    size = backbone.preprocessing.size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4 * per_class, 3, size, size), dtype=np.uint8)
    return Episode.of_pixels(
        pixels,
        per_class=per_class,
        label=None if backbone.labels is None else 0,
        preprocessing=backbone.preprocessing,
    )
