"""`attnbench.episode`: the images and the backbone of one episode, for one's own experiments."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnbench.backbones.backbone import Backbone
from attnbench.devices import require_device
from attnbench.errors import AttnbenchError
from attnbench.judge.resource_cache import ResourceCache
from attnbench.runs.chosen_tasks import choose_tasks
from attnbench.stimuli.episode import Episode
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.text import did_you_mean
from attnbench.vocabulary import DeviceKind


@dataclass(frozen=True)
class OpenEpisode:
    """One target of a task with one seed, labels included.

    Attributes:
        task, track: names.
        backbone: the backbone on the device, in eval mode, with its `target` set.
        drawn: the episode as the judge draws it.
        stimuli: all episodes of the track.
    """

    task: str
    track: str
    backbone: Backbone
    drawn: Episode = field(repr=False)
    stimuli: TrackStimuli = field(repr=False)

    @property
    def target(self) -> str:
        """The target's name."""
        return self.drawn.target

    @property
    def seed(self) -> int:
        """The seed of the draw."""
        return self.drawn.seed

    @cached_property
    def pos(self) -> Tensor:
        """Positives to adapt on, float32 `[n, 3, H, W]`, normalised for the backbone."""
        return self._tensor(self.drawn.pos)

    @cached_property
    def neg(self) -> Tensor:
        """Negatives to adapt on, float32 `[n, 3, H, W]`, normalised for the backbone."""
        return self._tensor(self.drawn.neg)

    @cached_property
    def images(self) -> Tensor:
        """All test images, float32 `[n, 3, H, W]`, normalised. The positives come first."""
        return self._tensor(self.drawn.make(np.arange(len(self.present))))

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether the target is in each test image, bool `[n]`."""
        return self.drawn.present

    @property
    def image_ids(self) -> tuple[str, ...]:
        """A name for each test image."""
        return self.drawn.image_ids

    def _tensor(self, images: NDArray[np.float32]) -> Tensor:
        device = next(self.backbone.parameters()).device
        return torch.from_numpy(images.copy()).to(device)


def episode(
    task: str | Path,
    target: str | None = None,
    seed: int = 0,
    *,
    track: str | None = None,
    backbone: str | None = None,
    device: DeviceKind = "cpu",
    data: Path | None = None,
    untrained: bool = False,
) -> OpenEpisode:
    """Return one episode with its images, its labels and its backbone.

    Args:
        task: the name of a task, or a task file.
        target: one of the task's targets; by default the first.
        seed: the seed of the draw.
        track, backbone, device, data, untrained: as for `attnbench.evaluate`. By default the track
            `mini` and the first backbone of the track.

    Raises:
        AttnbenchError: if something of that name does not exist, or data is missing.
    """
    require_device(device)
    (chosen,) = choose_tasks([task], track, backbone)
    resources = ResourceCache(data, untrained=untrained)
    name = chosen.backbones[0]
    stimuli = resources.stimuli(chosen.definition, name)
    if target is not None and target not in stimuli.targets:
        meant = did_you_mean(target, stimuli.targets, ": ")
        raise AttnbenchError(
            f"{chosen.task.name} has no target {target!r}{meant} "
            f"(its targets are {', '.join(stimuli.targets)[:1000]})"
        )
    drawn = stimuli.episode(stimuli.targets[0] if target is None else target, seed)
    network = resources.backbone(name).to(device)
    network.target = drawn.label
    return OpenEpisode(chosen.task.name, chosen.track, network, drawn, stimuli)
