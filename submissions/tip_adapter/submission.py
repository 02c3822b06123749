"""Tip-Adapter (Zhang et al. 2022): a cache of the adaptation images added to the frozen head.

    score = log-odds of the target + Σ_i value_i exp(-β (1 - cos(x, key_i)))

Keys are the features of the adaptation images, and values α / k+ or -α / k-. Nothing is trained.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    GlobalAveragePool,
    frozen_features,
    log_odds,
    select_by_validation,
)


class Cache(nn.Module):
    """Map features `[n, ...]` to scores `[n]`, above 0 if they resemble the positives more.

    Args:
        pos, neg: features of the k+ positives and the k- negatives to store, `[k, ...]`.
        alpha: the weight of the cache.
        beta: how fast the weight of a stored image falls with its distance.
    """

    def __init__(self, pos: Tensor, neg: Tensor, alpha: float, beta: float) -> None:
        super().__init__()
        self.pool = GlobalAveragePool()
        values = [pos.new_full((len(rows),), alpha / len(rows)) for rows in (pos, neg)]
        self.keys = nn.Parameter(normalize(self.pool(torch.cat([pos, neg]))))
        self.values = nn.Parameter(torch.cat([values[0], -values[1]]))
        self.beta = nn.Parameter(pos.new_tensor(beta))

    def forward(self, features: Tensor) -> Tensor:
        cosines = normalize(self.pool(features)) @ self.keys.T
        return torch.exp(self.beta * (cosines - 1)) @ self.values


class CachedNetwork(nn.Module):
    """Map images to logits `[n, classes]`, with the cache's score added to the target's logit."""

    def __init__(self, encoder: nn.Module, head: nn.Module, cache: Cache, target: int) -> None:
        super().__init__()
        self.encoder, self.head, self.cache, self.target = encoder, head, cache, target

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)
        logits = self.head(features)
        logits[:, self.target] += self.cache(features)
        return logits


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    alpha_lowest: float,
    alpha_highest: float,
    alphas: int,
    beta_lowest: float,
    beta_highest: float,
    betas: int,
) -> nn.Module:
    last = [name for name in backbone.stages if name != "head"][-1]
    encoder, head, target = backbone.upto(last), backbone.after(last), backbone.target

    def fit(candidate: tuple[float, float], pos: Tensor, neg: Tensor) -> Callable[[Tensor], Tensor]:
        cache = Cache(pos, neg, *candidate)
        if target is None:
            return cache
        return lambda features: log_odds(head(features), target) + cache(features)

    features = [frozen_features(encoder, images) for images in (pos, neg)]
    candidates = product(
        torch.logspace(alpha_lowest, alpha_highest, alphas).tolist(),
        torch.logspace(beta_lowest, beta_highest, betas).tolist(),
    )
    cache = Cache(*features, *select_by_validation(candidates, fit, *features))
    if target is None:
        return nn.Sequential(encoder, cache)
    network = CachedNetwork(encoder, head, cache, target)
    return Detector(network, target, pos[:1], threshold=False)
