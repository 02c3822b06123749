"""Tip-Adapter (Zhang et al. 2022): a cache of the adaptation images beside the frozen head."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from attnbench import Backbone
from attnbench.adaptation import Detector, Pooled, best, log_odds, quick_outputs


class Cache(nn.Module):
    """What cached images say of features `[n, ...]`: `[n]`, above 0 where they are like positives.

        sum_i value_i exp(-beta (1 - cos(feature, key_i))),   value_i = alpha / k+ or -alpha / k-

    Args:
        pos, neg: features of the k+ and the k- images to keep, `[k, ...]`.
        alpha: how much the cache counts.
        beta: how alike an image has to be to count.
    """

    def __init__(self, pos: Tensor, neg: Tensor, alpha: float, beta: float) -> None:
        super().__init__()
        self.pooled = Pooled()
        values = [pos.new_full((len(side),), alpha / len(side)) for side in (pos, neg)]
        self.keys = nn.Parameter(normalize(self.pooled(torch.cat([pos, neg]))))
        self.values = nn.Parameter(torch.cat([values[0], -values[1]]))
        self.beta = nn.Parameter(pos.new_tensor(beta))

    def forward(self, features: Tensor) -> Tensor:
        cosines = normalize(self.pooled(features)) @ self.keys.T
        return torch.exp(self.beta * (cosines - 1)) @ self.values


class CachedNetwork(nn.Module):
    """The network's outputs `[n, classes]`, what the cache says added to the target's logit."""

    def __init__(self, before: nn.Module, head: nn.Module, cache: Cache, target: int) -> None:
        super().__init__()
        self.before, self.head, self.cache, self.target = before, head, cache, target

    def forward(self, images: Tensor) -> Tensor:
        features = self.before(images)
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
    before, head, target = backbone.upto(last), backbone.after(last), backbone.target

    def scorer(
        setting: tuple[float, float], pos: Tensor, neg: Tensor
    ) -> Callable[[Tensor], Tensor]:
        cache = Cache(pos, neg, *setting)
        if target is None:
            return cache
        return lambda features: log_odds(head(features), target) + cache(features)

    sides = [quick_outputs(before, side) for side in (pos, neg)]
    settings = product(
        torch.logspace(alpha_lowest, alpha_highest, alphas).tolist(),
        torch.logspace(beta_lowest, beta_highest, betas).tolist(),
    )
    cache = Cache(*sides, *best(settings, scorer, *sides))
    if target is None:
        return nn.Sequential(before, cache)
    return Detector(CachedNetwork(before, head, cache, target), target, pos[:1])
