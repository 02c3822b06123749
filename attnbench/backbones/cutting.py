"""Networks of any make as named stages, by what their modules look like; checked by running both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from attnbench.errors import AttnbenchError

Stages = dict[str, nn.Module]

_MANY_BLOCKS = ("blocks", "stages", "layers", "features")
_ONE_BLOCK = re.compile(r"(layer|stage|s)\d+")


def cut(
    name: str, model: nn.Module, size: int, ways: Iterable[Callable[[nn.Module], Stages]]
) -> Stages:
    """The stages that the first of several ways gives which leave the network what it is.

    Args:
        name: of the network, for the error.
        model: in eval mode. A way that is tried may take it to pieces.
        size: of the images it is tried on.
        ways: from a network to stages; where one raises anything, the next is tried.

    Raises:
        AttnbenchError: where no way does.
    """
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        for way in ways:
            try:
                stages = way(model)
                if torch.equal(nn.Sequential(*stages.values())(images), expected):
                    return stages
            except Exception:  # another network's modules do anything when they are called in a row
                continue
    raise AttnbenchError(f"{name} cannot be cut into stages: it is more than modules in a row")


def in_a_row(model: nn.Module) -> Stages:
    """A network whose modules run in the order in which it has them.

    `stem`, then `block1`, `block2`, …, then `pool` and `head`, its last layer. Raises ValueError for
    one without blocks.
    """
    parts = list(_parts(model))
    which = [number for number, (_, blocks) in enumerate(parts) if blocks]
    if not which:
        raise ValueError("no blocks")
    first, last = which[0], which[-1]
    stages: Stages = {}
    if first:
        stages["stem"] = nn.Sequential(*(module for module, _ in parts[:first]))
    found = (block for _, blocks in parts[first : last + 1] for block in blocks)
    stages |= {f"block{n}": block for n, block in enumerate(found, start=1)}
    *pool, head = [module for module, _ in parts[last + 1 :]]
    if not isinstance(head, nn.Linear):  # an encoder has none
        return stages | {"pool": nn.Sequential(*pool, head)}
    return stages | ({"pool": nn.Sequential(*pool)} if pool else {}) | {"head": head}


def _parts(model: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
    """The modules of a network in their order, each with the blocks it consists of, if of any."""
    children = list(model.named_children())
    if children and any(isinstance(each, nn.Linear) for each in children[-1][1].children()):
        name, head = children.pop()
        children += [(f"{name}.{inner}", each) for inner, each in head.named_children()]
    for name, module in children:
        if isinstance(module, nn.Identity):
            continue
        if name in _MANY_BLOCKS:
            yield module, list(blocks_of(module))
        elif _ONE_BLOCK.fullmatch(name):
            yield module, [module]
        else:
            yield module, []


def blocks_of(sequence: nn.Module) -> Iterator[nn.Module]:
    """The members of a sequence; where there are max-pools among them, all up to each together."""
    members = list(sequence.children())
    if not any(isinstance(each, nn.MaxPool2d) for each in members):
        yield from members
        return
    block: list[nn.Module] = []
    for module in members:
        block.append(module)
        if isinstance(module, nn.MaxPool2d):
            yield nn.Sequential(*block)
            block = []
    if block:
        yield nn.Sequential(*block)


def features_and_head(model: nn.Module) -> Stages:
    """Two stages: the last linear layer, and all before it. Raises ValueError where there is none."""
    linear = [name for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    if not linear:
        raise ValueError("no linear layer")
    head = model.get_submodule(linear[-1])
    model.set_submodule(linear[-1], nn.Identity())
    return {"features": model, "head": head}


class MeanToken(nn.Module):
    """Tokens `[n, t, d]` to the mean, `[n, d]`, of those behind the first `prefix`."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.prefix :].mean(dim=1)


class ClassToken(nn.Module):
    """Tokens `[n, t, d]` to the class token `[n, d]`."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]
