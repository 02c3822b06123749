"""The schema of task files: pydantic models, one for each table of the TOML."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from operator import not_
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    StrictStr,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

# Names of tasks and tracks. They are parts of file names, so the characters are limited.
PLAIN_NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"
PlainName = Annotated[str, Field(pattern=PLAIN_NAME)]
_NoiseLevel = Annotated[float, Field(ge=0)]


class _Definition(BaseModel):
    # Every field name is a key of the TOML files. Those of tracks are part of `content_hash`: if one is
    # renamed, the hashes of all tasks change, and records of earlier runs no longer match them. A new
    # field of an existing table must have `exclude_if`, so that tasks without it keep their hashes.
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

    Some data sets are not on the hub. For these, the data folder is the only place.

    The folder holds the hub's own Parquet files, or one folder of pictures per class:
    `SPLIT/CLASS/*.jpg`, or `CLASS/*.jpg` if `train` is the only split.

    Attributes:
        hub: the dataset's id on the hub; empty for one that is not there.
        folder: the name of the folder that replaces it, relative to the data folder.
        split: the split, in the notation of `datasets`, such as `train[:40000]`.
        by_class: whether a slice in `split` is taken of each class's pictures, so that
            `train[:50%]+valid` is half of each class and all of `valid`.
        classes: the only classes that are read, by name. All classes if it is empty.
        categories: "sixteen" if classes of ImageNet are merged into the sixteen categories of
            `attnbench.backbones.sixteen`, and pictures of other classes are left out.
        file_names: whether records name pictures by their files, and not by numbers.
        config: the dataset's configuration on the hub, if it has several.
        image: the column of pictures.
        label: the column of class indices.
        revision: the branch, tag or commit on the hub.
        size: the size of the download, as text for people.
        access: how to get permission to download it, as text for people.
    """

    kind: Literal["hub"]
    hub: str = ""
    folder: str
    split: str
    by_class: bool = Field(default=False, exclude_if=not_)
    classes: tuple[str, ...] = Field(default=(), exclude_if=not_)
    categories: Literal["sixteen"] | None = Field(default=None, exclude_if=not_)
    file_names: bool = Field(default=False, exclude_if=not_)
    config: str | None = None
    image: str = "image"
    label: str = "label"
    revision: str | None = None
    size: str = ""
    access: str = ""


class Division(_Definition):
    """The division of a folder without splits into pictures to adapt on and pictures to test on.

    Each class is divided on its own. The shares may add up to less than 1, but not to more.

    Attributes:
        adapt: the share of each class's pictures to adapt on.
        test: the share of each class's pictures to test on.
        seed: the seed of the random division.
    """

    adapt: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        # A little more than 1, because 0.7 + 0.3 need not be exactly 1 in floating point.
        if self.adapt + self.test > 1 + 1e-9:
            raise ValueError("the shares `adapt` and `test` must not exceed 1 together")
        return self


def _form_of_split(value: object) -> str:
    return "table" if isinstance(value, Mapping | Division) else "name"


class FolderSource(_Definition):
    """The user's own pictures, in a folder.

    The folder holds one folder of pictures per class (`CLASS/…` or `SPLIT/CLASS/…`), a CSV that lists
    files, or Parquet files. `path` may also name a CSV or Parquet file itself.

    Attributes:
        path: the folder or the file, relative to the task file.
        split: a split, or a slice such as `train[:50%]`; a table, to divide a folder without splits;
            or None for all pictures.
        image: the column of pictures in Parquet files.
        label: the column of classes in a CSV or in Parquet files.
        file: the column of file names in a CSV, relative to the CSV.
        skip_damaged: whether pictures that cannot be read are left out. They are an error otherwise.
        base: the folder of the task file. Not a key of the TOML, and not part of `content_hash`: the
            same task may lie in different folders.
    """

    kind: Literal["folder"]
    path: str
    split: (
        Annotated[
            Annotated[str, Tag("name")] | Annotated[Division, Tag("table")],
            Discriminator(_form_of_split),
        ]
        | None
    ) = None
    image: str = "image"
    label: str = "label"
    file: str = "file"
    skip_damaged: bool = False
    base: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _set_base(cls, table: Any, info: ValidationInfo) -> Any:
        if not info.context or not isinstance(table, dict):
            return table  # made in Python, not read from a file
        if "base" in table:
            raise PydanticCustomError("extra_forbidden", "`base` is not allowed here")
        return table | {"base": info.context["folder"]}

    @property
    def folder(self) -> Path:
        """The folder or the file, as a path that can be opened."""
        return self.base / Path(self.path).expanduser()


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
        partners: the number of blends made from each first picture, each with another partner.
    """

    kind: Literal["blend"]
    alpha: float = Field(gt=0, le=1)
    partners: int = Field(default=1, ge=1, exclude_if=lambda number: number == 1)


class Filtration(_Definition):
    """Only the pictures that a network misclassifies with confidence (adversarial filtration).

    Attributes:
        network: the filter network, named like a backbone.
        confidence: the minimum probability that the network gives to its wrong label.
    """

    kind: Literal["filtration"]
    network: str
    confidence: float = Field(ge=0, lt=1)


# A new source or generator is added to these unions, with a `kind` of its own. A source is opened by
# `attnbench.stimuli.sources.open_source`; a generator is applied in `attnbench.stimuli.image_sets`.
AnySource = FiguresSource | DigitsSource | HubSource | FolderSource
AnyGenerator = Noise | Blend | Filtration
SourceDefinition = Annotated[AnySource, Field(discriminator="kind")]
GeneratorDefinition = Annotated[AnyGenerator, Field(discriminator="kind")]


class Sample(_Definition):
    """The images to adapt on, or the images to test on: their source, number and generator.

    Attributes:
        source: the data set.
        positives: the number of images with the target, or "all".
        negatives: the number of images without the target, or "all".
        negatives_from: the classes of the negatives: all classes but the target ("classes"), or only
            the track's other targets ("targets").
        generator: the generator that makes the pictures harder, or None.
    """

    source: SourceDefinition
    positives: Annotated[int, Field(gt=0)] | Literal["all"]
    negatives: Annotated[int, Field(gt=0)] | Literal["all"]
    negatives_from: Literal["classes", "targets"] = "classes"
    generator: GeneratorDefinition | None = None


Backbones = Annotated[tuple[str, ...], Field(min_length=1)]
Targets = tuple[str, ...] | Literal["all", "imagenet-a"]
Timeout = Annotated[float, Field(gt=0)]
Labels = dict[str, StrictStr | StrictInt]


class Track(_Definition):
    """A task at one scale.

    Attributes:
        backbones: the default backbones, by name.
        targets: class names, "all", or "imagenet-a" for the 200 classes of ImageNet-A.
        timeout: the time limit of one adaptation, in seconds.
        logits: whether detectors that keep the backbone's logits are also read out by arg-max.
        labels: for each class that the backbone knows under another name, the backbone's label: its
            text, a synonym, a WordNet id, or its index.
        trials: a file of people's answers to the test pictures, in the folder of their data set; see
            `attnbench.records.trials`. The judge does not read it.
        adapt: the images to adapt on.
        test: the images to test on.
    """

    backbones: Backbones
    targets: Targets
    timeout: Timeout
    logits: bool = False
    labels: Labels = Field(default={}, exclude_if=not_)
    trials: str | None = Field(default=None, exclude_if=not_)
    adapt: Sample
    test: Sample

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the user's own pictures that the track reads. No worker may see them."""
        sources = (self.adapt.source, self.test.source)
        paths = [source.folder for source in sources if isinstance(source, FolderSource)]
        # A CSV may list any picture in the folder around it.
        return tuple(dict.fromkeys(path.parent if path.is_file() else path for path in paths))


class SharedTrack(_Definition):
    """What the tracks of several tasks have in common, so that they share one adaptation.

    The attributes are those of `Track`. Each may be missing, and stands in the tasks then.
    """

    backbones: Backbones | None = None
    targets: Targets | None = None
    timeout: Timeout | None = None
    logits: bool | None = None
    labels: Labels | None = None
    adapt: Sample | None = None


class SharedAdaptation(_Definition):
    """A file that tracks name as their `adaptation`.

    Attributes:
        tracks: what the tracks have in common, by a name that tasks use.
    """

    tracks: dict[PlainName, SharedTrack] = Field(min_length=1)


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

    name: PlainName
    version: int = Field(ge=1)
    title: str
    reference: str
    description: str
    tracks: dict[PlainName, Track] = Field(min_length=1)

    def content_hash(self, track: str) -> str:
        """Return the SHA-256 (hex) of the task's name and version and of one track, as canonical JSON.

        Other tracks, texts for people, comments, formatting and the order of keys do not affect it.

        Args:
            track: its name.
        """
        definition = {
            "name": self.name,
            "version": self.version,
            "track": track,
            "definition": self.tracks[track].model_dump(mode="json"),
        }
        canonical = json.dumps(definition, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()
