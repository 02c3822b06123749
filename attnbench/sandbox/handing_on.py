"""Handing on: the network of an earlier detector, as the backbone of the next adaptation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from torch import nn

from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.errors import NotApplicable
from attnbench.sandbox.unpacking import unpack_named
from attnbench.wire.artefact import Artefact


def handed_on(artefact: Artefact, backbone: Backbone) -> Backbone:
    """Return the network of an earlier detector, with the stages of the backbone it was made from.

    The detector offers its network as `network`: a sequence of modules that maps images to the outputs
    that `logits` returns. What the adaptation has put between two stages becomes part of the first of
    them, and what it has put before the first stage becomes part of that one.

    Args:
        artefact: the detector.
        backbone: the backbone, with the next target set. Unchanged modules are shared with it.

    Raises:
        NotApplicable: if the detector offers no such network, or the network does not run the stages
            one after the other.
    """
    detector, names = unpack_named(artefact, backbone)
    network = getattr(detector, "network", None)
    if not isinstance(network, nn.Module):
        raise NotApplicable(
            "its detector cannot be handed on: it has no `network`, a sequence of modules from images "
            "to the outputs of the backbone"
        )
    stages = _stages(network, backbone, names)
    delivered = Backbone(
        stages, name=backbone.name, labels=backbone.labels, preprocessing=backbone.preprocessing
    )
    delivered.target = backbone.target
    return delivered


def _stages(
    network: nn.Module, backbone: Backbone, names: Mapping[int, str]
) -> dict[str, nn.Module]:
    """Return the modules of a network by stage.

    Args:
        network: the network.
        backbone: the backbone.
        names: the names of the backbone's tensors by the ids of the tensors in their places.
    """
    stage_of = {
        id(module): name.partition(".")[0] for name, module in backbone.named_modules() if name
    }
    found: list[tuple[str, nn.Module]] = []
    current = backbone.stages[0]
    for name, module in _chain(network):
        known = name or stage_of.get(id(module))
        held = {names.get(id(tensor), "") for tensor in tensors_of(module).values()} - {""}
        stages = {known} if known else {tensor.partition(".")[0] for tensor in held}
        if len(stages) > 1:
            raise NotApplicable(_explain(f"one of its modules holds {', '.join(sorted(stages))}"))
        current = next(iter(stages), current)
        found.append((current, module))
    groups = [
        (stage, [module for _, module in group]) for stage, group in groupby(found, lambda p: p[0])
    ]
    if tuple(stage for stage, _ in groups) != backbone.stages:
        raise NotApplicable(_explain(f"it runs {', '.join(stage for stage, _ in groups)}"))
    return {
        stage: modules[0] if len(modules) == 1 else nn.Sequential(*modules)
        for stage, modules in groups
    }


def _chain(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that a sequence runs, in order, with their stages if they are known."""
    if isinstance(module, Backbone):
        yield from module.named_children()
    elif type(module).forward is nn.Sequential.forward:
        for child in module.children():
            yield from _chain(child)
    else:
        yield "", module


def _explain(what: str) -> str:
    return (
        "its detector cannot be handed on: its network does not run the stages of the backbone one "
        f"after the other ({what})"
    )
