"""Deep visual prompt tuning (Jia et al. 2022): learned tokens beside the image's, in every block."""

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fit, stages_with_maps


class Prompted(nn.Module):
    """A transformer's block whose tokens `[n, t, d]` have `count` learned ones to attend to as well.

    What the block makes of the learned tokens is dropped: the next block has its own. Where they stand
    makes no difference, as places are known from what was added to the image's tokens only.
    """

    def __init__(self, block: nn.Module, count: int, width: int, device: torch.device) -> None:
        super().__init__()
        self.block = block
        bound = (3 / width) ** 0.5  # the paper's: d is there the length of a patch too
        self.prompts = nn.Parameter(torch.empty(count, width).uniform_(-bound, bound).to(device))

    def forward(self, tokens: Tensor) -> Tensor:
        prompts = self.prompts.expand(len(tokens), -1, -1)
        return self.block(torch.cat([tokens, prompts], dim=1))[:, : tokens.shape[1]]


def attends(stage: nn.Module) -> bool:
    return any(isinstance(each, nn.MultiheadAttention) for each in stage.modules())


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    tokens: int,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    blocks = [name for name in backbone.stages if attends(backbone.stage(name))]
    if not blocks:
        raise NotApplicable("prompts are tokens, and the backbone is no transformer")
    width = stages_with_maps(backbone, pos[:1])[blocks[0]][1]
    for name in blocks:
        block = backbone.stage(name)
        backbone.set_submodule(name, Prompted(block, tokens, width, pos.device))
    first = backbone.stages[backbone.stages.index(blocks[0]) - 1]
    # The image's own tokens never change before the first block: once per image is enough.
    detector = Detector(
        backbone.after(first), backbone.target, pos[:1], frozen=backbone.upto(first)
    )
    fit(
        detector.suffix,
        *detector.features(pos, neg),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
