"""Published weights of torchvision and timm networks, from a data folder or by download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from attnbench.errors import AttnbenchError

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def build_with_fixed_seed(build: Callable[[], NetworkT]) -> NetworkT:
    """Return the network that `build` makes with PyTorch's seed 0, in eval mode.

    The state of PyTorch's random number generator is restored afterwards.

    Args:
        build: makes the network and initialises its weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def load_weights(
    model: nn.Module,
    name: str,
    data: Path | None,
    download: Callable[[], Mapping[str, Tensor]],
) -> str:
    """Load published weights into a network and return what their file says of the preprocessing.

    Args:
        model: the network; its weights are overwritten.
        name: the network's name without its family, such as `vgg16`.
        data: a data folder. The first `weights/NAME-*.safetensors` in it is preferred to a download.
        download: fetches the published state dictionary.

    Returns:
        The `preprocess` entry of the file's metadata. It is empty if the file has none or if the
        weights were downloaded.

    Raises:
        AttnbenchError: if the weights cannot be read or downloaded, or do not fit the network.
    """
    files = sorted((data / "weights").glob(f"{name}-*.safetensors")) if data is not None else []
    source = str(files[0]) if files else "the download"
    preprocess = ""
    try:
        if files:
            state: Mapping[str, Tensor] = safetensors.torch.load_file(files[0])
            with safetensors.safe_open(files[0], "pt") as file:
                preprocess = (file.metadata() or {}).get("preprocess", "")
        else:
            state = download()
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AttnbenchError(
            f"cannot load the weights of {name} from {source} ({reason}); "
            f"put them into DIR/weights/{name}-imagenet.safetensors and pass --data DIR"
        ) from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise AttnbenchError(f"{source} does not hold the weights of {name}: {error}") from None
    return preprocess
