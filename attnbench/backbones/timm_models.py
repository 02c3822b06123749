"""timm's networks as named stages: classifiers, and encoders trained without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from timm.data.config import resolve_model_data_config
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from timm.models import VisionTransformer, get_notrace_functions
from torch import Tensor, nn

from attnbench.backbones.backbone import Preprocessing
from attnbench.backbones.network import Network, build_with_fixed_seed
from attnbench.backbones.stage_splitting import (
    ClassToken,
    MeanToken,
    Stages,
    copy_with_same_tensors,
    features_and_head,
    random_images,
    sequential_stages,
    split_into_stages,
)
from attnbench.backbones.traced_stages import tracing_splitters
from attnbench.backbones.weights_files import read_tensors
from attnbench.errors import AttnbenchError
from attnbench.text import did_you_mean

# How long the hub may take to answer whether it has a file.
_HUB_SECONDS = 10.0


def timm_network(name: str, outputs: int | None = None) -> Network:
    """Return a timm network with weights initialised with seed 0.

    Pictures are resized bilinearly as described by `Preprocessing`, even if the published weights
    were trained on pictures resized bicubically.

    Args:
        name: timm's name, such as `resnet50.a1_in1k` or `vit_small_patch16_224.dino`.
        outputs: the number of outputs; by default that of the published weights.

    Raises:
        AttnbenchError: if timm has no such network.
    """
    if not timm.is_model(name):
        known = [*timm.list_models(), *timm.list_models(pretrained=True)]
        raise AttnbenchError(
            f"timm {timm.__version__} has no network {name!r}{did_you_mean(name, known, ': ')} "
            "(`timm.list_models()` lists them: resnet50.a1_in1k, vit_small_patch16_224.dino, …)"
        )
    options: dict[str, Any] = {} if outputs is None else {"num_classes": outputs}
    try:
        model: Any = build_with_fixed_seed(
            lambda: timm.create_model(name, pretrained=False, **options)
        )
    except RuntimeError as error:  # the architecture exists, but not with weights of this name
        raise AttnbenchError(f"timm cannot build {name!r}: {error}") from None
    config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    size = config["input_size"][-1]
    return Network(
        name=f"timm/{name}",
        model=model,
        labels=_labels(model),
        preprocessing=Preprocessing(
            size=size,
            resize=round(size / config["crop_pct"]),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
        ),
        split=lambda model, size: stages_of(name, model, size),
        download=lambda: _download(name, model.pretrained_cfg),
    )


def stages_of(name: str, model: nn.Module, size: int) -> Stages:
    """Return the stages of a timm network, in the order in which they run.

    Args:
        name: the network's name, for the error message.
        model: the network, in eval mode. It is not changed, and its tensors are those of the stages.
        size: height and width of its images, in pixels.

    Raises:
        AttnbenchError: if the network cannot be split.
    """
    splitters: tuple[Callable[[nn.Module], Stages], ...] = (features_and_head,)
    # Submissions take a 4-dimensional stage output for `[n, c, h, w]`. Networks with another layout
    # (Swin has its channels last) must not expose such stages.
    if getattr(model, "output_fmt", "NCHW") == "NCHW":
        # timm says which of its functions branch on shapes, which a trace cannot follow.
        closed = get_notrace_functions()  # type: ignore[no-untyped-call]
        tracing = tracing_splitters(random_images(size), closed)
        splitters = (sequential_stages, vision_transformer, features_and_head, *tracing)
    return split_into_stages(f"timm/{name}", model, size, splitters)


def _download(name: str, config: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the published state dictionary of a network with this pretrained configuration."""
    repository = config.get("hf_hub_id")
    files = (config.get("hf_hub_filename") or "model.safetensors", "pytorch_model.bin")
    cached = [try_to_load_from_cache(repository, file) for file in files] if repository else []
    paths = [path for path in cached if isinstance(path, str)]
    if repository and not paths:
        _require_hub(repository, files[0])
    try:
        state: Mapping[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except Exception:
        for path in paths:
            # The cached name is a link. If only the link were deleted, it would be made again.
            file = Path(path).resolve()
            read_tensors(file, f"delete it, and it is downloaded again from {repository}")
        raise
    return state


def _require_hub(repository: str, file: str) -> None:
    """Raise AttnbenchError if the hub cannot be reached.

    timm would try for most of a minute, and print each try. One request without retries says as much.
    """
    try:
        get_hf_file_metadata(hf_hub_url(repository, file), timeout=_HUB_SECONDS)
    except HfHubHTTPError:  # it answers, and timm knows other names of files
        return
    except Exception as error:  # of the HTTP library, which differs between versions
        raise AttnbenchError(f"the hub cannot be reached for {repository} ({error})") from None


def _labels(model: Any) -> tuple[str, ...] | None:
    """Return the WordNet ids of the outputs, or None where timm does not know what they are."""
    if not model.num_classes:
        return None
    subset = infer_imagenet_subset(model)
    return None if subset is None else tuple(ImageNetInfo(subset).label_names())  # type: ignore[no-untyped-call]


def vision_transformer(model: nn.Module) -> Stages:
    """Split a vision transformer that pools by class token, by averaging tokens or by attention.

    Returns:
        `tokens` (the embedding), `block1`, `block2`, …, `norm` (normalisation and pooling), and
        `head` unless the network is an encoder.

    Raises:
        ValueError: if the network is not a vision transformer, or pools its tokens in another way.
    """
    if not isinstance(model, VisionTransformer):
        raise ValueError("not a vision transformer")
    pools: dict[str, Callable[[], nn.Module]] = {
        "token": ClassToken,
        "avg": lambda: MeanToken(model.num_prefix_tokens),
        "map": lambda: model.attn_pool,
    }
    if model.global_pool not in pools:
        raise ValueError(f"pools its tokens by {model.global_pool!r}")
    pool = pools[model.global_pool]()
    # `tokens` holds a copy of the network, as only its own forward function knows how to add class
    # tokens and positions. The modules that become other stages are removed from the copy.
    embedding: Any = copy_with_same_tensors(model)
    embedding.blocks, embedding.norm, embedding.head = nn.Sequential(), nn.Identity(), nn.Identity()
    embedding.attn_pool, embedding.fc_norm = None, nn.Identity()
    embedding.head_drop = nn.Dropout(0.0)
    stages: Stages = {"tokens": _TokenEmbedding(embedding)}
    stages |= {f"block{number}": block for number, block in enumerate(model.blocks, start=1)}
    stages["norm"] = nn.Sequential(model.norm, pool, model.fc_norm, model.head_drop)
    return stages | ({"head": model.head} if model.num_classes else {})


class _TokenEmbedding(nn.Module):
    """The input of a vision transformer: images `[n, 3, H, W]` to tokens `[n, t, d]`."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.vit.forward_features(images)
        return tokens
