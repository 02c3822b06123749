"""Nearest prototype with SimpleShot's transformation: centred, of unit length (CL2N)."""

from torch import Tensor, nn
from torch.nn.functional import normalize

from attnbench import Backbone
from attnbench.adaptation import LinearDetector, encoder, quick_outputs


class Direction(nn.Module):
    """Features `[n, d]` to unit vectors: their directions as seen from `centre`, `[d]`."""

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.centre = nn.Parameter(centre)

    def forward(self, features: Tensor) -> Tensor:
        return normalize(features - self.centre)


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    features = encoder(backbone)
    pos, neg = (quick_outputs(features, side) for side in (pos, neg))
    direction = Direction((pos.mean(dim=0) + neg.mean(dim=0)) / 2)
    return LinearDetector(
        nn.Sequential(features, direction), *nearest(direction(pos), direction(neg))
    )


def nearest(pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """Weight `[d]` and bias of the nearest mean: above 0 on the positives' side.

    |x - m-|^2 - |x - m+|^2 = 2 (m+ - m-).x + |m-|^2 - |m+|^2: a plane, half-way between the means.

    Args:
        pos, neg: transformed features `[n, d]`.
    """
    m_pos, m_neg = pos.detach().mean(dim=0), neg.detach().mean(dim=0)
    return 2 * (m_pos - m_neg), m_neg.square().sum() - m_pos.square().sum()
