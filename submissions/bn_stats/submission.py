"""Batch-norm statistics re-estimated on unlabelled adaptation images (Schneider et al. 2020).

With N pseudo-images for the pretrained statistics and n adaptation images, each mean becomes

    m = N / (N + n) m_pretrained + n / (N + n) m_adaptation

and each variance likewise.
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, batches, channels_last, fit_readout


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
    shuffled = images[torch.randperm(len(images), device=images.device)]
    update_statistics(backbone, norms, shuffled, prior)
    detector = Detector(nn.Identity(), backbone.target, pos[:1], frozen=backbone)
    fit_readout(detector, *detector.frozen_features(pos, neg), steps=steps)
    return detector


@torch.no_grad()
def update_statistics(
    network: nn.Module, norms: list[nn.BatchNorm2d], images: Tensor, prior: float
) -> None:
    """Move each layer's mean and variance towards those of its inputs, from first to last layer.

    A layer normalises by its new statistics before those of the next layer are computed. If the
    images come in several batches, the running statistics have the weight of `prior` and of all
    images so far.

    Args:
        network: in eval mode.
        norms: layers of `network`, changed in place.
        images: `[n, 3, h, w]`, shuffled, so that each batch mixes the classes.
        prior: the weight of the pretrained statistics, as a number of images.
    """
    weight = prior

    def update(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        (maps,) = inputs
        fraction = len(maps) / (weight + len(maps))
        variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
        norm.running_mean.lerp_(mean, fraction)
        norm.running_var.lerp_(variance, fraction)

    handles = [norm.register_forward_pre_hook(update) for norm in norms]
    for rows in batches(images):
        network(channels_last(images[rows]))
        weight += len(images[rows])
    for handle in handles:
        handle.remove()
