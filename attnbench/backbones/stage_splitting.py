"""Splitting a network of any make into named stages, checked by running both.

A splitter is a function from a network to stages. It goes by the names and types of the network's
modules, so it may be wrong; `split_into_stages` accepts only stages that give the network's output.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from attnbench.errors import AttnbenchError

Stages = dict[str, nn.Module]
NetworkT = TypeVar("NetworkT", bound=nn.Module)

# The attribute names under which torchvision and timm keep a sequence of blocks, and a single block.
_BLOCK_SEQUENCES = ("blocks", "stages", "layers", "features")
_SINGLE_BLOCK = re.compile(r"(layer|stage|s)\d+")


def split_into_stages(
    name: str,
    model: nn.Module,
    size: int,
    splitters: Iterable[Callable[[nn.Module], Stages]],
) -> Stages:
    """Return the stages of the first splitter that preserves the network's output exactly.

    Args:
        name: the network's name, for the error message.
        model: the network, in eval mode. It is not changed, and its tensors are those of the stages.
        size: height and width of the random images used for the check, in pixels.
        splitters: functions from a network to stages, in order of preference. They do not change the
            network. A splitter that raises any exception is skipped.

    Raises:
        AttnbenchError: if no splitter preserves the output.
    """
    images = random_images(size)
    with torch.no_grad():
        expected = model(images)
        for splitter in splitters:
            try:
                stages = splitter(model)
                # Equal to the bit: the same kernels must run on the same inputs.
                if torch.equal(_output(stages, images), expected):
                    return stages
            except Exception:  # modules run in the wrong order can raise anything
                continue
    raise AttnbenchError(
        f"cannot split {name} into stages: no sequence of its modules gives its output. Write a "
        "function that returns the network, as it is (one stage) or as an attnbench.Backbone of your "
        "own stages, and name it: --backbone FILE.py:FUNCTION"
    )


def _output(stages: Stages, images: Tensor) -> Tensor:
    """The output of stages run in order. Each must return a tensor with a row for each image."""
    output = images
    for name, stage in stages.items():
        output = stage(output)
        if not isinstance(output, Tensor) or len(output) != len(images):
            raise ValueError(f"the stage {name} returns no tensor with a row for each image")
    return output


def random_images(size: int) -> Tensor:
    """Return three images to run a network on: float32 `[3, 3, size, size]`, always the same.

    Two rows could also be those of a network's two branches, which must not pass for two images.
    """
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))


def sequential_stages(model: nn.Module) -> Stages:
    """Split a network whose modules run in the order in which they are registered.

    Returns:
        `stem` (all modules before the first block), `block1`, `block2`, …, then `pool` (all modules
        between the last block and the head) and `head` (the last linear layer). Stages that would
        be empty are left out. An encoder has no `head`.

    Raises:
        ValueError: if the network has no blocks.
    """
    children = list(_children_with_blocks(model))
    block_positions = [position for position, (_, blocks) in enumerate(children) if blocks]
    if not block_positions:
        raise ValueError("no blocks")
    first, last = block_positions[0], block_positions[-1]
    stages: Stages = {}
    if first:
        stages["stem"] = nn.Sequential(*(module for module, _ in children[:first]))
    all_blocks = (block for _, blocks in children[first : last + 1] for block in blocks)
    stages |= {f"block{number}": block for number, block in enumerate(all_blocks, start=1)}
    *pool, head = [module for module, _ in children[last + 1 :]]
    if not isinstance(head, nn.Linear):  # an encoder
        return stages | {"pool": nn.Sequential(*pool, head)}
    return stages | ({"pool": nn.Sequential(*pool)} if pool else {}) | {"head": head}


def _children_with_blocks(model: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
    """Yield the network's children in order, each with its blocks (an empty list if it has none)."""
    children = list(model.named_children())
    # Some networks end in a module that holds pooling and the linear layer. It is expanded, so that
    # the linear layer becomes a stage of its own.
    if children and any(isinstance(child, nn.Linear) for child in children[-1][1].children()):
        name, head = children.pop()
        children += [(f"{name}.{inner_name}", child) for inner_name, child in head.named_children()]
    for name, module in children:
        if isinstance(module, nn.Identity):
            continue
        if name in _BLOCK_SEQUENCES:
            yield module, list(blocks_of(module))
        elif _SINGLE_BLOCK.fullmatch(name):
            yield module, [module]
        else:
            yield module, []


def blocks_of(sequence: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a sequence of layers.

    If the sequence has max-pooling layers, each of them ends a block. Otherwise each child is a block.
    """
    layers = list(sequence.children())
    if not any(isinstance(layer, nn.MaxPool2d) for layer in layers):
        yield from layers
        return
    block: list[nn.Module] = []
    for layer in layers:
        block.append(layer)
        if isinstance(layer, nn.MaxPool2d):
            yield nn.Sequential(*block)
            block = []
    if block:
        yield nn.Sequential(*block)


def features_and_head(model: nn.Module) -> Stages:
    """Split a network into its last linear layer (`head`) and everything before it (`features`).

    Raises:
        ValueError: if the network has no linear layer.
    """
    linear_layers = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear)
    ]
    if not linear_layers:
        raise ValueError("no linear layer")
    features = copy_with_same_tensors(model)
    features.set_submodule(linear_layers[-1], nn.Identity())
    return {"features": features, "head": model.get_submodule(linear_layers[-1])}


def copy_with_same_tensors(model: NetworkT) -> NetworkT:
    """Return a network whose modules are copies and whose parameters and buffers are the same objects.

    Modules can be removed from the copy without changing the network.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, memo={id(tensor): tensor for tensor in tensors})


class MeanToken(nn.Module):
    """Averages tokens `[n, t, d]` to `[n, d]`, without the first `prefix` tokens of each image.

    Args:
        prefix: the number of class and register tokens before the patches.
    """

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.prefix :].mean(dim=1)


class ClassToken(nn.Module):
    """Selects the class token `[n, d]`, the first of the tokens `[n, t, d]`."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]
