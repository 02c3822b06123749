"""Loading a backbone of one's own: its network, its weights and its stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.libraries import library_network
from attnbench.backbones.network import Network
from attnbench.backbones.own_file import OwnBackbone, find_own
from attnbench.backbones.published_weights import load_weights
from attnbench.backbones.stage_splitting import (
    Stages,
    features_and_head,
    random_images,
    sequential_stages,
    split_into_stages,
)
from attnbench.backbones.state_dicts import (
    Differences,
    load_tensors,
    modules_of,
    tensors_of_network,
    without_ignored,
)
from attnbench.backbones.traced_stages import named_stages, tracing_splitters
from attnbench.backbones.user_code import call_function, check_picklable
from attnbench.backbones.weights_files import read_tensors
from attnbench.errors import AttnbenchError
from attnbench.text import with_article

# What networks trained on ImageNet expect: the default for a function's network.
_IMAGENET = Preprocessing(
    size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def load_own(name: str, *, untrained: bool = False, data: Path | None = None) -> Backbone:
    """Return a backbone of the user's own, frozen and in eval mode.

    This may run the user's code in this process (see `attnbench.backbones.own_file`).

    Args:
        name: see `attnbench.backbones.own_file.find_own`.
        untrained: initialise the weights with seed 0 instead of loading those that the TOML file
            names. What a function loads by itself stays loaded.
        data: a data folder that may hold published weights of torchvision and timm networks.

    Raises:
        AttnbenchError: if a file is missing or not valid, the user's code fails, the weights do not
            fit, or the network cannot be used as a backbone.
    """
    own = find_own(name)
    labels = own.labels()
    # Published weights have the outputs that they have, whatever the labels.
    network = _network(own, len(labels) if labels and own.weights else None)
    missing: set[str] = set()
    if own.weights is not None and not untrained:
        network, missing = _load_checkpoint(own, own.weights, network, labels)
    elif own.function is None and not untrained:
        network = replace(network, preprocessing=load_weights(network, data))
    if labels is None and (own.weights is None or own.function):
        labels = network.labels
    preprocessing = _preprocessing(own, network.preprocessing)
    # The tensors have other names in the stages, but are the same objects.
    absent = {id(network.model.state_dict(keep_vars=True)[name]) for name in missing}
    outputs = _num_outputs(own, network.model, preprocessing.size)
    stages = _stages(own, network, preprocessing.size)
    if missing:
        _remove_head(own, stages, absent, missing, labels)
    elif labels is not None and len(labels) != outputs:
        raise AttnbenchError(
            f"{own.source}: labels: there are {len(labels)}, but the network has {outputs} outputs"
            + ("; `weights` names weights of your own" if own.weights is None else "")
        )
    backbone = Backbone(stages, name=own.name, labels=labels, preprocessing=preprocessing)
    check_picklable(backbone, own.source)
    backbone.definition = own.definition()
    return backbone


def _network(own: OwnBackbone, outputs: int | None) -> Network:
    """The untrained network. A function decides by itself how many outputs its network has."""
    if own.function is None:
        return library_network(own.settings.architecture, outputs)
    model = call_function(*own.function)
    labels, preprocessing = None, _IMAGENET
    if isinstance(model, Backbone):
        labels, preprocessing = model.labels, model.preprocessing
    return Network(
        name=own.settings.architecture,
        model=model,
        labels=labels,
        preprocessing=preprocessing,
        split=lambda model, size: _find_stages(own, model, size),
        download=dict,
    )


def _load_checkpoint(
    own: OwnBackbone, path: Path, network: Network, labels: tuple[str, ...] | None
) -> tuple[Network, set[str]]:
    """Load a file of weights into a network.

    Returns:
        The network, built anew if the file has another number of outputs, and the names of its
        tensors that the file lacks.
    """
    settings, source = own.settings, str(path)
    tensors = tensors_of_network(read_tensors(path), network.model, source, settings.weights_key)
    tensors = without_ignored(tensors, settings.ignore, source)
    differences = Differences.between(tensors, network.model)
    if differences.outputs and labels is None and own.function is None:
        network = _network(own, differences.outputs[0])
        differences = Differences.between(tensors, network.model)
    if differences.reshaped or differences.surplus:
        raise _does_not_fit(own, differences)
    load_tensors(network.model, tensors, source)
    return network, set(differences.missing)


def _does_not_fit(own: OwnBackbone, differences: Differences) -> AttnbenchError:
    if differences.surplus and not differences.reshaped and not differences.missing:
        modules = ", ".join(f'"{module}"' for module in modules_of(differences.surplus))
        advice = f"If the network does not need them, add to {own.source}: ignore = [{modules}]"
    elif (outputs := differences.outputs) and not differences.surplus:
        advice = f"The file has {outputs[0]} outputs. " + (
            "Let the function return a network with as many"
            if own.function
            else f"Name as many labels in {own.source}, not {outputs[1]}"
        )
    else:
        advice = (
            "`architecture` must be the network that the weights were trained with, and "
            f"`weights_key` the place of its tensors in the file, if it is not found ({own.source})"
        )
    return AttnbenchError(
        f"{own.weights} does not fit {own.settings.architecture}; {differences.explain()}\n{advice}"
    )


def _preprocessing(own: OwnBackbone, default: Preprocessing) -> Preprocessing:
    settings = own.settings
    size = settings.size or default.size
    resize = settings.resize or round(size * default.resize / default.size)
    if resize < size:
        raise AttnbenchError(f"{own.source}: resize: {resize} is smaller than size, {size}")
    mean, std = settings.mean or default.mean, settings.std or default.std
    return Preprocessing(
        size=size,
        resize=resize,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        interpolation=settings.interpolation or default.interpolation,
    )


def _num_outputs(own: OwnBackbone, model: nn.Module, size: int) -> int:
    """The number of outputs of a network that takes images and returns a vector for each."""
    if next(model.parameters(), None) is None:
        raise AttnbenchError(f"{own.source}: the network has no parameters")
    images = random_images(size)
    try:
        with torch.no_grad():
            outputs = model(images)
    except Exception as error:  # the network's code can raise anything
        raise AttnbenchError(
            f"{own.source}: the network fails on images {list(images.shape)}: "
            f"{type(error).__name__}: {error}; `size` says how large its images are"
        ) from None
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(images):
        is_tensor = isinstance(outputs, Tensor)
        kind = f"shape {list(outputs.shape)}" if is_tensor else with_article(type(outputs).__name__)
        raise AttnbenchError(
            f"{own.source}: the network returns {kind} for images {list(images.shape)}; "
            f"it must return a tensor [{len(images)}, k]: logits, or one embedding per image"
        )
    return outputs.shape[1]


def _stages(own: OwnBackbone, network: Network, size: int) -> Stages:
    if not own.settings.stages:
        stages = network.split(network.model, size)
        return {name: stage for name, stage in stages.items() if not isinstance(stage, nn.Identity)}
    images = random_images(size)
    try:
        stages = named_stages(network.model, own.settings.stages, images)
    except ValueError as error:
        raise AttnbenchError(f"{own.source}: stages: {error}") from None
    except Exception as error:  # tracing runs the network's code, which can raise anything
        raise AttnbenchError(
            f"{own.source}: stages: the network cannot be traced ({error}); leave `stages` out"
        ) from None
    return split_into_stages(own.source, network.model, size, (lambda _: stages,))


def _find_stages(own: OwnBackbone, model: nn.Module, size: int) -> Stages:
    """The stages of a function's network: its own, its library's, or what tracing finds."""
    if isinstance(model, Backbone):
        return dict(model.named_children())
    splitters = [*tracing_splitters(random_images(size)), sequential_stages, features_and_head]
    module = type(model).__module__
    if module.startswith("torchvision.models."):
        from attnbench.backbones import torchvision_models

        splitters.insert(0, lambda model: torchvision_models.stages_of(own.name, model, size))
    elif module.startswith("timm.models."):
        from attnbench.backbones import timm_models

        splitters.insert(0, lambda model: timm_models.stages_of(own.name, model, size))
    splitters.append(lambda model: {"network": model})
    return split_into_stages(own.name, model, size, splitters)


def _remove_head(
    own: OwnBackbone,
    stages: Stages,
    absent: set[int],
    missing: set[str],
    labels: tuple[str, ...] | None,
) -> None:
    """Remove the last stage if it is all that a checkpoint lacks: the network is an encoder.

    Args:
        own: the backbone.
        stages: changed in place.
        absent: the identities of the tensors that the checkpoint lacks.
        missing: their names.
        labels: the labels of the network's outputs, if there are any.

    Raises:
        AttnbenchError: if the checkpoint lacks something else, or the labels of the outputs are known.
    """
    *others, last = stages
    head = {id(tensor) for tensor in stages[last].state_dict(keep_vars=True).values()}
    names = ", ".join(sorted(missing)[:5])
    if head != absent or not others:
        raise AttnbenchError(
            f"{own.weights} does not fit {own.settings.architecture}; it lacks {len(missing)} of the "
            f"network's tensors: {names}. Only those of a last layer may be missing: `architecture` "
            f"must be the network that the weights were trained with ({own.source})"
        )
    if labels is not None:
        raise AttnbenchError(
            f"{own.weights} lacks the last layer ({names}), so there are no outputs for `labels`; "
            f"leave them out of {own.source}, or use weights with that layer"
        )
    del stages[last]
