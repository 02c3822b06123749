"""Task definitions: what a TOML in `tasks/` may say, read and validated."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnbench.errors import AttnbenchError
from attnbench.plugins import offered
from attnbench.resources import tasks_folder

TrackName = Literal["mini", "small", "full"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]


class _Definition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Level = Annotated[float, Field(ge=0)]


class FiguresSource(_Definition):
    """The procedural picture set (`attnbench.stimuli.figures`)."""

    kind: Literal["figures"]
    split: Literal["adapt", "test", "filter"]


class DigitsSource(_Definition):
    """scikit-learn's handwritten digits, 8 x 8 pixels, split into disjoint parts."""

    kind: Literal["digits"]
    split: Literal["pretrain", "adapt", "test"]


class HubSource(_Definition):
    """A dataset of the Hugging Face hub, or `folder` of the data folder in its place.

    The folder holds the hub's own files (Parquet), or pictures in a folder per class
    (`SPLIT/CLASS/*.jpg`, or `CLASS/*.jpg` where there is one split).

    Attributes:
        size: what there is to download, in words; `access`: what it takes to be allowed to.
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
    """Additive Gaussian noise, grey; `sigma` in units of pixels that run from 0 to 1.

    Of several levels each image has one, in turn.
    """

    kind: Literal["noise"]
    sigma: _Level | Annotated[tuple[_Level, ...], Field(min_length=1)]

    def level(self, number: int) -> float:
        """The standard deviation for an image by its number."""
        return self.sigma[number % len(self.sigma)] if isinstance(self.sigma, tuple) else self.sigma


class Blend(_Definition):
    """alpha x one picture + (1 - alpha) x a picture of another class, neither class the target's
    in a negative."""

    kind: Literal["blend"]
    alpha: float = Field(gt=0, le=1)


class Filtration(_Definition):
    """Only pictures for which `network` gives a wrong label a probability of `confidence` or more."""

    kind: Literal["filtration"]
    network: str
    confidence: float = Field(ge=0, lt=1)


# The next source or generator joins here, with its own `kind`.
SourceDefinition = Annotated[FiguresSource | DigitsSource | HubSource, Field(discriminator="kind")]
GeneratorDefinition = Annotated[Noise | Blend | Filtration, Field(discriminator="kind")]


class Sample(_Definition):
    """Which images stand on one side of an episode, how many, and what is done to them.

    Attributes:
        positives: how many, or "all" images of the target.
        negatives: how many, or "all" there are.
        negatives_from: the classes of negatives: all others, or the track's other targets.
    """

    source: SourceDefinition
    positives: Annotated[int, Field(gt=0)] | Literal["all"]
    negatives: Annotated[int, Field(gt=0)] | Literal["all"]
    negatives_from: Literal["classes", "targets"] = "classes"
    generator: GeneratorDefinition | None = None


class Track(_Definition):
    """A task at one scale.

    Attributes:
        targets: classes by name, "all", or "imagenet-a" for the 200 classes of ImageNet-A.
        timeout: seconds for one adaptation.
        logits: whether detectors that have `logits` are read out by arg-max as well.
    """

    backbones: tuple[str, ...] = Field(min_length=1)
    targets: tuple[str, ...] | Literal["all", "imagenet-a"]
    timeout: float = Field(gt=0)
    logits: bool = False
    adapt: Sample
    test: Sample


class TaskDefinition(_Definition):
    """A versioned task with its tracks."""

    name: Name
    version: int = Field(ge=1)
    title: str
    reference: str
    description: str
    tracks: dict[TrackName, Track] = Field(min_length=1)

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of the definition's canonical JSON: comments and order do not matter."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def list_tasks() -> list[str]:
    """The names of all tasks, sorted: the shipped ones, and those that installed packages offer."""
    return sorted(_definitions())


def _definitions() -> dict[str, Path]:
    packaged = {
        name: folder / f"{name}.toml" for name, folder in offered("attnbench.tasks").items()
    }
    return packaged | {path.stem: path for path in tasks_folder().glob("*.toml")}


def load_task(name: str) -> TaskDefinition:
    """The task called `name`. Raises AttnbenchError for an unknown or malformed one."""
    known = _definitions()
    if name not in known:
        raise AttnbenchError(f"unknown task {name!r}; the tasks are {', '.join(sorted(known))}")
    return read_task(known[name])


def read_task(path: Path) -> TaskDefinition:
    """The definition in a file. Raises AttnbenchError naming file, key and what is allowed."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AttnbenchError(f"{path}: cannot be read as TOML: {error}") from None
    try:
        return TaskDefinition.model_validate(table)
    except ValidationError as error:
        raise AttnbenchError(f"{path}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    problems = []
    for each in error.errors():
        key = ".".join(str(part) for part in each["loc"]) or "the whole file"
        allowed = (
            f" (allowed here: {_allowed(each['loc'])})" if each["type"] == "extra_forbidden" else ""
        )
        problems.append(f"{key}: {each['msg']}{allowed}")
    return "; ".join(problems)


def _allowed(location: tuple[int | str, ...]) -> str:
    models: dict[str, type[BaseModel]] = {"adapt": Sample, "test": Sample}
    kinds = (FiguresSource, DigitsSource, HubSource, Noise, Blend, Filtration)
    models |= {str(get_args(kind.model_fields["kind"].annotation)[0]): kind for kind in kinds}
    parent: type[BaseModel] = TaskDefinition
    if len(location) >= 3 and location[0] == "tracks":
        parent = models.get(str(location[-2]), Track)
    return ", ".join(parent.model_fields)
