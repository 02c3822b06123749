"""What `attnbench check` remarks about a submission that works, seen in the process that adapted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone, tensors_of


@dataclass(frozen=True)
class Remarks:
    """Remarks about a detector and its adaptation, one line each.

    Attributes:
        problems: what breaks the contract, although scores can be computed.
        warnings: what works, but is slow, large or probably not meant.
        scored: whether the detector scored the images it adapted on.
    """

    problems: list[str]
    warnings: list[str]
    scored: bool


def remarks_on(
    detector: nn.Module,
    backbone: Backbone,
    unchanged: set[str],
    images: Tensor,
    *,
    adapt_place: str,
    detector_place: str,
) -> Remarks:
    """Return remarks about a detector and the backbone it was made from. Leave it in eval mode.

    Args:
        detector: what `adapt` returned.
        backbone: the backbone that it was given.
        unchanged: the names of the backbone's tensors that `adapt` has not changed.
        images: the images that it adapted on, float32 `[n, 3, H, W]`.
        adapt_place: where `adapt` is defined, to begin a remark with.
        detector_place: where the detector is defined.
    """
    needless = _tracked_tensors(detector, backbone) & unchanged
    trains = any(module.training for module in detector.modules())
    delivered = _scores(detector, images)
    scores = _scores(detector.eval(), images)
    warnings = [adapt_place + text for text in _about_gradients(needless)]
    warnings += [detector_place + text for text in _about_images(detector, images)]
    if delivered is None or scores is None:
        return Remarks([], warnings, scored=False)
    if trains:
        warnings += [adapt_place + text for text in _about_train_mode(delivered, scores)]
    problems = [detector_place + text for text in _about_type(scores)]
    return Remarks(problems, warnings, scored=True)


@torch.no_grad()
def _scores(detector: nn.Module, images: Tensor) -> Tensor | None:
    """Return a detector's scores; None if it fails or returns anything other than a tensor."""
    try:
        scores = detector(images)
    except Exception:  # prediction will fail likewise, and say so
        return None
    return scores if isinstance(scores, Tensor) else None


def _about_type(scores: Tensor) -> Iterator[str]:
    dtype = str(scores.dtype).removeprefix("torch.")
    if scores.is_floating_point() and scores.element_size() < 4:
        yield (
            f"the detector returned scores of type {dtype}, which rounds different scores to the same: "
            "write `.float()` before the last operation"
        )


def _about_train_mode(delivered: Tensor, scores: Tensor) -> Iterator[str]:
    if delivered.shape != scores.shape or not torch.allclose(delivered, scores, equal_nan=True):
        yield (
            "the detector was delivered in train mode, but is judged in eval mode, where its dropout "
            "or batch norm gives other scores: call `detector.eval()` before you look at its scores "
            "or choose a threshold"
        )


def _about_gradients(needless: set[str]) -> Iterator[str]:
    if needless:
        yield (
            "adapt tracks gradients of tensors of the backbone that it does not change "
            f"({len(needless)}, such as {min(needless)!r}), which is slow: compute what stays frozen "
            "under `torch.no_grad()`, or leave `requires_grad` off"
        )


def _about_images(detector: nn.Module, images: Tensor) -> Iterator[str]:
    for name, tensor in _tensors_in(detector):
        if tensor.dim() == 4 and tensor.shape[1:] == images.shape[1:]:
            kept = sum(bool((images == image).flatten(1).all(1).any()) for image in tensor)
            if kept:
                yield (
                    f"the detector holds {kept} of the images it adapted on in {name!r}, and each of "
                    "their numbers counts as a parameter: keep only what you compute from them"
                )


def _tensors_in(detector: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that a detector's modules hold, with their qualified names."""
    yield from tensors_of(detector).items()
    for prefix, module in detector.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                yield f"{prefix}.{name}".lstrip("."), value


def _tracked_tensors(detector: nn.Module, backbone: Backbone) -> set[str]:
    """Return which of the backbone's tensors have a gradient, or a kept graph that leads to them."""
    reached = set()
    pending = [tensor.grad_fn for _, tensor in _tensors_in(detector)]
    seen = set()
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            reached.add(id(getattr(node, "variable", None)))
            pending += [before for before, _ in node.next_functions]
    return {
        name
        for name, tensor in tensors_of(backbone).items()
        if tensor.grad is not None or id(tensor) in reached
    }
