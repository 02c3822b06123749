"""Deep visual prompt tuning (Jia et al. 2022): learned tokens in every block of a transformer.

[z, _] = block([z, p])   for each block, with its own learned tokens p
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fine_tune, stages_with_maps


class PromptedBlock(nn.Module):
    """A transformer block whose tokens `[n, t, d]` can also attend to `count` learned ones.

    The block's outputs for the learned tokens are dropped, since the next block has its own. Where
    they stand among the tokens makes no difference: positions are encoded in the image's tokens.
    """

    def __init__(self, block: nn.Module, count: int, width: int, device: torch.device) -> None:
        super().__init__()
        self.block = block
        # The paper's bound, for patches that have as many values as the tokens.
        bound = (3 / width) ** 0.5
        self.prompts = nn.Parameter(torch.empty(count, width).uniform_(-bound, bound).to(device))

    def forward(self, tokens: Tensor) -> Tensor:
        prompts = self.prompts.expand(len(tokens), -1, -1)
        return self.block(torch.cat([tokens, prompts], dim=1))[:, : tokens.shape[1]]


def has_attention(stage: nn.Module) -> bool:
    return any(isinstance(module, nn.MultiheadAttention) for module in stage.modules())


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    tokens: int,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    blocks = [name for name in backbone.stages if has_attention(backbone.stage(name))]
    if not blocks:
        raise NotApplicable("prompts are tokens, but the backbone is not a transformer")
    width = stages_with_maps(backbone, pos[:1])[blocks[0]][1]
    for name in blocks:
        block = PromptedBlock(backbone.stage(name), tokens, width, pos.device)
        backbone.set_submodule(name, block)
    # The image's tokens in front of the first block do not change, so they are computed once.
    embedding = backbone.stages[backbone.stages.index(blocks[0]) - 1]
    detector = Detector(
        backbone.after(embedding), backbone.target, pos[:1], frozen=backbone.upto(embedding)
    )
    fine_tune(detector, pos, neg, learning_rate=learning_rate, epochs=epochs, stop_loss=stop_loss)
    return detector
