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
    tensors = safetensors.torch.load(artefact.tensors)
    detector = _DetectorUnpickler(artefact.structure, tensors, backbone).load()
    if not isinstance(detector, nn.Module):
        raise TypeError(f"the artefact holds a {type(detector).__name__}, not a module")
    return detector


class _DetectorUnpickler(pickle.Unpickler):
    """Resolves the names that `attnbench.sandbox.packing` has put into the structure."""

    def __init__(self, structure: bytes, tensors: Mapping[str, Tensor], backbone: Backbone) -> None:
        super().__init__(io.BytesIO(structure))
        self._stored = tensors
        self._modules = dict(backbone.named_modules())
        self._backbone_tensors = tensors_of(backbone)
        self._loaded: dict[tuple[Any, ...], Any] = {}
        self._device = next(iter(self._backbone_tensors.values())).device

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
            return nn.Parameter(tensor, requires_grad=requires_grad)
        return tensor.requires_grad_(requires_grad)
