"""Adapting and predicting in the user's own process: `print`, debuggers and tracebacks work.

Nothing is isolated here, so what comes out is for the method's author and never becomes a record.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attnbench.backbones.backbone import Backbone
from attnbench.errors import AttnbenchError
from attnbench.judge.parameter_count import ParameterCounter
from attnbench.records.record import Cost, EpisodeResult, Measures
from attnbench.sandbox.contract import call_mismatch, checked_detector, checked_outputs
from attnbench.sandbox.failures import ContractViolation
from attnbench.sandbox.packing import ArtefactPacker
from attnbench.sandbox.places import place_of_detector, place_of_function
from attnbench.sandbox.remarks import remarks_on
from attnbench.sandbox.warm_state import set_seed, synchronise
from attnbench.statistics.detection import detect
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission

Adapt = Callable[..., object]


@dataclass(frozen=True)
class InProcessOutcome:
    """The outcome of one episode.

    Attributes:
        result: measures and cost, as in a record.
        scores: float32 `[n]`, the decision score of each test image.
        remarks: what `attnbench check` would say about the detector; empty for a function.
    """

    result: EpisodeResult
    scores: NDArray[np.float32]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class InProcessAdaptation:
    """A detector that was made in this process, and what it cost.

    Attributes:
        detector: the detector.
        device: the device that it is on.
        place: where it is defined, to begin a message with.
        cost: the cost of the adaptation, without that of a prediction.
        remarks: what `attnbench check` would say about the detector.
        stages: the modules of the backbone's stages, as they were given to the method, by name.
    """

    detector: nn.Module
    device: torch.device
    place: str
    cost: Cost
    remarks: tuple[str, ...]
    stages: Mapping[str, nn.Module]

    def test(self, episode: Episode) -> InProcessOutcome:
        """Score the detector on the test images of an episode.

        Raises:
            AttnbenchError: if the detector does not keep the contract.
            Exception: whatever the detector raises.
        """
        started = time.perf_counter()
        try:
            scores = _predict(self.detector, episode, self.device, self.place)
        except ContractViolation as violation:
            raise AttnbenchError(str(violation)) from None
        prediction_seconds = time.perf_counter() - started
        result = EpisodeResult(
            target=episode.target,
            status="ok",
            images_sha256=episode.fingerprint,
            measures=Measures.of(detect(scores, episode.present)),
            cost=self.cost.model_copy(update={"prediction_seconds": prediction_seconds}),
            has_label=episode.label is not None,
        )
        return InProcessOutcome(result, scores, self.remarks)


def adapt_in_process(
    adapt: Adapt,
    backbone: Backbone,
    episode: Episode,
    settings: Mapping[str, Any],
    *,
    submission: Submission | None = None,
) -> InProcessAdaptation:
    """Adapt to an episode without isolation.

    Seeds, prediction mode, scoring and counting are as in `attnbench evaluate`. Times are of this
    process, in which other episodes may have run before, so they are only rough.

    Args:
        adapt: the method.
        backbone: the backbone, on the device to use. A copy of it is adapted.
        episode: the images.
        settings: keyword arguments for `adapt`.
        submission: the submission that `adapt` belongs to; None for a function without one.

    Raises:
        AttnbenchError: if the method does not keep the contract.
        Exception: whatever `adapt` raises.
    """
    folder = submission.folder if submission else None
    adapt_place = place_of_function(adapt, folder) if folder else ""
    if mismatch := call_mismatch(adapt, settings):
        raise AttnbenchError(adapt_place + mismatch)
    network = copy.deepcopy(backbone)
    network.target = episode.label
    stages = dict(network.named_children())
    device = next(network.parameters()).device
    packer = ArtefactPacker(network)
    pos, neg = (torch.from_numpy(images.copy()).to(device) for images in (episode.pos, episode.neg))
    pass_seconds = _pass_seconds(network, torch.cat([pos, neg]))
    set_seed(episode.seed)
    started = time.perf_counter()
    with torch.enable_grad():
        returned = adapt(network, pos, neg, **settings)
    synchronise(device)
    adaptation_seconds = time.perf_counter() - started
    try:
        detector = checked_detector(returned, adapt_place)
        place = place_of_detector(detector, folder) if folder else ""
        artefact = packer.pack(detector, folder)
        program = submission.program if submission else {}
        size = ParameterCounter(backbone).measure(artefact, program)
        remarks: tuple[str, ...] = ()
        if folder is not None:
            found = remarks_on(
                detector,
                network,
                packer.unchanged_tensors(),
                torch.cat([pos, neg]),
                adapt_place=adapt_place,
                detector_place=place,
            )
            remarks = (*found.problems, *(f"warning: {text}" for text in found.warnings))
    except ContractViolation as violation:
        raise AttnbenchError(str(violation)) from None
    cost = Cost(
        parameters_added=size.parameters_added,
        parameters_changed=size.parameters_changed,
        other_numbers=size.other_numbers,
        artefact_bytes=size.bytes,
        adaptation_seconds=adaptation_seconds,
        adaptation_seconds_cold=None,
        pass_seconds=pass_seconds,
        prediction_seconds=0.0,
    )
    return InProcessAdaptation(detector, device, place, cost, remarks, stages)


@torch.no_grad()
def _predict(
    detector: nn.Module, episode: Episode, device: torch.device, place: str
) -> NDArray[np.float32]:
    """Return the decision score of each test image, float32 `[n]`.

    Args:
        detector: the detector, which is put into eval mode.
        episode: the test images.
        device: the device that the detector is on.
        place: where the detector is defined, to begin a message with.

    Raises:
        ContractViolation: if it returns anything other than a finite score for each image.
    """
    set_seed(episode.seed)
    detector.eval()
    scores = np.empty(len(episode.present), np.float32)
    for order in episode.batches(np.arange(len(scores))):
        images = torch.from_numpy(episode.make(order)).to(device)
        scores[order] = checked_outputs(detector(images), (len(order),), "scores", place)
    if not np.isfinite(scores).all():
        raise ContractViolation(f"{place}some scores are NaN or infinite; scores must be finite")
    return scores


@torch.no_grad()
def _pass_seconds(network: Backbone, images: torch.Tensor) -> float:
    """Time a forward pass of the backbone in seconds. A small one before it warms up."""
    network(images[:1])
    synchronise(images.device)
    started = time.perf_counter()
    network(images)
    synchronise(images.device)
    return time.perf_counter() - started
