"""Unpacking a detector. This runs code of the submission, so it happens in a worker only."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.wire.artefact import Artefact


def unpack(artefact: Artefact, backbone: Backbone) -> nn.Module:
    """Return the detector, on the backbone's device.

    Raises:
        TypeError: if the artefact holds something other than a module.
        Exception: whatever unpickling the submission's own classes raises.
    """
    return unpack_named(artefact, backbone)[0]


def unpack_named(artefact: Artefact, backbone: Backbone) -> tuple[nn.Module, dict[int, str]]:
    """Return the detector, and which of its tensors stand in the places of the backbone's.

    Returns:
        The detector, and the names of the backbone's tensors by the ids of the tensors in their places.

    Raises:
        TypeError, Exception: as `unpack`.
    """
    unpickler = _DetectorUnpickler(
        artefact.structure, safetensors.torch.load(artefact.tensors), backbone
    )
    detector = unpickler.load()
    if not isinstance(detector, nn.Module):
        raise TypeError(f"the artefact holds a {type(detector).__name__}, not a module")
    return detector, unpickler.names


class _DetectorUnpickler(pickle.Unpickler):
    """Resolves the names that `attnbench.sandbox.packing` has put into the structure."""

    def __init__(self, structure: bytes, tensors: Mapping[str, Tensor], backbone: Backbone) -> None:
        super().__init__(io.BytesIO(structure))
        self._stored = tensors
        self._modules = dict(backbone.named_modules())
        self._backbone_tensors = tensors_of(backbone)
        self._loaded: dict[tuple[Any, ...], Any] = {}
        self._device = next(iter(self._backbone_tensors.values())).device
        self.names = {id(tensor): name for name, tensor in self._backbone_tensors.items()}

    def persistent_load(self, pid: tuple[Any, ...]) -> Any:
        if pid not in self._loaded:
            self._loaded[pid] = self._resolve(*pid)
        return self._loaded[pid]

    def _resolve(self, kind: str, key: str, *flags: bool) -> Any:
        if kind == "module":
            return self._modules[key]
        if kind == "array":
            return self._stored[key].numpy()
        parameter, requires_grad, channels_last = flags
        origin, _, name = key.partition("/")
        source = self._backbone_tensors[name] if origin == "backbone" else self._stored[key]
        tensor = source.detach().to(self._device)
        if channels_last:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        if parameter:
            tensor = nn.Parameter(tensor, requires_grad=requires_grad)
        else:
            tensor.requires_grad_(requires_grad)
        if origin in ("backbone", "changed"):
            self.names[id(tensor)] = name
        return tensor
