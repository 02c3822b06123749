"""A backbone of one's own on disk: a `backbone.toml`, or a function that returns a network.

    architecture = "torchvision/resnet18"   # or "timm/NAME", or "FILE.py:FUNCTION"
    weights = "birds.pth"
    labels = ["robin", "wren", "jay"]

The code of such a backbone is the user's own. It runs in the evaluator, which holds labels and clock,
and not only in the sandbox: use a backbone only if you trust its author.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from attnbench.backbone_names import absolute, is_own, split_function
from attnbench.backbones.backbone_schema import BackboneFile, explain
from attnbench.errors import AttnbenchError
from attnbench.files import read_file
from attnbench.plugins import packaged_backbone

_MAX_BYTES = 1 << 20
_WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".bin")


@dataclass(frozen=True)
class OwnBackbone:
    """A backbone of one's own, as its files describe it.

    Attributes:
        source: the TOML file, or the function, for error messages.
        folder: what relative paths are relative to.
        name: the name in records, `own/NAME`.
        settings: the contents of the TOML file.
    """

    source: str
    folder: Path
    name: str
    settings: BackboneFile

    @property
    def function(self) -> tuple[str | Path, str] | None:
        """The file or module and the function that makes the network, or None for a library's."""
        reference = split_function(self.settings.architecture)
        if reference is None:
            return None
        place, function = reference
        return (self.folder / place if place.endswith(".py") else place), function

    @property
    def weights(self) -> Path | None:
        """The file of weights, or None."""
        weights = self.settings.weights
        return None if weights is None else self.folder / Path(weights).expanduser()

    @property
    def files(self) -> list[Path]:
        """The files that a process must be able to read to load it, besides installed packages."""
        labels = self.settings.labels
        return [
            path
            for path in (
                Path(self.source) if self.source.endswith(".toml") else None,
                self.function[0] if self.function else None,
                self.weights,
                self.folder / labels if isinstance(labels, str) and labels != "imagenet" else None,
            )
            if isinstance(path, Path) and path.exists()
        ]

    def labels(self) -> tuple[str, ...] | None:
        """Return the labels of its outputs, or None if the TOML file names none.

        Raises:
            AttnbenchError: if the file of labels cannot be read, or a label occurs twice.
        """
        labels = self.settings.labels
        if labels is None:
            return None
        if labels == "imagenet":
            from attnbench.backbones.imagenet import WNIDS

            return WNIDS
        if isinstance(labels, str):
            path = self.folder / labels
            lines = _read(path, "labels").splitlines()
            labels = [line.strip() for line in lines if line.strip()]
        if twice := sorted(label for label, count in Counter(labels).items() if count > 1):
            raise AttnbenchError(f"{self.source}: labels: {twice[0]!r} is there twice")
        return tuple(labels)

    def definition(self) -> str:
        """Return a hash of its settings, its labels and the code of its function's file."""
        function = self.function
        code = function[0].read_bytes() if function and isinstance(function[0], Path) else b""
        settings = self.settings.model_dump_json(exclude={"name", "weights", "labels"})
        text = f"{settings}\0{self.labels()}\0".encode()
        return hashlib.sha256(text + code).hexdigest()


def files_of(name: str) -> tuple[Path, ...]:
    """Return the files that a process must read to load a backbone of the user's own.

    Empty for other backbones. Raises AttnbenchError as `find_own` does.
    """
    return tuple(find_own(name).files) if is_own(name) else ()


def name_in_records(name: str) -> str:
    """Return the name that a backbone has in records, without loading it.

    Raises AttnbenchError as `find_own` does.
    """
    return find_own(name).name if is_own(name) else name


def find_own(name: str) -> OwnBackbone:
    """Return the backbone of the user's own that a name means.

    Args:
        name: a path to a TOML file, `FILE.py:FUNCTION`, `MODULE:FUNCTION`, or what an installed
            package offers as an entry point `attnbench.backbones`.

    Raises:
        AttnbenchError: if there is none, or its TOML file is not valid.
    """
    if name.endswith(".toml"):
        return _of_toml(Path(absolute(name)))
    if split_function(name):
        return _of_function(absolute(name))
    packaged = packaged_backbone(name)
    if isinstance(packaged, Path):
        return _of_toml(packaged)
    if packaged is not None:
        return _of_function(packaged, name)
    path = Path(name).expanduser().absolute()
    if path.is_dir():
        hint = f"{path} is a folder; name the file in it: {path / 'backbone.toml'}"
    elif path.suffix == ".py":
        hint = f"name the function that returns the network, too: {name}:FUNCTION"
    elif path.suffix in _WEIGHTS_SUFFIXES:
        hint = (
            "weights need an architecture: write a backbone.toml with "
            f'architecture = "torchvision/NAME" and weights = "{path.name}", and name that'
        )
    else:
        hint = (
            "use shipped/NAME, torchvision/NAME or timm/NAME (for example shipped/figures-vgg, "
            "torchvision/vgg16 or timm/resnet50.a1_in1k), a backbone.toml, FILE.py:FUNCTION, or the "
            "name of a backbone from an installed package"
        )
    raise AttnbenchError(f"unknown backbone {name!r}; {hint}")


def _of_toml(path: Path) -> OwnBackbone:
    try:
        content = tomllib.loads(_read(path, "backbone"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise AttnbenchError(f"{path} is not valid TOML: {error}") from None
    try:
        settings = BackboneFile.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {line}" for line in dict.fromkeys(explain(error)))
        raise AttnbenchError(f"{path} is not a valid backbone:\n{problems}") from None
    return OwnBackbone(str(path), path.parent, _own_name(settings.name or path.stem), settings)


def _of_function(reference: str, name: str | None = None) -> OwnBackbone:
    place, _, function = reference.rpartition(":")
    path, folder, stem = Path(place), Path(), place.rpartition(".")[2]
    architecture = reference
    if path.suffix == ".py":
        folder, stem, architecture = path.parent, path.stem, f"{path.name}:{function}"
    settings = BackboneFile(architecture=architecture)
    # A file may have several functions, whose records must not replace each other.
    return OwnBackbone(reference, folder, _own_name(name or f"{stem}-{function}"), settings)


def _own_name(name: str) -> str:
    # Records accept these characters only, while a file may have any name.
    return "own/" + (re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:64].strip("-.") or "backbone")


def _read(path: Path, what: str) -> str:
    try:
        return read_file(path, _MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise AttnbenchError(f"cannot read the {what} file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AttnbenchError(f"{path} is not a text file in UTF-8") from None
