"""STAWM's probe as in the paper: a trainable query on the memory, with a linear read-out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import relu6

from attnbench.adaptation.glimpses import HebbRosenblatt, MemoryState
from attnbench.backbones.backbone import Backbone
from attnbench.tasks import HubSource
from pretraining.probe import encode, matching_test_split
from pretraining.recipes import batches
from pretraining.stawm.network import (
    FEATURE_WIDTH,
    GLIMPSES,
    STATE_WIDTH,
    StawmEncoder,
    stawm_backbone,
)


class GlimpseFeatures(nn.Module):
    """The published probe's input: the context and the memory's inputs, `[n, 512 + 8 * 256]`.

    Args:
        encoder: the glimpsing encoder, which takes images `[n, 3, 32, 32]` in [0, 1].
    """

    def __init__(self, encoder: StawmEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        seen = self.encoder.glimpses(images)
        return torch.cat([seen.context, *seen.memory_inputs], dim=1)


class PublishedProbe(nn.Module):
    """What the paper trains with labels: a query, the memory's three numbers and a linear read-out.

    It takes the output of `GlimpseFeatures` and returns logits `[n, classes]`. With ten classes it
    has 133,901 parameters; the beta-VAE's probe has 330.

    Args:
        memory: the trained memory. The probe trains a copy of it.
        classes: the number of classes.
    """

    def __init__(self, memory: HebbRosenblatt, classes: int = 10) -> None:
        super().__init__()
        self.memory = copy.deepcopy(memory).requires_grad_(True)
        self.query = nn.Linear(FEATURE_WIDTH, STATE_WIDTH)
        self.classes = nn.Linear(STATE_WIDTH, classes)

    def forward(self, features: Tensor) -> Tensor:
        widths = [FEATURE_WIDTH, *[STATE_WIDTH] * GLIMPSES]
        context, *memory_inputs = torch.split(features, widths, dim=1)
        memory_state: MemoryState = []
        for memory_input in memory_inputs:
            memory_state = self.memory.write(memory_state, memory_input)
        answer = self.memory.read(memory_state, relu6(self.query(context)))
        return cast(Tensor, self.classes(answer))


def published_probe_error(
    backbone: Backbone, training: HubSource, data: Path | None, epochs: int = 50
) -> tuple[float, int]:
    """Train and test the published probe.

    Glimpses are computed once, so there is no augmentation and no dropout.

    Args:
        backbone: a trained STAWM backbone, in eval mode.
        training: the pictures that the backbone was trained on.
        data: the data folder, or None to load from the hub.
        epochs: the number of epochs.

    Returns:
        The probe's error on the test split, from 0 to 1, and its number of parameters.

    Raises:
        AttnbenchError: if the data is missing.
    """
    encoder = cast(StawmEncoder, backbone.stage("memory"))
    extractor = stawm_backbone({"glimpses": GlimpseFeatures(encoder)}, backbone.name)
    (training_features, training_labels), (test_features, test_labels) = (
        [torch.from_numpy(array) for array in encode(extractor, source, data)]
        for source in (training, matching_test_split(training))
    )
    torch.manual_seed(0)
    probe = PublishedProbe(encoder.memory)
    train_probe(probe, training_features, training_labels, epochs)
    with torch.no_grad():
        error = (probe(test_features).argmax(1) != test_labels).float().mean()
    return float(error), sum(parameter.numel() for parameter in probe.parameters())


def train_probe(probe: PublishedProbe, features: Tensor, labels: Tensor, epochs: int) -> None:
    """Train a probe in place: Adam at a learning rate of 0.001, divided by ten three times.

    Args:
        probe: the probe.
        features: the output of `GlimpseFeatures`, `[n, 512 + 8 * 256]`.
        labels: class indices, int64 `[n]`.
        epochs: the number of epochs. The rate falls after a half, 0.8 and 0.9 of them.
    """
    rng = np.random.default_rng(0)
    optimiser = torch.optim.Adam(probe.parameters(), 1e-3)
    milestones = [round(share * epochs) for share in (0.5, 0.8, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones)
    for _ in range(epochs):
        for rows in batches(rng.permutation(len(labels)), 128):
            loss = functional.cross_entropy(probe(features[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
