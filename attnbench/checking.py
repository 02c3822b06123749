"""`attnbench check`: does a submission keep the contract? Made-up images, seconds, no data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.evaluation.evaluator import Evaluator
from attnbench.evaluation.warm import Template
from attnbench.runs.planning import require_device
from attnbench.stimuli.episodes import Episode
from attnbench.submission import load_submission

DEFAULT_BACKBONE = "shipped/figures-vgg"
_IMAGES_PER_SIDE = 4
_TIMEOUT = 300.0


@dataclass(frozen=True)
class CheckReport:
    """What `check` found. The counts are None after a failure.

    `ok` when there are no problems, or the only one is that the submission itself says that it does not
    apply to this backbone: then `refused`.
    """

    submission: str
    ok: bool
    problems: tuple[str, ...]
    backbone: str
    parameters_added: int | None
    parameters_changed: int | None
    artefact_bytes: int | None
    parameters_opaque: int | None
    refused: bool


def check(
    submission: str | Path,
    *,
    backbone: str | None = None,
    untrained: bool = False,
    device: str = "cpu",
    data: Path | None = None,
) -> CheckReport:
    """Adapt twice on made-up images, load the artefact elsewhere, predict, count and compare.

    Args:
        submission: a folder, or the name of a shipped submission.
        backbone: the backbone to try it on, by default the one of mini's ImageNet stand-in.
        untrained: take the backbone without its weights: enough for counting.
        device: `cpu` or `cuda`.
        data: a folder that may hold the backbone's weights.

    Raises:
        AttnbenchError: where the manifest or the backbone cannot be read.
    """
    require_device(device)
    chosen = load_submission(submission)
    network = load(backbone or DEFAULT_BACKBONE, untrained=untrained, data=data)
    with Template(data=data) as template:
        template.import_modules(chosen.modules)
        evaluator = Evaluator(network, template, device=device, untrained=untrained)
        trial = evaluator.try_out(chosen, made_up_episode(network), _TIMEOUT)
    problems = [trial.reason] if trial.reason else []
    if trial.refused:
        problems = [f"not applicable: {trial.reason}"]
    if trial.size is not None and not trial.deterministic:
        problems.append(
            "two adaptations with the same seed and images gave different artefacts; "
            "draw random numbers from torch's own generator, which attnbench seeds"
        )
    declared = chosen.declared_for(network.name)
    counted = trial.size and trial.size.parameters_added + trial.size.parameters_changed
    if declared is not None and counted is not None and declared != counted:
        problems.append(
            f"submission.toml declares {declared:,} parameters, the artefact has {counted:,}"
        )
    return CheckReport(
        submission=chosen.manifest.name,
        ok=not problems or trial.refused,
        problems=tuple(problems),
        backbone=network.name,
        parameters_added=trial.size.parameters_added if trial.size else None,
        parameters_changed=trial.size.parameters_changed if trial.size else None,
        artefact_bytes=trial.size.bytes if trial.size else None,
        parameters_opaque=trial.size.parameters_opaque if trial.size else None,
        refused=trial.refused,
    )


def made_up_episode(backbone: Backbone, per_side: int = _IMAGES_PER_SIDE) -> Episode:
    """White noise, with the backbone's first label as target.

    Args:
        per_side: how many positives and negatives, to adapt on and to be tested by.
    """
    size = backbone.preprocessing.size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4 * per_side, 3, size, size), dtype=np.uint8)
    return Episode.of_pixels(
        pixels,
        per_side=per_side,
        label=None if backbone.labels is None else 0,
        preprocessing=backbone.preprocessing,
    )
