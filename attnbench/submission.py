"""A submission on disk: its manifest, its files and their hash.

The submission's code is imported in workers only, never here or elsewhere in the trusted process.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnbench.errors import AttnbenchError
from attnbench.libraries import NAME_PATTERN as LIBRARY_PATTERN
from attnbench.libraries import imported_modules, modules_of, require_library
from attnbench.overrides import Overrides
from attnbench.plugins import entry_point_folders
from attnbench.resources import submissions_folder
from attnbench.text import did_you_mean

MANIFEST = "submission.toml"
SOURCE = "submission.py"
SIZE_LIMIT = 10 * 2**20
MANIFEST_LIMIT = 64 * 2**10
FILES_LIMIT = 1000

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

_Line = Annotated[str, Field(min_length=1, max_length=200)]
_Key = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
_Text = Annotated[str, Field(max_length=1000)]
_Value = bool | int | float | _Text
_Values = Annotated[list[_Value], Field(max_length=1000)]
_Hyperparameters = Annotated[dict[_Key, _Value | _Values], Field(max_length=64)]
_Library = Annotated[str, Field(pattern=LIBRARY_PATTERN)]
_Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    # Strict mode converts nothing: `lr = "0.1"` stays a string, and
    # `declared_parameters = true` is an error.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BackboneSettings(_Model):
    """A submission's settings for one backbone, which override its general settings."""

    declared_parameters: _Count | None = None
    hyperparameters: _Hyperparameters = Field(default_factory=dict)


class Manifest(_Model):
    """`submission.toml`. `name`, `title` and `authors` are required.

    Attributes:
        name: the name on the leaderboard: letters, digits, `_`, `.`, `-`.
        title: what the method is, in one line.
        authors: the submission's authors.
        licence: SPDX identifier of the licence of its code.
        paper: a reference or URL for the method.
        description: a few sentences.
        declared_parameters: how many parameters it adds or changes, according to its authors.
        libraries: names of the installed distributions that it imports. The fork server imports
            them once, for all workers.
        hyperparameters: keyword arguments for `adapt`: booleans, numbers, strings, and lists of
            these.
        backbone: overrides by backbone name, such as `torchvision/vgg16`.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    title: _Line
    authors: Annotated[list[_Line], Field(min_length=1, max_length=100)]
    licence: Annotated[str, Field(max_length=200)] = ""
    paper: _Text = ""
    description: Annotated[str, Field(max_length=10_000)] = ""
    declared_parameters: _Count | None = None
    libraries: Annotated[list[_Library], Field(max_length=50)] = Field(default_factory=list)
    hyperparameters: _Hyperparameters = Field(default_factory=dict)
    backbone: Annotated[dict[_Line, BackboneSettings], Field(max_length=100)] = Field(
        default_factory=dict
    )


@dataclass(frozen=True)
class Submission:
    """A submission as it was read from disk. Exactly these files are hashed and run.

    Attributes:
        folder: where it was read from.
        manifest: the contents of `submission.toml`.
        files: the contents of all its files, by their path in the folder.
        sha256: hash of these paths and contents, and of the overrides.
        overrides: the hyperparameters that replaced those of `submission.toml`, or None. `manifest`
            already contains them.
    """

    folder: Path
    manifest: Manifest
    files: Mapping[str, bytes] = field(repr=False)
    sha256: str
    overrides: Overrides | None = None

    @property
    def program(self) -> dict[str, bytes]:
        """Its Python files, the only files of the submission that exist during prediction."""
        return {path: content for path, content in self.files.items() if path.endswith(".py")}

    @property
    def name(self) -> str:
        """The name on the leaderboard."""
        return self.manifest.name

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of attnbench and of its libraries that its files import.

        The fork server imports them once, for all workers.
        """
        sources = self.program.values()
        named = [
            name for library in self.manifest.libraries for name in modules_of(library, sources)
        ]
        return (*imported_modules("attnbench", sources), *named)

    def hyperparameters_for(self, backbone: str) -> dict[str, _Value | list[_Value]]:
        """Return the keyword arguments for `adapt` on a backbone.

        Args:
            backbone: the backbone's name. Its own settings override the general ones.
        """
        own = self.manifest.backbone.get(backbone)
        return self.manifest.hyperparameters | (own.hyperparameters if own else {})

    def declared_for(self, backbone: str) -> int | None:
        """Return the number of parameters that the manifest declares for a backbone, or None.

        Args:
            backbone: the backbone's name. Its own settings override the general ones.
        """
        own = self.manifest.backbone.get(backbone)
        if own is not None and own.declared_parameters is not None:
            return own.declared_parameters
        return self.manifest.declared_parameters


def load_submission(path_or_name: str | Path) -> Submission:
    """Read the submission in a folder, or the shipped or packaged one of that name.

    Args:
        path_or_name: the folder, or the name.

    Raises:
        AttnbenchError: if there is none, or its manifest or files are not valid.
    """
    folder = _find(path_or_name)
    for name in (MANIFEST, SOURCE):
        if not (folder / name).is_file():
            raise AttnbenchError(
                f"{folder} has no {name}: a submission is a folder with {MANIFEST} and {SOURCE}. "
                "`attnbench new NAME` creates one to start from."
            )
    files = _read_files(folder)
    manifest = _read_manifest(folder / MANIFEST, files[MANIFEST])
    for library in manifest.libraries:
        try:
            require_library(library)
        except AttnbenchError as error:
            raise AttnbenchError(f"{folder / MANIFEST}: libraries: {error}") from None
    return Submission(folder, manifest, files, _hash(files))


def shipped_submissions() -> list[str]:
    """Return the names of the submissions that attnbench ships, sorted."""
    return sorted(path.parent.name for path in submissions_folder().glob(f"*/{MANIFEST}"))


def _find(path_or_name: str | Path) -> Path:
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.exists():
        raise AttnbenchError(
            f"{path} is a file; name the submission's folder instead: {path.parent}"
        )
    text = str(path_or_name)
    shipped_folder = submissions_folder()
    # `attention`; and `submissions/attention`, as in the documentation, when there is no clone.
    name = path.name if text in (path.name, f"submissions/{path.name}") else ""
    if name and (shipped_folder / name / MANIFEST).is_file():
        return (shipped_folder / name).resolve()
    packaged = entry_point_folders("attnbench.submissions")
    if text in packaged:
        return packaged[text].resolve()
    known = [*shipped_submissions(), *packaged]
    raise AttnbenchError(
        f"no submission {text!r}{did_you_mean(name or text, known, ': ')} (there is no such folder, "
        f"and attnbench and the installed packages have only: {', '.join(known) or 'none'})"
    )


def _read_manifest(path: Path, text: bytes) -> Manifest:
    if len(text) > MANIFEST_LIMIT:
        raise AttnbenchError(f"{path} is larger than {MANIFEST_LIMIT // 2**10} KiB")
    try:
        content = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AttnbenchError(f"{path} is not valid TOML: {error}") from None
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {line}" for line in _explain(error, content))
        raise AttnbenchError(f"{path} is not a valid manifest:\n{problems}") from None


def _explain(error: ValidationError, content: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each wrong key: the key, what is wrong with it, and what to write instead."""
    seen = set()
    for problem in error.errors(include_url=False):
        location = [str(part) for part in problem["loc"]]
        # pydantic reports each branch of a union. To the user it is one problem: a wrong type.
        if "hyperparameters" in location:
            location = location[: location.index("hyperparameters") + 2]
        key = ".".join(location)
        if key in seen:
            continue
        seen.add(key)
        match problem["type"]:
            case "extra_forbidden":
                model = BackboneSettings if location[0] == "backbone" else Manifest
                allowed = list(model.model_fields)
                yield (
                    f"{key}: unknown key{did_you_mean(location[-1], allowed, '; ')} "
                    f"(allowed: {', '.join(allowed)}); "
                    "the method's own settings belong under [hyperparameters]"
                )
            case "missing":
                yield f"{key}: is missing"
            case _ if "hyperparameters" in location[:-1]:
                yield f"{key}: {_wrong_hyperparameter(location[-1], _at(location, content))}"
            case _ if location[0] == "libraries" and len(location) > 1:
                yield (
                    f"{key}: {str(problem['input'])[:60]!r} is not the name of a distribution; "
                    'write names only, without versions, such as "scikit-learn"'
                )
            case _:
                yield f"{key}: {problem['msg']}, not {str(problem['input'])[:60]!r}"


def _at(location: list[str], content: dict[str, Any]) -> object:
    """Return the value at a location of a manifest."""
    value: Any = content
    for part in location:
        value = value[part]
    return value


def _wrong_hyperparameter(name: str, value: object) -> str:
    """Say why a hyperparameter is not allowed, and what to write instead."""
    if isinstance(value, dict):
        inner = next(iter(value), "name")
        return f"is a table; write its values one by one, such as `{name}_{inner} = …`"
    if isinstance(value, list) and any(isinstance(item, list | dict) for item in value):
        return "is a list of lists or tables; write a flat list, or several hyperparameters"
    return (
        "a hyperparameter needs a Python name, and must be a boolean, a number, a string of at most "
        "1,000 characters, or a list of up to 1,000 of these; write a date in quotes"
    )


def _read_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of a folder's files, by relative path, sorted."""
    files: dict[str, bytes] = {}
    total = 0
    for path in sorted(_files(folder), key=lambda path: path.as_posix()):
        try:
            path.as_posix().encode()
            total += (folder / path).stat().st_size
            if total > SIZE_LIMIT or len(files) >= FILES_LIMIT:
                raise AttnbenchError(
                    f"{folder} holds more than {SIZE_LIMIT // 2**20} MiB or {FILES_LIMIT:,} files: "
                    "a submission is source code; keep data, results and environments elsewhere"
                )
            files[path.as_posix()] = (folder / path).read_bytes()
        except UnicodeEncodeError:
            raise AttnbenchError(
                f"{folder} has a file whose name is not UTF-8, {path.as_posix()!a}: rename it"
            ) from None
        except OSError as error:
            raise AttnbenchError(f"{folder / path} cannot be read: {error.strerror}") from None
    return files


def _hash(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 (hex) of paths and contents."""
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise AttnbenchError(f"{error.filename} cannot be read: {error.strerror}") from None


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [f for f in folders if f != "__pycache__" and not f.startswith(".")]
        for name in [*folders, *files]:
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(folder):
                raise AttnbenchError(
                    f"{path} is a link out of the submission: copy the file into it"
                )
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder)
