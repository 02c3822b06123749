"""The read-out that all shipped submissions share."""

from __future__ import annotations

import torch
from torch import Tensor


def log_odds(logits: Tensor, target: int) -> Tensor:
    """A classifier's log-odds of one class against all others together.

    log p / (1 - p) of the soft-max = logit of the target - logsumexp of the other logits; above 0
    the target is more likely than everything else together.

    Args:
        logits: `[n, classes]`, at least two classes.
        target: index of the class.

    Returns:
        `[n]`.
    """
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return logits[:, target] - torch.logsumexp(others, dim=1)
