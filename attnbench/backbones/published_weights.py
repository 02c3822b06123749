"""Published weights of torchvision and timm networks, from a data folder or by download."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.network import Network
from attnbench.backbones.state_dicts import Differences, load_tensors, tensors_of_network
from attnbench.backbones.weights_files import read_tensors
from attnbench.errors import AttnbenchError

_SUFFIXES = (".safetensors", ".pth", ".pt")


def load_published(network: Network, *, untrained: bool, data: Path | None) -> Backbone:
    """Return a torchvision or timm network as a backbone, frozen and in eval mode.

    Args:
        network: the network as its library builds it.
        untrained: leave the weights as they are.
        data: a data folder. Weights in it are preferred to a download (see `load_weights`). The
            file's metadata may give another normalisation, as `preprocess: mean=std=0.5`.

    Raises:
        AttnbenchError: if the weights cannot be loaded or the network cannot be split into stages.
    """
    preprocessing = network.preprocessing
    if not untrained:
        preprocessing = load_weights(network, data)
    return Backbone(
        network.split(network.model, preprocessing.size),
        name=network.name,
        labels=network.labels,
        preprocessing=preprocessing,
    )


def load_weights(network: Network, data: Path | None) -> Preprocessing:
    """Load published weights into a network and return how they want pictures to be prepared.

    Args:
        network: the network; its weights are overwritten.
        data: a data folder. `weights/NAME.EXT` or `weights/NAME-*.EXT` in it is preferred to a
            download, where NAME is the network's name without its family, such as `vgg16`, and EXT
            is `safetensors`, `pth` or `pt`.

    Raises:
        AttnbenchError: if the weights cannot be read or downloaded, do not fit the network, or are in
            the folder twice.
    """
    preprocessing = network.preprocessing
    if file := _find(network, data):
        source = str(file)
        tensors = tensors_of_network(read_tensors(file), network.model, source)
        preprocessing = _of_metadata(file, preprocessing)
    else:
        source = "the download"
        tensors = dict(_download(network))
    differences = Differences.between(tensors, network.model)
    if differences.reshaped or differences.missing or differences.surplus:
        raise AttnbenchError(
            f"{source} does not hold the weights of {network.name}; {differences.explain()}\n"
            "For weights of your own, write a backbone.toml with "
            f'architecture = "{network.name}" and weights = "FILE", and name it with --backbone'
        )
    load_tensors(network.model, tensors, source)
    return preprocessing


def _find(network: Network, data: Path | None) -> Path | None:
    """The file of a network's weights in a data folder. Raises AttnbenchError if there are several."""
    if data is None:
        return None
    name = network.name.partition("/")[2]
    files = sorted(
        path
        for suffix in _SUFFIXES
        for pattern in (f"{name}{suffix}", f"{name}-*{suffix}")
        for path in (data / "weights").glob(pattern)
    )
    if len(files) > 1:
        raise AttnbenchError(
            f"{len(files)} files may hold the weights of {network.name}: "
            f"{', '.join(map(str, files))}; remove or rename all but one"
        )
    return files[0] if files else None


def _download(network: Network) -> Mapping[str, Tensor]:
    name = network.name.partition("/")[2]
    try:
        return network.download()
    except AttnbenchError as error:
        reason = str(error)
    except Exception as error:  # whatever libraries and networks raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise AttnbenchError(
        f"cannot load the weights of {network.name}: {reason}. If this machine is offline, "
        f"put them into DIR/weights/{name}.safetensors (or .pth) and pass --data DIR"
    )


def _of_metadata(file: Path, preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing for the weights in a file, whose metadata may give another normalisation."""
    if file.suffix != ".safetensors":
        return preprocessing
    with safetensors.safe_open(file, "pt") as opened:
        text = (opened.metadata() or {}).get("preprocess", "")
    # Weights trained elsewhere may expect another normalisation than the library's preset.
    if override := re.search(r"mean=std=([0-9.]+)", text):
        value = float(override[1])
        return replace(preprocessing, mean=(value,) * 3, std=(value,) * 3)
    return preprocessing


def read_torch_cache(url: str) -> dict[str, Tensor] | None:
    """Return the tensors of a file that torch.hub has downloaded earlier, or None.

    Args:
        url: the address that the file was downloaded from.

    Raises:
        AttnbenchError: if the file is empty, damaged or a web page.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not path.exists():
        return None
    return read_tensors(path, f"delete it, and it is downloaded again from {url}")
