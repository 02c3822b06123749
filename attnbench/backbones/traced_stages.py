"""Stages of a network of any make, found by tracing how its forward function calls its modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone
from attnbench.backbones.stage_splitting import Stages
from attnbench.backbones.traced_operations import Trace, attribute_name

# Attributes of a backbone that are no class attributes, so that no stage may have their names.
_TAKEN = ("name", "labels", "preprocessing", "target", "training")


def is_possible_name(stage: str) -> bool:
    """Whether a stage may have this name: one that is no attribute of `Backbone`."""
    return stage not in _TAKEN and not hasattr(Backbone, stage)


def named_stages(model: nn.Module, starts: Mapping[str, str], images: Tensor) -> Stages:
    """Cut a network at modules that the user names.

    Args:
        model: the network, in eval mode. It is not changed.
        starts: for each stage, the name of the module that it begins with. The first one also gets
            what runs before that module.
        images: `[n, 3, H, W]`, to run the trace once.

    Raises:
        ValueError: if a stage cannot have its name, there is no such module or it does not run, or
            the network cannot be cut before it.
        Exception: whatever tracing the network raises.
    """
    modules = dict(model.named_modules())
    trace = Trace(
        model,
        images,
        lambda name, _: any(start.startswith(f"{name}.") for start in starts.values()),
    )
    stages: dict[int, str] = {}
    for stage, module in starts.items():
        if not is_possible_name(stage):
            raise ValueError(f"no stage can be called {stage!r}, an attribute of backbones")
        if module not in modules:
            known = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"the network has no module {module!r}; at its top level are {known}")
        calls = (name == module or name.startswith(f"{module}.") for name in trace.modules)
        position = next((position for position, is_in in enumerate(calls) if is_in), None)
        if position is None:
            raise ValueError(f"the module {module!r} is not called when the network runs")
        if position > 0 and position not in trace.cuts:
            raise ValueError(
                f"no stage can begin with {module!r}: more than one tensor is needed from there on, "
                "as inside a skip connection; begin the stage with the block around it"
            )
        if position in stages:
            raise ValueError(f"the stages {stages[position]!r} and {stage!r} begin at one module")
        stages[position] = stage
    first, *later = sorted(stages)
    bounds = [0, *later, len(trace.modules)]
    return {
        stages[key]: trace.stage(start, end)
        for key, start, end in zip([first, *later], bounds, bounds[1:], strict=False)
    }


def tracing_splitters(
    images: Tensor, closed: Sequence[Callable[..., Any]] = ()
) -> tuple[Callable[[nn.Module], Stages], ...]:
    """Return the splitters that trace a network, the one with more stages first.

    Args:
        images: `[n, 3, H, W]`, to run the network and its trace.
        closed: functions whose own operations are not traced.
    """
    return (
        lambda model: found_stages(model, images, inside=True, closed=closed),
        lambda model: found_stages(model, images, inside=False, closed=closed),
    )


def found_stages(
    model: nn.Module, images: Tensor, *, inside: bool, closed: Sequence[Callable[..., Any]] = ()
) -> Stages:
    """Cut a network wherever that gives a stage with weights of its own.

    Normalisations, activations and the like join the stage before them. What turns maps or tokens
    into vectors begins a stage, so that the maps are the output of a stage. Sequences are cut inside.
    No stage returns maps with channels last.

    Args:
        model: the network, in eval mode. It is not changed.
        images: `[n, 3, H, W]`, to run the network and its trace.
        inside: also cut inside blocks that turn images or maps into vectors, such as an encoder.
        closed: functions whose own operations are not traced.

    Returns:
        Stages named after their first modules. The last is called `head` if it has weights and either
        begins with a linear layer or takes vectors.

    Raises:
        ValueError: if the network cannot be cut.
        Exception: whatever tracing the network raises.
    """
    encoders = _modules_from_maps_to_vectors(model, images) if inside else set()
    trace = Trace(
        model,
        images,
        lambda name, module: name in encoders or type(module).forward is nn.Sequential.forward,
        closed,
    )
    end = len(trace.modules)
    modules = dict(model.named_modules())

    def with_weights(start: int, stop: int) -> list[nn.Module]:
        """The modules called there that have more parameters than one per channel."""
        called = (modules[name] for name in trace.modules[start:stop] if name)
        return [module for module in called if any(p.dim() > 1 for p in module.parameters())]

    cuts = [position for position in trace.cuts if not _is_channels_last(trace.values[position])]
    starts = [0]
    for position, following in zip(cuts, [*cuts[1:], end], strict=True):
        # What precedes the first weights, such as a scaling of pixels, belongs to the first stage.
        # Flattening belongs to the pooling before it.
        if with_weights(position, following):
            begins = len(starts) > 1 or bool(with_weights(0, position))
        else:
            before, after = trace.values[position], trace.values[following]
            begins = bool(with_weights(starts[-1], position)) and _makes_vectors(before, after)
        if begins:
            starts.append(position)
    if len(starts) == 1:
        raise ValueError("the network cannot be cut anywhere")
    stages: Stages = {}
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        called = next((name for name in trace.modules[start:stop] if name), "pool")
        is_head = stop == end and _is_head(trace.values[start], with_weights(start, stop))
        name = "head" if is_head else _free_name(called, stages)
        stages[name] = trace.stage(start, stop)
    return stages


def _is_channels_last(maps: Tensor) -> bool:
    """Whether maps are `[n, h, w, c]`, which submissions would take for `[n, c, h, w]`.

    The images are square, so the two sizes that are equal are height and width.
    """
    return maps.dim() == 4 and maps.shape[1] == maps.shape[2] != maps.shape[3]


def _is_head(value: Any, weighted: list[nn.Module]) -> bool:
    """Whether a last stage with this input and these modules reads outputs from features."""
    takes_vectors = isinstance(value, Tensor) and _num_places(value.shape) == 1
    return bool(weighted) and (takes_vectors or isinstance(weighted[0], nn.Linear))


def _free_name(module: str, stages: Stages) -> str:
    name = attribute_name(module)
    name = f"layer{name}" if name[0].isdigit() else name
    while name in stages or name == "head" or not is_possible_name(name):
        name += "_"
    return name


def _makes_vectors(before: Any, after: Any) -> bool:
    """Whether maps `[n, c, h, w]` or tokens `[n, t, c]` become one vector per image."""
    if not (isinstance(before, Tensor) and isinstance(after, Tensor)):
        return False
    return _num_places(before.shape) > 1 and _num_places(after.shape) == 1


def _num_places(shape: torch.Size) -> int:
    return {4: shape[2:].numel(), 3: shape[1]}.get(len(shape), 1)


def _modules_from_maps_to_vectors(model: nn.Module, images: Tensor) -> set[str]:
    """The names of modules with children that take `[n, c, h, w]` and return `[n, k]`."""
    found = set()

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            tensors = [value for value in (*inputs, output) if isinstance(value, Tensor)]
            if [tensor.dim() for tensor in tensors] == [4, 2]:
                found.add(name)

        return hook

    hooks = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if next(module.children(), None) is not None
    ]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in hooks:
            handle.remove()
    return found
