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
from attnbench.backbones.published_weights import build_with_fixed_seed, load_weights
from attnbench.backbones.stage_splitting import (
    ClassToken,
    MeanToken,
    Stages,
    features_and_head,
    sequential_stages,
    split_into_stages,
)
from attnbench.errors import AttnbenchError


def load_timm(name: str, *, untrained: bool = False, data: Path | None = None) -> Backbone:
    """Return a timm network as named stages, frozen and in eval mode.

    Pictures are resized bilinearly as described by `Preprocessing`, even if the weights were trained
    on pictures resized bicubically.

    Args:
        name: timm's name, such as `resnet50.a1_in1k` or `vit_small_patch16_224.dino`.
        untrained: initialise the weights with seed 0 instead of loading trained ones.
        data: a data folder. Weights in its `weights/NAME-*.safetensors` are preferred to a download.

    Raises:
        AttnbenchError: if timm has no such network, its weights cannot be loaded, or it cannot be
            split into stages.
    """
    if not timm.is_model(name):
        raise AttnbenchError(
            f"timm {timm.__version__} has no network {name!r}; `timm.list_models()` lists them "
            "(resnet50.a1_in1k, vit_small_patch16_224.dino, …)"
        )
    try:
        model: Any = build_with_fixed_seed(lambda: timm.create_model(name, pretrained=False))
    except RuntimeError as error:  # the architecture exists, but not with weights of this name
        raise AttnbenchError(f"timm cannot build {name!r}: {error}") from None
    if not untrained:
        load_weights(model, name, data, lambda: _download(name))
    config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    size = config["input_size"][-1]
    labels = _labels(model)
    splitters: tuple[Callable[[nn.Module], Stages], ...] = (features_and_head,)
    # Submissions take a 4-dimensional stage output for `[n, c, h, w]`. Networks with another layout
    # (Swin has its channels last) must not expose such stages.
    if getattr(model, "output_fmt", "NCHW") == "NCHW":
        splitters = (sequential_stages, vision_transformer, features_and_head)
    stages = split_into_stages(f"timm/{name}", model, size, splitters)
    return Backbone(
        stages,
        name=f"timm/{name}",
        labels=labels,
        preprocessing=Preprocessing(
            size=size,
            resize=round(size / config["crop_pct"]),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
        ),
    )


def _download(name: str) -> Mapping[str, Tensor]:
    state: Mapping[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    return state


def _labels(model: Any) -> tuple[str, ...] | None:
    """Return WordNet ids if timm knows them, otherwise class numbers; None for an encoder."""
    if not model.num_classes:
        return None
    subset = infer_imagenet_subset(model)
    if subset is None:
        return tuple(str(number) for number in range(model.num_classes))
    return tuple(ImageNetInfo(subset).label_names())  # type: ignore[no-untyped-call]


def vision_transformer(model: nn.Module) -> Stages:
    """Split a vision transformer that pools by class token or by averaging tokens.

    Returns:
        `tokens` (the embedding), `block1`, `block2`, …, `norm` (normalisation and pooling), and
        `head` unless the network is an encoder.

    Raises:
        ValueError: if the network is not a vision transformer, or pools its tokens in another way.
    """
    if not isinstance(model, VisionTransformer) or model.global_pool not in ("token", "avg"):
        raise ValueError("not a vision transformer")
    stages: Stages = {"tokens": _TokenEmbedding(model)}
    stages |= {f"block{number}": block for number, block in enumerate(model.blocks, start=1)}
    averages_tokens = model.global_pool == "avg"
    pool = MeanToken(model.num_prefix_tokens) if averages_tokens else ClassToken()
    stages["norm"] = nn.Sequential(model.norm, pool, model.fc_norm, model.head_drop)
    if model.num_classes:
        stages["head"] = model.head
    # `tokens` holds the network itself, as only its own forward function knows how to add class
    # tokens and positions. The modules that became other stages are removed from it.
    model.blocks, model.norm, model.head = nn.Sequential(), nn.Identity(), nn.Identity()
    model.fc_norm, model.head_drop = nn.Identity(), nn.Dropout(0.0)
    return stages


class _TokenEmbedding(nn.Module):
    """The input of a vision transformer: images `[n, 3, H, W]` to tokens `[n, t, d]`."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.vit.forward_features(images)
        return tokens
