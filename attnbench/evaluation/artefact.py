"""The artefact: everything a detector holds beyond the backbone, and nothing else of the process.

An artefact is three byte strings. `tensors` is a safetensors file: the tensors that were added to the
backbone (`added/3`), and those that replace one of its own (`changed/head.weight`). `structure` is
a pickle of the detector's objects in which tensors, arrays, long texts, rows of numbers and untouched
backbone modules are only names. It is unpickled in a worker, never elsewhere; the evaluator counts
what is in all three (`attnbench.evaluation.inventory`).

`held` is what a submission's classes and functions hold themselves (class attributes, defaults,
closures, the globals they use), as it is within the detector's reach. It is there to be counted only:
the process that predicts has it from the source, and does not get `held`.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.evaluation.workers.held import held_by

# Shorter ones are names and sizes, which stay in the structure.
_LONG_TEXT, _LONG_ROW = 256, 16


@dataclass(frozen=True)
class Artefact:
    """A packed detector.

    Attributes:
        structure: a pickle of its objects.
        tensors: a safetensors file.
        held: pickles, one after the other, of what its classes and functions hold.
    """

    structure: bytes
    tensors: bytes
    held: bytes = b""

    @property
    def arrays(self) -> dict[str, NDArray[np.uint8]]:
        """Its parts, uint8, for a message."""
        return {
            part.name: np.frombuffer(getattr(self, part.name), np.uint8) for part in fields(self)
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Artefact:
        """From the parts in a message. Raises KeyError, with its name, where one is missing."""
        return cls(*(arrays[part.name].tobytes() for part in fields(cls)))


class ArtefactPacker:
    """Packs detectors that were made from one backbone; knows that backbone as it was handed out.

    Args:
        backbone: the backbone, before any submission has touched it.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._tensors = tensors_of(backbone)
        self._pristine = {n: t.detach().clone() for n, t in self._tensors.items()}
        self._module_names = {id(module): name for name, module in backbone.named_modules()}
        untouched = {id(tensor): name for name, tensor in self._tensors.items()}
        self._digests = {
            name: _digest(module, untouched) for name, module in backbone.named_modules()
        }

    def pack(self, detector: nn.Module, source: Path | None = None) -> Artefact:
        """The artefact of `detector`.

        What the classes and functions in the folder `source` hold is counted in; nothing if None.

        Raises pickle.PicklingError, TypeError or AttributeError for what cannot be saved, such as a
        lambda or a function defined inside another.
        """
        replaced = self._names_of_backbone_tensors(detector)
        unchanged = {
            key: name for key, (name, tensor) in replaced.items() if self._is_pristine(name, tensor)
        }
        buffer = io.BytesIO()
        pickler = _DetectorPickler(buffer, self, replaced, unchanged)
        pickler.dump(detector)
        end = buffer.tell()
        if source is not None:
            for where, value in held_by(pickler.referenced, source):
                try:
                    pickler.dump(value)
                except Exception as error:
                    raise pickle.PicklingError(
                        f"what {where} holds cannot be saved, so it cannot be counted: {error}"
                    ) from None
        pickled = buffer.getvalue()
        return Artefact(pickled[:end], safetensors.torch.save(pickler.stored), pickled[end:])

    def untouched_module(self, module: nn.Module, unchanged: Mapping[int, str]) -> str | None:
        """The name of a module of the backbone that is as it was handed out, else None."""
        name = self._module_names.get(id(module))
        if name is None or (digest := self._digests[name]) is None:
            return None
        return name if _digest(module, unchanged) == digest else None

    def equal_tensor(self, tensor: Tensor) -> str | None:
        """The name of a backbone tensor with the very values of `tensor` (a copy of it), or None."""
        for name, pristine in self._pristine.items():
            if pristine.shape == tensor.shape and self._is_pristine(name, tensor):
                return name
        return None

    def _names_of_backbone_tensors(self, detector: nn.Module) -> dict[int, tuple[str, Tensor]]:
        # A deep copy of the whole backbone is still the backbone: its tensors keep their names.
        found = {id(t): (n, t) for n, t in self._tensors.items()}
        for module in detector.modules():
            if isinstance(module, Backbone):
                for name, tensor in tensors_of(module).items():
                    if name in self._pristine and self._pristine[name].shape == tensor.shape:
                        found[id(tensor)] = (name, tensor)
        return found

    def _is_pristine(self, name: str, tensor: Tensor) -> bool:
        pristine = self._pristine[name]
        return (
            tensor.dtype == pristine.dtype
            and tensor.device == pristine.device
            and torch.equal(tensor.detach(), pristine)
        )


class _DetectorPickler(pickle.Pickler):
    def __init__(
        self,
        buffer: io.BytesIO,
        packer: ArtefactPacker,
        replaced: Mapping[int, tuple[str, Tensor]],
        unchanged: Mapping[int, str],
    ) -> None:
        super().__init__(buffer, protocol=5)
        self.stored: dict[str, Tensor] = {}
        self.referenced: list[type | FunctionType] = []
        self._packer = packer
        self._replaced = replaced
        self._unchanged = unchanged
        self._keys: dict[int, str] = {}
        self._alive: list[Any] = []

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        if isinstance(obj, nn.Module):
            name = self._packer.untouched_module(obj, self._unchanged)
            return None if name is None else ("module", name)
        if isinstance(obj, Tensor):
            channels_last = (
                obj.dim() == 4
                and not obj.is_contiguous()
                and obj.is_contiguous(memory_format=torch.channels_last)
            )
            parameter = isinstance(obj, nn.Parameter)
            return ("tensor", self._tensor_key(obj), parameter, obj.requires_grad, channels_last)
        if isinstance(obj, np.ndarray) and obj.dtype.kind in "biuf":
            return ("array", self._store(obj, torch.from_numpy(np.ascontiguousarray(obj))))
        if isinstance(obj, type | FunctionType):
            self.referenced.append(obj)
        elif (as_tensor := _plain_data(obj)) is not None:
            return (type(obj).__name__, self._store(obj, as_tensor))
        return None

    def _tensor_key(self, tensor: Tensor) -> str:
        key = self._keys.get(id(tensor))
        if key is not None:
            return key
        if (name := self._unchanged.get(id(tensor))) or (name := self._packer.equal_tensor(tensor)):
            return f"backbone/{name}"
        replaced = self._replaced.get(id(tensor))
        # Two copies of a tensor may each have been changed: only one can go by its name.
        if replaced is not None and f"changed/{replaced[0]}" not in self.stored:
            return self._store(tensor, tensor, f"changed/{replaced[0]}")
        return self._store(tensor, tensor)

    def _store(self, obj: Any, tensor: Tensor, key: str | None = None) -> str:
        if id(obj) not in self._keys:
            key = key or f"added/{len(self.stored)}"
            self.stored[key] = tensor.detach().to("cpu", copy=True).contiguous()
            self._keys[id(obj)] = key
            self._alive.append(obj)  # an id is an identity only as long as its object lives
        return self._keys[id(obj)]


def _plain_data(obj: object) -> Tensor | None:
    """A long text or row of numbers as the tensor that it is counted by, else None."""
    kind = type(obj)
    if kind is str and isinstance(obj, str) and len(obj) >= _LONG_TEXT:
        obj, kind = obj.encode("utf-8", "surrogatepass"), bytes
    if kind in (bytes, bytearray) and isinstance(obj, bytes | bytearray) and len(obj) >= _LONG_TEXT:
        return torch.frombuffer(bytearray(obj), dtype=torch.uint8)
    if kind in (list, tuple) and isinstance(obj, list | tuple) and len(obj) >= _LONG_ROW:
        kinds = {type(value) for value in obj}
        if kinds == {float}:
            return torch.tensor(obj, dtype=torch.float64)
        if kinds == {bool}:
            return torch.tensor(obj, dtype=torch.bool)
        if kinds == {int} and all(-(1 << 63) <= value < 1 << 63 for value in obj):
            return torch.tensor(obj, dtype=torch.int64)
    return None


def _from_plain_data(kind: str, tensor: Tensor) -> object:
    match kind:
        case "list":
            return tensor.tolist()
        case "tuple":
            return tuple(tensor.tolist())
        case "str":
            return tensor.numpy().tobytes().decode("utf-8", "surrogatepass")
        case "bytes":
            return tensor.numpy().tobytes()
        case _:
            return bytearray(tensor.numpy().tobytes())


class _DigestPickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, unchanged: Mapping[int, str]) -> None:
        super().__init__(buffer, protocol=5)
        self._unchanged = unchanged

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        if isinstance(obj, Tensor):
            return ("tensor", self._unchanged.get(id(obj), "changed"))
        return None


def _digest(module: nn.Module, unchanged: Mapping[int, str]) -> bytes | None:
    """A digest of a module's objects, tensors by name; None where they cannot be pickled."""
    buffer = io.BytesIO()
    try:
        _DigestPickler(buffer, unchanged).dump(module)
    except Exception:
        # A hook or closure someone put there: the module is not as handed out, and packing it
        # will say what cannot be saved.
        return None
    return hashlib.sha256(buffer.getvalue()).digest()


class _DetectorUnpickler(pickle.Unpickler):
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

    def _resolve(self, kind: str, key: str, *how: bool) -> Any:
        if kind == "module":
            return self._modules[key]
        if kind == "array":
            return self._stored[key].numpy()
        if kind != "tensor":
            return _from_plain_data(kind, self._stored[key])
        parameter, requires_grad, channels_last = how
        origin, _, name = key.partition("/")
        source = self._backbone_tensors[name] if origin == "backbone" else self._stored[key]
        tensor = source.detach().to(self._device)
        if channels_last:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        if parameter:
            return nn.Parameter(tensor, requires_grad=requires_grad)
        return tensor.requires_grad_(requires_grad)


def unpack(artefact: Artefact, backbone: Backbone) -> nn.Module:
    """The detector, on the backbone's device. Runs the submission's code: in a worker only."""
    tensors = safetensors.torch.load(artefact.tensors)
    detector = _DetectorUnpickler(artefact.structure, tensors, backbone).load()
    if not isinstance(detector, nn.Module):
        raise TypeError(f"the artefact holds a {type(detector).__name__}, not a module")
    return detector


def structure_of(backbone: Backbone) -> bytes:
    """The pickle of a backbone's own objects, its tensors left out."""
    buffer = io.BytesIO()
    _DigestPickler(buffer, {}).dump(backbone)
    return buffer.getvalue()
