"""Tasks: where their files are, and how a file is read and checked (see `attnbench.task_schema`)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from attnbench.backbone_names import with_file
from attnbench.errors import AttnbenchError
from attnbench.plugins import entry_point_folders
from attnbench.resources import tasks_folder
from attnbench.task_schema import (
    AnyGenerator,
    AnySource,
    Blend,
    DigitsSource,
    Division,
    FiguresSource,
    Filtration,
    FolderSource,
    GeneratorDefinition,
    HubSource,
    Noise,
    Sample,
    SharedAdaptation,
    SharedTrack,
    SourceDefinition,
    TaskDefinition,
    Track,
)
from attnbench.text import did_you_mean

__all__ = [
    "Blend",
    "DigitsSource",
    "Division",
    "FiguresSource",
    "Filtration",
    "FolderSource",
    "GeneratorDefinition",
    "HubSource",
    "Noise",
    "Sample",
    "SourceDefinition",
    "TaskDefinition",
    "Track",
    "list_tasks",
    "load_task",
    "parse_task",
    "read_task",
]


_Model = TypeVar("_Model", bound=BaseModel)


def list_tasks() -> list[str]:
    """Return the sorted names of all tasks, both shipped and from installed packages."""
    return sorted(_task_files())


def _task_files() -> dict[str, Path]:
    from_packages = {
        name: folder / f"{name}.toml"
        for name, folder in entry_point_folders("attnbench.tasks").items()
    }
    # A shipped task wins over a packaged one of the same name, so that a package cannot replace it.
    return from_packages | {path.stem: path for path in tasks_folder().glob("*.toml")}


def load_task(name: str | Path) -> TaskDefinition:
    """Return a task.

    Args:
        name: the name of a shipped or installed task, or the path of a task file. Text that ends in
            `.toml` is a path; otherwise the name of a task is preferred to that of a file.

    Raises:
        AttnbenchError: if there is no such task, or its file is not valid.
    """
    path = Path(name)
    if path.suffix == ".toml":
        return read_task(path)
    files = _task_files()
    if str(name) in files:
        return read_task(files[str(name)])
    if path.is_file():
        return read_task(path)
    if path.is_dir():
        raise AttnbenchError(
            f"{path} is a folder; name the task file in it, such as {path}/pets.toml"
        )
    meant = did_you_mean(str(name), sorted(files), ": ")
    raise AttnbenchError(
        f"unknown task {str(name)!r}{meant} (known: {', '.join(sorted(files))}). "
        "Name a task of your own by its file, such as pets.toml"
    )


def read_task(path: Path) -> TaskDefinition:
    """Read and validate a task file.

    Args:
        path: the TOML file.

    Raises:
        AttnbenchError: if the file, or an adaptation file that it names, cannot be read or is not
            valid. The message names the file, the key and the allowed values.
    """
    return parse_task(_read_text(path, f"the task file {path}"), path)


def parse_task(text: str, path: Path) -> TaskDefinition:
    """Validate the text of a task file.

    Args:
        text: the TOML.
        path: the file that it is or will be in. Its folder is what paths are relative to.

    Raises:
        AttnbenchError: as `read_task`.
    """
    table = _with_shared_adaptations(_parse_toml(text, path), path)
    return _validate(TaskDefinition, table, path, "task")


def _with_shared_adaptations(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a task's table in which each `adaptation` is replaced by what its file says.

    Args:
        table: the table. Parts that are not valid are left for the validation to find.
        path: the task's file.
    """
    tracks = table.get("tracks")
    if not isinstance(tracks, dict):
        return table
    resolved = {
        name: _with_shared_adaptation(name, track, path)
        if isinstance(track, dict) and "adaptation" in track
        else track
        for name, track in tracks.items()
    }
    return table | {"tracks": resolved}


def _with_shared_adaptation(name: str, track: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a track's table with the keys of its adaptation file in place of `adaptation`."""
    key = f"tracks.{name}.adaptation"
    if not isinstance(track["adaptation"], str):
        raise AttnbenchError(
            f"{path} is not a valid task: {key}: must be the path of an adaptation file, such as "
            '"adaptation/pets.toml"'
        )
    given = Path(track["adaptation"]).expanduser()
    file = path.absolute().parent / given
    text = _read_text(file, f"the adaptation file {file}, which {key} in {path} names")
    shared = _validate(SharedAdaptation, _parse_toml(text, file), file, "adaptation file")
    if name not in shared.tracks:
        raise AttnbenchError(
            f"{file} has no [tracks.{name}], but {key} in {path} names it; its tracks are "
            f"{', '.join(shared.tracks)}"
        )
    common = shared.tracks[name]
    own = {key: value for key, value in track.items() if key != "adaptation"}
    if twice := sorted(common.model_fields_set & own.keys()):
        raise AttnbenchError(
            f"{', '.join(twice)} of [tracks.{name}]: both in {path} and in its adaptation file "
            f"{file}; remove one of them"
        )
    values: dict[str, Any] = {key: getattr(common, key) for key in common.model_fields_set}
    if "backbones" in values:
        # Files of one's own are relative to the file that names them.
        values["backbones"] = [
            with_file(backbone, lambda own_file: given.parent / own_file)
            for backbone in values["backbones"]
        ]
    return own | values


def _read_text(path: Path, described: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise AttnbenchError(f"cannot read {described}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AttnbenchError(f"{path} is not a text file in UTF-8") from None


def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AttnbenchError(f"cannot read {path} as TOML: {error}") from None


def _validate(model: type[_Model], table: dict[str, Any], path: Path, what: str) -> _Model:
    """Return the definition in a file. Raises AttnbenchError, which lists what is not valid."""
    try:
        # Absolute, as the definition may be used in a process with another working directory.
        return model.model_validate(table, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise AttnbenchError(
            f"{path} is not a valid {what}: {_explain(error, table, model)}"
        ) from None


def _explain(error: ValidationError, table: dict[str, Any], model: type[BaseModel]) -> str:
    """Return one line that lists every invalid key with its problem."""
    problems: dict[str, list[str]] = {}
    for detail in error.errors():
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            allowed = _allowed_keys(detail["loc"], model)
            if "Extra inputs" in message:  # pydantic's own words, not those of `FolderSource`
                message = "unknown key" + did_you_mean(str(detail["loc"][-1]), allowed, "; ")
            message += f" (allowed here: {', '.join(allowed)})"
        elif detail["type"] == "missing":
            message = "is missing"
        is_missing = detail["type"] == "missing"
        key = _key_in_file(detail["loc"], table, missing=is_missing) or "the whole file"
        problems.setdefault(key, []).append(message)
    # For a value that may be of several types, pydantic says what is wrong with it as each of them.
    return "; ".join(
        f"{key}: {', or '.join(dict.fromkeys(messages))}" for key, messages in problems.items()
    )


def _key_in_file(location: tuple[int | str, ...], table: dict[str, Any], *, missing: bool) -> str:
    """Return a location as the user wrote it: without the names that pydantic gives to types."""
    key: list[str] = []
    node: Any = table
    for part in location:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            continue
        key.append(str(part))
    return ".".join([*key, str(location[-1])] if missing else key)


def _allowed_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """Return the keys allowed in the table in which pydantic found an unknown key."""
    tables: dict[str, type[BaseModel]] = {"adapt": Sample, "test": Sample, "table": Division}
    # pydantic ends the location of a union's member with its tag, which is the `kind`.
    kinds = get_args(AnySource) + get_args(AnyGenerator)
    tables |= {str(get_args(kind.model_fields["kind"].annotation)[0]): kind for kind in kinds}
    parent = model
    if len(location) >= 3 and location[0] == "tracks":
        # The table is the last part but one, or the last if the error is about the whole table.
        track = Track if model is TaskDefinition else SharedTrack
        parent = tables.get(str(location[-2])) or tables.get(str(location[-1])) or track
    keys = [name for name, field in parent.model_fields.items() if not field.exclude]
    return [*keys, "adaptation"] if parent is Track else keys
