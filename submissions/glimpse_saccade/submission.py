"""Saccades (after Farkya et al. 2022): only the patches that attention selects are visible.

A first pass through the lower half of the network gives maps x. With the policy `activity`, the 30 %
of the patches with the largest activity a = Σ_k x_k² are visible (Zagoruyko & Komodakis 2017). With
the policy `learned`, those with the largest log a + w . x are, where w is trained. Then the last layer
is trained on what is visible.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    channels_last,
    fine_tune,
    fit_lbfgs_cv,
    middle_stage,
    num_channels,
    split_trainable_head,
    stages_with_maps,
)


class Saccades(nn.Module):
    """Keep `kept` of `grid` x `grid` patches of each image `[n, 3, h, w]` and blank the others.

    Blanked pixels are zero, which is the mean colour. Which patches are kept has no derivative. In
    the backward pass, it is assumed to change as the sigmoid of the attention above that of the
    patches at the limit (a straight-through estimate).

    Args:
        first_pass: images to maps `[n, c, h', w']`, or tokens `[n, 1 + h' w', c]`.
        grid: patches along a side.
        kept: the number of patches.
        weights: w, `[c]`, or None for the policy `activity`.
    """

    def __init__(
        self, first_pass: nn.Module, grid: int, kept: int, weights: nn.Parameter | None
    ) -> None:
        super().__init__()
        self.first_pass = first_pass
        self.grid = grid
        self.kept = kept
        self.weights = weights

    def attention(self, images: Tensor) -> Tensor:
        """Return the attention to each patch, `[n, grid, grid]`."""
        with torch.no_grad():
            # One image at a time, because rounding depends on the size of a batch. A tiny difference
            # can decide which patch is the last to be kept.
            maps = torch.cat([self.first_pass(channels_last(image)) for image in images.split(1)])
        if maps.dim() == 3:
            maps = maps[:, 1:].transpose(1, 2)  # the class token has no position
            side = round(maps.shape[2] ** 0.5)
            maps = maps.unflatten(2, (side, side))
        activity = self.by_patch(maps.square().sum(dim=1, keepdim=True))
        if self.weights is None:
            return activity
        # Maps have a mean square of one, so that learning rates suit all backbones.
        scale = maps.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
        evidence = (maps / scale * self.weights[:, None, None]).sum(dim=1, keepdim=True)
        return activity.clamp(min=1e-12).log() + self.by_patch(evidence)

    def by_patch(self, maps: Tensor) -> Tensor:
        """Resample `[n, 1, h', w']` to one value for each patch, `[n, grid, grid]`."""
        size = (self.grid, self.grid)
        return interpolate(maps, size, mode="bilinear", antialias=True).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        attention = self.attention(images).flatten(1)
        largest = attention.topk(min(self.kept + 1, attention.shape[1]))
        chosen = largest.indices[:, : self.kept]
        mask = torch.zeros_like(attention).scatter_(1, chosen, 1)
        if attention.requires_grad:
            limit = largest.values[:, self.kept - 1 :].mean(dim=1, keepdim=True)
            soft = (attention - limit).sigmoid()
            mask = mask + (soft - soft.detach())
        patches = mask.view(-1, 1, self.grid, self.grid)
        return images * interpolate(patches, images.shape[2:])


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    policy: str,
    grid: int,
    kept_fraction: float,
    steps: int,
    policy_rate: float,
    policy_epochs: int,
) -> nn.Module:
    if policy not in ("activity", "learned"):
        raise ValueError(f"policy must be 'activity' or 'learned', not {policy!r}")
    shapes = stages_with_maps(backbone, pos[:1])
    middle = middle_stage(backbone, shapes)
    # All patches have the same size: 8 x 8 of them for 48 or 224 pixels, 7 x 7 for 28.
    grid = next((side for side in range(grid, 4, -1) if pos.shape[2] % side == 0), grid)
    weights = None
    if policy == "learned":
        weights = nn.Parameter(torch.zeros(num_channels(shapes[middle]), device=pos.device))
    kept = max(1, int(kept_fraction * grid**2))
    saccades = Saccades(backbone.upto(middle), grid, kept, weights)
    network = nn.Sequential(saccades, *backbone)
    if weights is not None:
        searching = Detector(network, backbone.target, pos[:1])
        fine_tune(searching, pos, neg, learning_rate=policy_rate, epochs=policy_epochs)
        weights.requires_grad_(False)
    frozen, head = split_trainable_head(network, backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen, threshold=False)
    fit_lbfgs_cv(detector.scorer, *detector.frozen_features(pos, neg), steps=steps)
    return detector
