"""Packing a detector: everything it holds beyond the backbone, and nothing else of the process.

The resulting pickle is `Artefact.structure`. Tensors and arrays are moved out of it into a safetensors
file, where the judge can count them exactly. Modules of the backbone that the submission has not
changed are replaced by their names.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from threading import Lock, RLock
from types import FunctionType, MappingProxyType
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.sandbox.deliverable import why_not_module, why_not_tensor, why_unpicklable
from attnbench.sandbox.failures import ContractViolation
from attnbench.sandbox.places import place_of_class, place_of_detector, place_of_function
from attnbench.sandbox.reachable_state import is_defined_in, reachable_state
from attnbench.wire.artefact import Artefact

# Hooks that run only when a state dict is made or loaded, which nobody does with a detector.
_HOOKS_OF_STATE_DICTS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_LOCKS = (type(Lock()), type(RLock()))


class ArtefactPacker:
    """Packs detectors made from one backbone, and remembers that backbone's original state.

    Args:
        backbone: the backbone, before any submission has touched it.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._tensors = tensors_of(backbone)
        self._pristine = {name: t.detach().clone() for name, t in self._tensors.items()}
        self._module_names = {id(module): name for name, module in backbone.named_modules()}
        untouched = {id(tensor): name for name, tensor in self._tensors.items()}
        self._digests = {
            name: _digest(module, untouched) for name, module in backbone.named_modules()
        }

    def pack(self, detector: nn.Module, source: Path | None = None) -> Artefact:
        """Return the artefact of `detector`.

        Args:
            detector: what `adapt` returned.
            source: the submission's folder. The values that its classes and functions hold are
                packed as `reachable_state`. None packs no such values.

        Raises:
            ContractViolation: for what cannot be delivered, such as a lambda, a function defined
                inside another, or a compiled module.
            pickle.PicklingError: for such values that classes and functions hold.
        """
        replaced = self._names_of_backbone_tensors(detector)
        unchanged = {
            key: name for key, (name, tensor) in replaced.items() if self._is_pristine(name, tensor)
        }
        buffer = io.BytesIO()
        pickler = _DetectorPickler(buffer, self, replaced, unchanged)
        try:
            pickler.dump(detector)
        except (
            ContractViolation,
            pickle.PicklingError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            place = "" if source is None else _place_of(pickler.visited, detector, source)
            is_violation = isinstance(error, ContractViolation)
            why = str(error) if is_violation else why_unpicklable(pickler.visited, detector, error)
            raise ContractViolation(place + why) from error
        end = buffer.tell()
        if source is not None:
            pickler.counted_for = source
            for where, value in reachable_state(pickler.referenced, source):
                try:
                    pickler.dump(value)
                except Exception as error:
                    raise pickle.PicklingError(
                        f"{where} holds something that cannot be pickled, so it cannot be counted: "
                        f"{error}"
                    ) from None
        pickled = buffer.getvalue()
        return Artefact(pickled[:end], safetensors.torch.save(pickler.stored), pickled[end:])

    def unchanged_tensors(self) -> set[str]:
        """Return the names of the backbone's tensors that still have their original values."""
        return {name for name, tensor in self._tensors.items() if self._is_pristine(name, tensor)}

    def untouched_module(self, module: nn.Module, unchanged: Mapping[int, str]) -> str | None:
        """Return the name of a backbone module that is unchanged since it was handed out, else None.

        Args:
            module: any module of a detector.
            unchanged: the names of the backbone's unchanged tensors by the tensors' ids.
        """
        name = self._module_names.get(id(module))
        if name is None or (digest := self._digests[name]) is None:
            return None
        return name if _digest(module, unchanged) == digest else None

    def equal_tensor(self, tensor: Tensor) -> str | None:
        """Return the name of a backbone tensor with the same values as `tensor`, else None."""
        for name, pristine in self._pristine.items():
            if pristine.shape == tensor.shape and self._is_pristine(name, tensor):
                return name
        return None

    def _names_of_backbone_tensors(self, detector: nn.Module) -> dict[int, tuple[str, Tensor]]:
        # A deep copy of the whole backbone is still the backbone, so its tensors keep their names.
        names = {id(t): (name, t) for name, t in self._tensors.items()}
        for module in detector.modules():
            if isinstance(module, Backbone):
                for name, tensor in tensors_of(module).items():
                    if name in self._pristine and self._pristine[name].shape == tensor.shape:
                        names[id(tensor)] = (name, tensor)
        return names

    def _is_pristine(self, name: str, tensor: Tensor) -> bool:
        pristine = self._pristine[name]
        return (
            tensor.dtype == pristine.dtype
            and tensor.device == pristine.device
            and torch.equal(tensor.detach(), pristine)
        )


class _DetectorPickler(pickle.Pickler):
    """Pickles a detector's objects and stores their data under names.

    Args:
        buffer: where the pickle is written.
        packer: knows the backbone.
        replaced: names and tensors, by tensor id, that stand in the places of backbone tensors.
        unchanged: names, by tensor id, of those that still have the backbone's values.

    Attributes:
        stored: the data by name, as tensors on the CPU.
        referenced: the classes and functions that the pickle refers to.
        visited: the object that it came to last, which is to blame where pickling fails.
        counted_for: the submission's folder while values are pickled that are only counted, never
            loaded; else None.
    """

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
        self.visited: object = None
        self.counted_for: Path | None = None
        self._packer = packer
        self._replaced = replaced
        self._unchanged = unchanged
        self._keys: dict[int, str] = {}
        self._alive: list[Any] = []

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        self.visited = obj
        if isinstance(obj, nn.Module):
            if why := why_not_module(obj):
                raise ContractViolation(why)
            name = self._packer.untouched_module(obj, self._unchanged)
            return None if name is None else ("module", name)
        if isinstance(obj, Tensor):
            if why := why_not_tensor(obj):
                raise ContractViolation(why)
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
            if isinstance(obj, FunctionType) and self._is_only_counted(obj):
                return ("function", obj.__qualname__)  # a lambda, say; what it holds comes later
        return None

    def _is_only_counted(self, function: FunctionType) -> bool:
        return self.counted_for is not None and is_defined_in(self.counted_for, function)

    def reducer_override(self, obj: Any) -> Any:
        """Pickle some objects in another way.

        Modules lose hooks of state dicts, which are often functions defined in functions. What
        dataclasses and cached properties hold is replaced by what can be pickled, if it is only
        counted.
        """
        if self.counted_for is not None and isinstance(obj, MappingProxyType):
            return dict, (dict(obj),)
        if self.counted_for is not None and isinstance(obj, _LOCKS):
            return object, ()
        if not isinstance(obj, nn.Module):
            return NotImplemented
        hooks = [name for name in _HOOKS_OF_STATE_DICTS if getattr(obj, name, None)]
        if not hooks:
            return NotImplemented
        match obj.__reduce_ex__(5):
            case (function, arguments, dict() as state, *rest):
                without = {**state, **{name: OrderedDict() for name in hooks}}
                return (function, arguments, without, *rest)
            case otherwise:
                return otherwise

    def _tensor_key(self, tensor: Tensor) -> str:
        key = self._keys.get(id(tensor))
        if key is not None:
            return key
        if (name := self._unchanged.get(id(tensor))) or (name := self._packer.equal_tensor(tensor)):
            return f"backbone/{name}"
        replaced = self._replaced.get(id(tensor))
        # Two copies of one backbone tensor may both have changed. Only the first keeps its name.
        if replaced is not None and f"changed/{replaced[0]}" not in self.stored:
            return self._store(tensor, tensor, f"changed/{replaced[0]}")
        return self._store(tensor, tensor)

    def _store(self, obj: Any, tensor: Tensor, key: str | None = None) -> str:
        if id(obj) not in self._keys:
            key = key or f"added/{len(self.stored)}"
            self.stored[key] = tensor.detach().to("cpu", copy=True).contiguous()
            self._keys[id(obj)] = key
            # An id identifies an object only while that object is alive, so keep it alive.
            self._alive.append(obj)
        return self._keys[id(obj)]


def _place_of(obj: object, detector: nn.Module, source: Path) -> str:
    """Return where an object is defined, or else the detector that holds it."""
    place = place_of_class(obj, source) if isinstance(obj, type) else place_of_function(obj, source)
    return place or place_of_detector(detector, source)


class _DigestPickler(pickle.Pickler):
    """Pickles a module's objects with its tensors replaced by their names."""

    def __init__(self, buffer: io.BytesIO, unchanged: Mapping[int, str]) -> None:
        super().__init__(buffer, protocol=5)
        self._unchanged = unchanged

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        if isinstance(obj, Tensor):
            return ("tensor", self._unchanged.get(id(obj), "changed"))
        return None


def _digest(module: nn.Module, unchanged: Mapping[int, str]) -> bytes | None:
    """Return a digest of a module's objects, tensors by name. None if they cannot be pickled."""
    buffer = io.BytesIO()
    try:
        _DigestPickler(buffer, unchanged).dump(module)
    except Exception:
        # The module holds something that cannot be pickled, such as a hook or a closure. It counts as
        # changed, and packing it will report the problem.
        return None
    return hashlib.sha256(buffer.getvalue()).digest()
