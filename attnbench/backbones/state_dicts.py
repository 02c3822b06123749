"""Matching the tensors of a checkpoint with those of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from attnbench.errors import AttnbenchError

# How many tensors an error lists.
_MAX_LISTED = 5
# A counter of batch norm, which old checkpoints lack and which a frozen network does not use.
_OPTIONAL = ".num_batches_tracked"


def tensors_of_network(
    tensors: Mapping[str, Tensor], network: nn.Module, source: str, key: str = ""
) -> dict[str, Tensor]:
    """Return a network's tensors out of a checkpoint, under the names they have in the network.

    Training scripts save networks inside other dictionaries and wrappers, so names may begin with
    `state_dict`, `model`, `module` (DataParallel) and the like. The prefix is therefore not looked up
    in a list: it is the one under which most of the network's names are found. Tensors with another
    prefix, such as an optimiser's, are left out.

    Args:
        tensors: all tensors of the checkpoint (see `attnbench.backbones.weights_files`).
        network: the network that the weights are for.
        source: the checkpoint, for error messages.
        key: if not empty, only names that begin with this prefix are considered.

    Raises:
        AttnbenchError: if nothing has the prefix `key`, or the checkpoint holds the network several
            times, for example an average over training (EMA) besides the last state.
    """
    if key:
        tensors = {
            name.removeprefix(f"{key}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{key}.")
        }
        if not tensors:
            raise AttnbenchError(f"{source} has no tensors whose names begin with {key!r}")
    expected = network.state_dict().keys()
    found: Counter[str] = Counter()
    for name in tensors:
        components = name.split(".")
        for start in range(len(components)):
            if ".".join(components[start:]) in expected:
                found["".join(f"{component}." for component in components[:start])] += 1
    most = max(found.values(), default=0)
    prefixes = sorted(prefix for prefix, count in found.items() if count == most) or [""]
    # In weights of another network, a few names fit by chance under several prefixes.
    if len(prefixes) > 1 and most > len(expected) // 2:
        keys = " or ".join(f'weights_key = "{prefix.rstrip(".")}"' for prefix in prefixes[:4])
        raise AttnbenchError(
            f"{source} holds the network {len(prefixes)} times; choose one with {keys} "
            "in the backbone's TOML file"
        )
    prefix = prefixes[0]
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


@dataclass(frozen=True)
class Differences:
    """How the tensors of a checkpoint differ from those of a network, by name and shape.

    Attributes:
        reshaped: tensors of another shape: name, shape in the file, shape in the network.
        missing: tensors of the network that the file lacks, with their shapes.
        surplus: tensors of the file that the network lacks, with their shapes.
    """

    reshaped: Sequence[tuple[str, torch.Size, torch.Size]]
    missing: Mapping[str, torch.Size]
    surplus: Mapping[str, torch.Size]

    @classmethod
    def between(cls, tensors: Mapping[str, Tensor], network: nn.Module) -> Self:
        """Compare the tensors of a checkpoint with those of a network."""
        expected = {
            name: tensor.shape
            for name, tensor in network.state_dict().items()
            if isinstance(tensor, Tensor)
        }
        common = [name for name in expected if name in tensors]
        return cls(
            [
                (name, tensors[name].shape, expected[name])
                for name in common
                if tensors[name].shape != expected[name]
            ],
            {
                name: shape
                for name, shape in expected.items()
                if name not in tensors and not name.endswith(_OPTIONAL)
            },
            {name: tensor.shape for name, tensor in tensors.items() if name not in expected},
        )

    @property
    def outputs(self) -> tuple[int, int] | None:
        """The numbers of outputs of the file and of the network, if that may be all that differs."""
        lengths = {(file[:1], network[:1]) for _, file, network in self.reshaped}
        if len(lengths) == 1 and all(
            file and network and file[1:] == network[1:] for _, file, network in self.reshaped
        ):
            ((file, network),) = lengths
            return file[0], network[0]
        return None

    def explain(self) -> str:
        """How many tensors differ, and in what: one line for each of the first few."""
        lines = [
            *(
                f"{name}: {list(file)} in the file, {list(network)} in the network"
                for name, file, network in self.reshaped
            ),
            *(
                f"{name}: {list(shape)}, only in the network"
                for name, shape in self.missing.items()
            ),
            *(f"{name}: {list(shape)}, only in the file" for name, shape in self.surplus.items()),
        ]
        listed = lines[:_MAX_LISTED]
        if len(lines) > len(listed):
            listed.append(f"… and {len(lines) - len(listed):,} more")
        differ = "tensor differs" if len(lines) == 1 else "tensors differ"
        return "\n".join([f"{len(lines):,} {differ}:", *(f"  {line}" for line in listed)])


def without_ignored(
    tensors: Mapping[str, Tensor], ignore: Iterable[str], source: str
) -> dict[str, Tensor]:
    """Return the tensors whose names do not begin with any of the module names in `ignore`.

    Raises:
        AttnbenchError: if a module name fits no tensor.
    """
    kept = dict(tensors)
    for module in ignore:
        names = [name for name in kept if f"{name}.".startswith(f"{module.rstrip('.')}.")]
        if not names:
            raise AttnbenchError(f"ignore: {source} has no tensors of a module {module!r}")
        for name in names:
            del kept[name]
    return kept


def modules_of(names: Iterable[str]) -> list[str]:
    """Return the modules, at the top level, that hold tensors of these names; sorted."""
    return sorted({name.partition(".")[0] for name in names})


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a network that has all of them, in the same shapes.

    Raises:
        AttnbenchError: if a tensor holds NaN or infinity.
    """
    for name in _not_finite(tensors):
        raise AttnbenchError(f"{source} is not usable: {name} holds NaN or infinite values")
    network.load_state_dict(tensors, strict=False)


def _not_finite(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            yield name
