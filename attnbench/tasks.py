"""Task definitions: the schema of the TOML files in `tasks/`, and how they are read."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnbench.errors import AttnbenchError
from attnbench.plugins import entry_point_folders
from attnbench.resources import tasks_folder
from attnbench.vocabulary import TrackName

TaskName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
_NoiseLevel = Annotated[float, Field(ge=0)]


class _Definition(BaseModel):
    # Every field name is a key of the TOML files and part of `content_hash`. Renaming a field, or
    # adding one, changes the hash of every task, and records of earlier runs no longer match it.
    model_config = ConfigDict(extra="forbid", frozen=True)


class FiguresSource(_Definition):
    """The procedural picture set (`attnbench.stimuli.figures`).

    Attributes:
        split: one of its disjoint parts.
    """

    kind: Literal["figures"]
    split: Literal["adapt", "test", "filter"]


class DigitsSource(_Definition):
    """scikit-learn's handwritten digits, 8 x 8 pixels.

    Attributes:
        split: one of three disjoint parts.
    """

    kind: Literal["digits"]
    split: Literal["pretrain", "adapt", "test"]


class HubSource(_Definition):
    """A dataset of the Hugging Face hub, or a folder of the data folder in its place.

    The folder holds the hub's own Parquet files, or one folder of pictures per class:
    `SPLIT/CLASS/*.jpg`, or `CLASS/*.jpg` if there is only one split.

    Attributes:
        hub: the dataset's id on the hub.
        folder: the name of the folder that replaces it, relative to the data folder.
        split: the split, in the notation of `datasets`, such as `train[:40000]`.
        config: the dataset's configuration on the hub, if it has several.
        image: the column of pictures.
        label: the column of class indices.
        revision: the branch, tag or commit on the hub.
        size: the size of the download, as text for people.
        access: how to get permission to download it, as text for people.
    """

    kind: Literal["hub"]
    hub: str
    folder: str
    split: str
    config: str | None = None
    image: str = "image"
    label: str = "label"
    revision: str | None = None
    size: str = ""
    access: str = ""


class Noise(_Definition):
    """Additive Gaussian noise, the same in all colour channels.

    Attributes:
        sigma: the standard deviation, for pixels in [0, 1]. If there are several, the pictures take
            them in turn.
    """

    kind: Literal["noise"]
    sigma: _NoiseLevel | Annotated[tuple[_NoiseLevel, ...], Field(min_length=1)]

    def level(self, index: int) -> float:
        """Return the standard deviation for the picture with this index."""
        return self.sigma[index % len(self.sigma)] if isinstance(self.sigma, tuple) else self.sigma


class Blend(_Definition):
    """A blend of two pictures of different classes.

    The first is a positive or a negative; the second, its partner, never shows the target.

    Attributes:
        alpha: the weight of the first picture; the partner has 1 - alpha.
    """

    kind: Literal["blend"]
    alpha: float = Field(gt=0, le=1)


class Filtration(_Definition):
    """Only the pictures that a network misclassifies with confidence (adversarial filtration).

    Attributes:
        network: the filter network, named like a backbone.
        confidence: the minimum probability that the network gives to its wrong label.
    """

    kind: Literal["filtration"]
    network: str
    confidence: float = Field(ge=0, lt=1)


# A new source or generator is added to these unions, with a `kind` of its own.
SourceDefinition = Annotated[FiguresSource | DigitsSource | HubSource, Field(discriminator="kind")]
GeneratorDefinition = Annotated[Noise | Blend | Filtration, Field(discriminator="kind")]


class Sample(_Definition):
    """The images to adapt on, or the images to test on: where from, how many, and how altered.

    Attributes:
        source: the data set.
        positives: the number of images with the target, or "all".
        negatives: the number of images without the target, or "all".
        negatives_from: the classes of the negatives: all classes but the target, or only the
            track's other targets.
        generator: what makes the pictures harder, if anything.
    """

    source: SourceDefinition
    positives: Annotated[int, Field(gt=0)] | Literal["all"]
    negatives: Annotated[int, Field(gt=0)] | Literal["all"]
    negatives_from: Literal["classes", "targets"] = "classes"
    generator: GeneratorDefinition | None = None


class Track(_Definition):
    """A task at one scale.

    Attributes:
        backbones: the default backbones, by name.
        targets: class names, "all", or "imagenet-a" for the 200 classes of ImageNet-A.
        timeout: the time limit of one adaptation, in seconds.
        logits: whether detectors that keep the backbone's logits are also read out by arg-max.
        adapt: the images to adapt on.
        test: the images to test on.
    """

    backbones: tuple[str, ...] = Field(min_length=1)
    targets: tuple[str, ...] | Literal["all", "imagenet-a"]
    timeout: float = Field(gt=0)
    logits: bool = False
    adapt: Sample
    test: Sample


class TaskDefinition(_Definition):
    """A versioned task with its tracks.

    Attributes:
        name: the name of the task and of its file.
        version: raised whenever a change makes scores incomparable with earlier ones.
        title: a heading.
        reference: the papers it comes from.
        description: one or two sentences.
        tracks: the tracks by name.
    """

    name: TaskName
    version: int = Field(ge=1)
    title: str
    reference: str
    description: str
    tracks: dict[TrackName, Track] = Field(min_length=1)

    @property
    def content_hash(self) -> str:
        """The SHA-256 (hex) of the definition as canonical JSON.

        Comments, formatting and the order of keys in the file do not affect it.
        """
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


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


def load_task(name: str) -> TaskDefinition:
    """Return the task called `name`.

    Raises:
        AttnbenchError: if there is no such task, or its file is not valid.
    """
    files = _task_files()
    if name not in files:
        raise AttnbenchError(f"unknown task {name!r}; the tasks are {', '.join(sorted(files))}")
    return read_task(files[name])


def read_task(path: Path) -> TaskDefinition:
    """Read and validate a task file.

    Raises:
        AttnbenchError: if the file cannot be read or is not valid. The message names the file, the
            key and the allowed values.
    """
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AttnbenchError(f"cannot read {path} as TOML: {error}") from None
    try:
        return TaskDefinition.model_validate(table)
    except ValidationError as error:
        raise AttnbenchError(f"{path} is not a valid task: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """Return one line that lists every invalid key with its problem."""
    problems = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"]) or "the whole file"
        allowed = ""
        if detail["type"] == "extra_forbidden":
            allowed = f" (allowed here: {_allowed_keys(detail['loc'])})"
        problems.append(f"{key}: {detail['msg']}{allowed}")
    return "; ".join(problems)


def _allowed_keys(location: tuple[int | str, ...]) -> str:
    """Return the keys allowed in the table in which pydantic found an unknown key."""
    models: dict[str, type[BaseModel]] = {"adapt": Sample, "test": Sample}
    # pydantic ends the location of a union's member with its tag, which is the `kind`.
    kinds = (FiguresSource, DigitsSource, HubSource, Noise, Blend, Filtration)
    models |= {str(get_args(kind.model_fields["kind"].annotation)[0]): kind for kind in kinds}
    parent: type[BaseModel] = TaskDefinition
    if len(location) >= 3 and location[0] == "tracks":
        parent = models.get(str(location[-2]), Track)
    return ", ".join(parent.model_fields)
