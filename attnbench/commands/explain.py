"""`attnbench explain`: which channels an adaptation amplifies, and where in the image."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from attnbench.commands.in_process import adapt_in_process
from attnbench.commands.open_episode import OpenEpisode, episode
from attnbench.commands.try_out import import_adapt
from attnbench.errors import AttnbenchError
from attnbench.statistics.amplification import (
    channel_sensitivities,
    rank_correlation,
    share_inside,
)
from attnbench.statistics.intervals import Floats
from attnbench.submission import load_submission

# A stage counts as reached by an adaptation if its input changes by at least this share. Frozen layers
# may run in another order or precision, which changes inputs by less.
_CHANGED = 0.001
_BATCH = 16
# How many positives are kept with their maps.
_PICTURES = 64


@dataclass(frozen=True)
class Explanation:
    """What one adaptation amplifies, at the input of the first stage that it reaches.

    Attributes:
        submission: the submission's name.
        episode: the episode.
        stage: the name of that stage.
        gains: float `[c]`, what each channel is multiplied by: the slope of its adapted activations
            over its original ones through the origin; NaN for a channel that is silent.
        d_a: float `[c]`, of each channel's mean activation before the adaptation, on test images.
        correlation: Spearman's rank correlation of both with its 95 % interval; NaN for equal gains.
        change: float `[k, h, w]`, the sum over channels of the absolute change of activations, for
            the first positive test images; None if the activations are not maps.
        inside: the mean shares of the change, of the original activations and of the area that are
            inside the object; None if the data does not say where it is.
    """

    submission: str
    episode: OpenEpisode = field(repr=False)
    stage: str
    gains: Floats = field(repr=False)
    d_a: Floats = field(repr=False)
    correlation: tuple[float, float, float]
    change: Floats | None = field(repr=False)
    inside: tuple[float, float, float] | None


def explain(
    submission: str | Path,
    *,
    task: str | Path = "imagenet-standard",
    target: str | None = None,
    seed: int = 0,
    track: str | None = None,
    backbone: str | None = None,
    data: Path | None = None,
) -> Explanation:
    """Adapt in this process, and compare the activations of the network before and after.

    Args:
        submission: a folder, or the name of a shipped submission.
        task, target, seed, track, backbone, data: as for `attnbench.episode`.

    Raises:
        AttnbenchError: if the submission or the episode cannot be read, the submission does not keep
            the contract, or the input of no stage changes.
        Exception: whatever the submission raises.
    """
    read = load_submission(submission)
    chosen = episode(task, target, seed, track=track, backbone=backbone, data=data)
    settings = read.hyperparameters_for(chosen.backbone.name)
    adapted = adapt_in_process(
        import_adapt(read.folder), chosen.backbone, chosen.drawn, settings, submission=read
    )
    original = copy.deepcopy(chosen.backbone)
    before = _Recorder(dict(original.named_children()))
    after = _Recorder(adapted.stages)
    comparisons = _compare(original, adapted.detector, before, after, chosen)
    reached = next((name for name, found in comparisons.items() if found.is_changed), None)
    if reached is None:
        raise AttnbenchError(
            f"{read.name} changes the input of no stage of {chosen.backbone.name}, so there is "
            "nothing to explain: it changes the read-out only, or runs the stages several times"
        )
    found = comparisons[reached]
    d_a = channel_sensitivities(found.responses, chosen.present)
    masks = chosen.stimuli.masks_of_positives(chosen.target, chosen.seed)
    return Explanation(
        submission=read.name,
        episode=chosen,
        stage=reached,
        gains=found.gains,
        d_a=d_a,
        correlation=rank_correlation(found.gains, d_a),
        change=found.change,
        inside=None if masks is None or found.change is None else _inside(found, masks),
    )


class _Recorder:
    """Records the inputs of stages in one forward pass.

    Args:
        stages: the modules by name.
    """

    def __init__(self, stages: Mapping[str, nn.Module]) -> None:
        self._stages = stages
        self.inputs: dict[str, list[Tensor]] = {}

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record while the context is open. Earlier inputs are forgotten."""
        self.inputs = {name: [] for name in self._stages}
        hooks = [
            module.register_forward_pre_hook(self._keep(name))
            for name, module in self._stages.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _keep(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                self.inputs[name].append(inputs[0].detach().float())

        return keep


class _Comparison:
    """Activations at the input of one stage, before and after an adaptation, summed over images."""

    def __init__(self) -> None:
        self.before: list[Tensor] = []
        self._maps: list[tuple[Tensor, Tensor]] = []
        self._products: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0
        self._difference = self._size = 0.0

    def add(self, before: Tensor, after: Tensor, *, keep: int) -> None:
        """Add a batch: activations `[n, c, h, w]`, `[n, t, c]` or `[n, c]`.

        Args:
            before, after: the activations.
            keep: how many of the images to keep maps of.
        """
        is_map = before.dim() == 4
        channels = 1 if is_map else before.dim() - 1
        others = tuple(d for d in range(before.dim()) if d != channels)
        places = others[1:]
        self.before.append(before.mean(dim=places) if places else before)
        self._products = self._products + (before * after).sum(dim=others).double()
        self._squares = self._squares + (before * before).sum(dim=others).double()
        self._difference += float((after - before).norm() ** 2)
        self._size += float(before.norm() ** 2)
        if is_map and keep > 0:
            change = (after - before)[:keep].abs().sum(dim=1)
            self._maps.append((change, before[:keep].abs().sum(dim=1)))

    @property
    def is_changed(self) -> bool:
        """Whether the adaptation reaches this stage."""
        return bool(self._difference > _CHANGED**2 * self._size)

    @property
    def responses(self) -> Floats:
        """The mean activation of each channel before the adaptation, `[n, c]`."""
        return torch.cat(self.before).double().numpy()

    @property
    def gains(self) -> Floats:
        """What each channel is multiplied by, `[c]`; NaN for a channel that is silent."""
        products, squares = torch.as_tensor(self._products), torch.as_tensor(self._squares)
        return torch.where(squares > 0, products / squares, torch.nan).numpy()

    @property
    def change(self) -> Floats | None:
        """The absolute change of the kept images, summed over channels, `[k, h, w]`."""
        return torch.cat([maps[0] for maps in self._maps]).double().numpy() if self._maps else None

    @property
    def activation(self) -> Floats:
        """The absolute original activation of the kept images, `[k, h, w]`."""
        return torch.cat([maps[1] for maps in self._maps]).double().numpy()


@torch.no_grad()
def _compare(
    original: nn.Module,
    detector: nn.Module,
    before: _Recorder,
    after: _Recorder,
    chosen: OpenEpisode,
) -> dict[str, _Comparison]:
    """Compare the inputs of all stages on the test images; positives come first."""
    comparisons: dict[str, _Comparison] = {}
    detector.eval()
    positives = int(chosen.present.sum())
    for start in range(0, len(chosen.present), _BATCH):
        order = np.arange(start, min(start + _BATCH, len(chosen.present)))
        images = torch.from_numpy(chosen.drawn.make(order))
        with before.recording(), after.recording():
            original(images)
            detector(images)
        keep = min(_PICTURES, positives) - start
        for name, (first, *_) in before.inputs.items():
            seen = after.inputs[name]
            # A stage that a method runs several times, or on other images, cannot be compared.
            if len(seen) == 1 and seen[0].shape == first.shape:
                comparisons.setdefault(name, _Comparison()).add(first, seen[0], keep=keep)
    complete = len(chosen.present)
    return {
        name: found
        for name, found in comparisons.items()
        if sum(map(len, found.before)) == complete
    }


def _inside(found: _Comparison, masks: NDArray[np.float32]) -> tuple[float, float, float]:
    change = found.change
    assert change is not None
    sized = functional.interpolate(
        torch.from_numpy(masks[: len(change)])[:, None], change.shape[1:], mode="area"
    )[:, 0].numpy()
    shares = share_inside(change, sized), share_inside(found.activation, sized)
    return float(np.nanmean(shares[0])), float(np.nanmean(shares[1])), float(sized.mean())
