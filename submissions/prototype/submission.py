"""Nearest prototype with the features of SimpleShot (Wang et al. 2019): centred, of unit length.

    u = (x - c) / |x - c|,   score = |u - m-|^2 - |u - m+|^2

with the centre c and the class means m+ and m- of u.
"""

from torch import Tensor, nn
from torch.nn.functional import normalize

from attnbench import Backbone
from attnbench.adaptation import LinearDetector, Precision, frozen_features, pooled_encoder


class CentreAndNormalise(nn.Module):
    """Map features `[n, d]` to the unit vectors that point to them from `centre`, `[d]`."""

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.centre = nn.Parameter(centre)

    def forward(self, features: Tensor) -> Tensor:
        return normalize(features - self.centre)


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, precision: Precision) -> nn.Module:
    encoder = pooled_encoder(backbone)
    pos, neg = (frozen_features(encoder, images, precision=precision) for images in (pos, neg))
    transform = CentreAndNormalise((pos.mean(dim=0) + neg.mean(dim=0)) / 2)
    weight, bias = nearest_mean(transform(pos), transform(neg))
    return LinearDetector(nn.Sequential(encoder, transform), weight, bias)


def nearest_mean(pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """Return a linear score that is above 0 where the mean of the positives is nearer.

    |u - m-|^2 - |u - m+|^2 = 2 (m+ - m-).u + |m-|^2 - |m+|^2

    Args:
        pos, neg: transformed features `[n, d]`.

    Returns:
        The weight vector `[d]` and the bias.
    """
    pos_mean, neg_mean = pos.detach().mean(dim=0), neg.detach().mean(dim=0)
    return 2 * (pos_mean - neg_mean), neg_mean.square().sum() - pos_mean.square().sum()
