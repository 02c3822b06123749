"""Networks with made-up weights, for the tests of backbones."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

_EXAMPLES = Path(__file__).parents[1] / "examples" / "backbones"


def copy_examples(folder: Path) -> Path:
    """Copy the shipped examples to a new folder, as a user does, and return it."""
    return Path(shutil.copytree(_EXAMPLES, folder / "my backbones"))


def trained(network: nn.Module) -> nn.Module:
    """The network with made-up weights."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def outputs_of(network: nn.Module, size: int) -> Tensor:
    with torch.no_grad():
        return network(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)))
