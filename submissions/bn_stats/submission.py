"""Batch-norm statistics estimated again on the adaptation images, without their labels."""

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, batches, channels_last, solve_penalised


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    prior: float,
    steps: int,
) -> nn.Module:
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise NotApplicable("the backbone has no batch norm")
    images = torch.cat([pos, neg])
    estimate(backbone, norms, images[torch.randperm(len(images), device=images.device)], prior)
    detector = Detector(nn.Identity(), backbone.target, pos[:1], frozen=backbone)
    if backbone.target is None:
        solve_penalised(detector.suffix, *detector.features(pos, neg), steps=steps)
    return detector


@torch.no_grad()
def estimate(network: nn.Module, norms: list[nn.BatchNorm2d], images: Tensor, prior: float) -> None:
    """Move each layer's mean and variance to those of its inputs, from the first layer to the last.

    A layer normalises by its new statistics already when the next one's are taken. They are weighted
    means: what the layer has counts as `prior` images, and as all those seen when more batches follow.

    Args:
        network: in eval mode.
        norms: layers of `network`, changed in place.
        images: `[n, 3, h, w]`, in any order that mixes the classes.
        prior: how many images the statistics that the backbone came with count as.
    """
    seen = prior

    def update(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        (maps,) = inputs
        share = len(maps) / (seen + len(maps))
        variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance, share)

    handles = [norm.register_forward_pre_hook(update) for norm in norms]
    for rows in batches(images):
        network(channels_last(images[rows]))
        seen += len(images[rows])
    for handle in handles:
        handle.remove()
