"""Weights that somebody has published: from a data folder, or from where they were published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from attnbench.errors import AttnbenchError

Network = TypeVar("Network", bound=nn.Module)


def initialised(make: Callable[[], Network]) -> Network:
    """What `make` gives with PyTorch's random numbers from seed 0, which are put back; in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def load_weights(
    model: nn.Module,
    name: str,
    data: Path | None,
    download: Callable[[], Mapping[str, Tensor]],
) -> str:
    """Load the weights of a network; what their file says of the preprocessing they were trained with.

    Args:
        model: to be given them.
        name: without its family, such as `vgg16`.
        data: a folder; its `weights/NAME-*.safetensors` is preferred to a download.
        download: gives them from where they are published.

    Raises:
        AttnbenchError: where they cannot be had, or are another network's.
    """
    files = sorted((data / "weights").glob(f"{name}-*.safetensors")) if data is not None else []
    said = ""
    try:
        if files:
            state: Mapping[str, Tensor] = safetensors.torch.load_file(files[0])
            with safetensors.safe_open(files[0], "pt") as file:
                said = (file.metadata() or {}).get("preprocess", "")
        else:
            state = download()
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AttnbenchError(
            f"the weights of {files[0] if files else name} cannot be had ({reason}); put them at "
            f"DIR/weights/{name}-imagenet.safetensors and give --data DIR"
        ) from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise AttnbenchError(
            f"{files[0] if files else name} does not hold the weights of {name}: {error}"
        ) from None
    return said
