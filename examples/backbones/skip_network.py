"""A small residual network: any `nn.Module` that maps images to vectors will do."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SkipNetwork(nn.Module):
    """Convolutions with a skip connection between them, and a linear classifier.

    Args:
        classes: the number of outputs.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16))
        self.first = nn.Conv2d(16, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.wide = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.classifier = nn.Linear(32, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[n, classes]` of images `[n, 3, H, W]`."""
        features = F.relu(self.stem(images))
        features = F.relu(features + self.second(F.relu(self.first(features))))
        features = F.relu(self.wide(features))
        pooled = F.adaptive_avg_pool2d(features, 1).flatten(1)
        return self.classifier(pooled)


def make() -> nn.Module:
    """Return the network without trained weights. attnbench calls this function."""
    return SkipNetwork(classes=3)
