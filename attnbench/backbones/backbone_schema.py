"""The schema of `backbone.toml`, which describes a backbone of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attnbench.text import did_you_mean

_Text = Annotated[str, Field(min_length=1, max_length=1000)]
_StageName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
_Pixels = Annotated[int, Field(ge=1, le=4096)]
_Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
_Deviations = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


class BackboneFile(BaseModel):
    """`backbone.toml`. Only `architecture` is required. Paths are relative to the file's folder.

    Attributes:
        architecture: `torchvision/NAME`, `timm/NAME`, `FILE.py:FUNCTION` or `MODULE:FUNCTION`. The
            function takes no arguments and returns an `nn.Module` that maps images `[n, 3, H, W]` to
            outputs `[n, k]`.
        name: the name in records is `own/NAME`. By default the file's name without `.toml`.
        weights: a file of weights, `.pth`, `.pt` or `.safetensors`. By default the published weights
            of a torchvision or timm network, or those that the function returns.
        weights_key: where the network's tensors are in the file, if it holds several networks, such
            as `model_ema`.
        ignore: modules whose tensors are in the file but not in the network, such as `projector`.
        labels: the label of each output: a list, a file with one label per line, or `imagenet` for
            the 1,000 WordNet ids in the usual order. Without it an own network has no labels.
        size: height and width of the images, in pixels. By default the architecture's (224).
        resize: the shorter side of a picture before cropping. By default `size` times the
            architecture's ratio of both (256 to 224).
        mean: subtracted from each RGB channel, for pixels in [0, 1]. By default the architecture's
            (ImageNet's).
        std: divides each RGB channel. By default the architecture's (ImageNet's).
        interpolation: `bilinear` (the default) or `bicubic`.
        stages: the module at which each stage begins, by the stage's name. The last linear layer
            should be called `head`. By default stages are found by themselves.
    """

    # Strict mode converts nothing: `size = "224"` is an error.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    architecture: Annotated[
        str, Field(pattern=r"^((torchvision|timm)/[A-Za-z0-9_.-]+|.+:[A-Za-z_][A-Za-z0-9_]*)$")
    ]
    name: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = None
    weights: _Text | None = None
    weights_key: Annotated[str, Field(max_length=1000)] = ""
    ignore: Annotated[list[_Text], Field(max_length=100)] = Field(default_factory=list)
    labels: Annotated[list[_Text], Field(min_length=1, max_length=100_000)] | _Text | None = None
    size: _Pixels | None = None
    resize: _Pixels | None = None
    mean: _Channels | None = None
    std: _Deviations | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    stages: Annotated[dict[_StageName, _Text], Field(max_length=1000)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.weights is None and (self.weights_key or self.ignore):
            raise ValueError("weights_key and ignore need weights")
        return self


def explain(error: ValidationError) -> Iterator[str]:
    """A line for each wrong key: the key, what is wrong with it, and what is allowed."""
    for problem in error.errors(include_url=False):
        location = [str(part) for part in problem["loc"]]
        # pydantic reports each branch of a union; to the user it is one problem.
        key = ".".join(location[:1] if location[:1] == ["labels"] else location)
        match problem["type"]:
            case "extra_forbidden":
                allowed = list(BackboneFile.model_fields)
                meant = did_you_mean(key, allowed, "; ")
                yield f"{key}: unknown key{meant} (allowed: {', '.join(allowed)})"
            case "missing":
                yield f"{key}: is missing"
            case "value_error":
                yield str(problem["ctx"]["error"])
            case _ if key == "architecture":
                yield f'{key}: must be "torchvision/NAME", "timm/NAME" or "FILE.py:FUNCTION"'
            case _ if key == "labels":
                yield f'{key}: must be a list of texts, the name of a file, or "imagenet"'
            case _:
                yield f"{key}: {problem['msg']}, not {str(problem['input'])[:60]!r}"
