"""Deep visual prompt tuning (Jia et al. 2022): learned tokens in every block of a transformer.

[z, _] = block([z, p])   for each block, with its own learned tokens p
"""

from typing import Any

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fine_tune


class PromptedBlock(nn.Module):
    """A transformer block whose tokens `[n, t, d]` can also attend to `count` learned ones.

    The block's outputs for the learned tokens are dropped, since the next block has its own. Where
    they stand among the tokens makes no difference: positions are encoded in the image's tokens.
    """

    def __init__(self, block: nn.Module, count: int, centre: Tensor) -> None:
        super().__init__()
        self.block = block
        # The paper's bound, for patches that have as many values as the tokens.
        bound = (3 / len(centre)) ** 0.5
        noise = torch.empty(count, len(centre)).uniform_(-bound, bound)
        self.prompts = nn.Parameter(centre + noise.to(centre.device))

    def forward(self, tokens: Tensor) -> Tensor:
        prompts = self.prompts.expand(len(tokens), -1, -1)
        return self.block(torch.cat([tokens, prompts], dim=1))[:, : tokens.shape[1]]


@torch.no_grad()
def insert_prompts(backbone: Backbone, images: Tensor, count: int) -> list[str]:
    """Give each block prompts that start near the mean of its input tokens.

    So the frozen head gets nearly the same class token as before. Prompts around zero would change
    it, as the block normalises them to the size of the image's tokens.

    Args:
        backbone: changed in place.
        images: `[n, 3, h, w]`, a few.
        count: the number of prompts in each block.

    Returns:
        The names of the blocks.
    """
    blocks, features = [], images
    for name in backbone.stages:
        stage = backbone.stage(name)
        if features.dim() == 3 and has_attention(stage):
            block = PromptedBlock(stage, count, features.mean(dim=(0, 1)))
            backbone.set_submodule(name, block)
            blocks.append(name)
        features = stage(features)
    return blocks


def has_attention(stage: nn.Module) -> bool:
    return any(isinstance(module, nn.MultiheadAttention) for module in stage.modules())


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    tokens: int,
    **training: Any,
) -> nn.Module:
    blocks = insert_prompts(backbone, torch.cat([pos[:8], neg[:8]]), tokens)
    if not blocks:
        raise NotApplicable("prompts are tokens, but the backbone is not a transformer")
    # The image's tokens in front of the first block do not change, so they are computed once.
    embedding = backbone.stages[backbone.stages.index(blocks[0]) - 1]
    detector = Detector(
        backbone.after(embedding), backbone.target, pos[:1], frozen=backbone.upto(embedding)
    )
    fine_tune(detector, pos, neg, **training)
    return detector
