"""timm's networks as named stages: classifiers, and encoders trained without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from timm.models import VisionTransformer
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.cutting import (
    ClassToken,
    MeanToken,
    Stages,
    cut,
    features_and_head,
    in_a_row,
)
from attnbench.backbones.published import initialised, load_weights
from attnbench.errors import AttnbenchError


def load_timm(name: str, *, untrained: bool = False, data: Path | None = None) -> Backbone:
    """A network of timm's, frozen, in eval mode, cut into stages.

    Pictures are resized as `Preprocessing` says, bilinearly, also where timm's weights were trained on
    bicubic ones.

    Args:
        name: as timm has it, such as `resnet50.a1_in1k` or `vit_small_patch16_224.dino`.
        untrained: leave it as initialised with seed 0.
        data: a folder; weights in its `weights/NAME-*.safetensors` are preferred to a download.

    Raises:
        AttnbenchError: for an unknown network, one that cannot be cut, or weights not to be had.
    """
    if not timm.is_model(name):
        raise AttnbenchError(
            f"timm {timm.__version__} has no network {name!r}; `timm.list_models()` lists them "
            "(resnet50.a1_in1k, vit_small_patch16_224.dino, …)"
        )
    try:
        model: Any = initialised(lambda: timm.create_model(name, pretrained=False))
    except RuntimeError as error:  # an architecture with weights of another name
        raise AttnbenchError(f"timm cannot make {name!r}: {error}") from None
    if not untrained:
        load_weights(model, name, data, lambda: _download(name))
    wants = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    size = wants["input_size"][-1]
    labels = _labels(model)
    ways: tuple[Callable[[nn.Module], Stages], ...] = (features_and_head,)
    if getattr(model, "output_fmt", "NCHW") == "NCHW":  # what submissions take maps to be
        ways = (in_a_row, vision_transformer, features_and_head)
    stages = cut(f"timm/{name}", model, size, ways)
    return Backbone(
        stages,
        name=f"timm/{name}",
        labels=labels,
        preprocessing=Preprocessing(
            size=size,
            resize=round(size / wants["crop_pct"]),
            mean=tuple(wants["mean"]),
            std=tuple(wants["std"]),
        ),
    )


def _download(name: str) -> Mapping[str, Tensor]:
    state: Mapping[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    return state


def _labels(model: Any) -> tuple[str, ...] | None:
    """WordNet ids where timm knows them, numbers where it does not, none for an encoder."""
    if not model.num_classes:
        return None
    subset = infer_imagenet_subset(model)
    if subset is None:
        return tuple(str(number) for number in range(model.num_classes))
    return tuple(ImageNetInfo(subset).label_names())  # type: ignore[no-untyped-call]


def vision_transformer(model: nn.Module) -> Stages:
    """`tokens`, its blocks, `norm` with what makes one vector of all tokens, and `head`.

    Raises ValueError for another network, or one that pools its tokens in another way.
    """
    if not isinstance(model, VisionTransformer) or model.global_pool not in ("token", "avg"):
        raise ValueError("no vision transformer")
    stages: Stages = {"tokens": _TokensOfImage(model)}
    stages |= {f"block{n}": block for n, block in enumerate(model.blocks, start=1)}
    by_mean = model.global_pool == "avg"
    pool = MeanToken(model.num_prefix_tokens) if by_mean else ClassToken()
    stages["norm"] = nn.Sequential(model.norm, pool, model.fc_norm, model.head_drop)
    if model.num_classes:
        stages["head"] = model.head
    # The input side keeps the network, whose forward puts class tokens and positions in, without these.
    model.blocks, model.norm, model.head = nn.Sequential(), nn.Identity(), nn.Identity()
    model.fc_norm, model.head_drop = nn.Identity(), nn.Dropout(0.0)
    return stages


class _TokensOfImage(nn.Module):
    """The input side of a vision transformer: images `[n, 3, H, W]` to tokens `[n, t, d]`."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.vit.forward_features(images)
        return tokens
