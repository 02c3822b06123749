"""Contenders of races: shipped submissions, and the plain loops that they are compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from attnbench.adaptation import Gains, middle_stage, num_channels, stages_with_maps
from attnbench.adaptation.detectors import LogOdds
from attnbench.backbones.backbone import Backbone
from attnbench.submission import load_submission
from benchmarks.race import TARGET, Adapt
from tests.submissions.adapted import load_program

EPOCHS, BATCH_SIZE = 10, 16


def shipped(name: str, **overrides: object) -> Adapt:
    """Return a shipped submission with the hyperparameters of its manifest, and some overrides."""
    submission, program = load_submission(name), load_program(name)

    def adapt(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
        hyperparameters = submission.hyperparameters_for(backbone.name) | overrides
        detector: nn.Module = program.adapt(backbone, pos, neg, **hyperparameters)
        return detector

    return adapt


# Plain loops: the whole network runs in each step of Adam, with 16 images per step, for 10 epochs.


def train(detector: nn.Module, pos: Tensor, neg: Tensor, learning_rate: float) -> nn.Module:
    trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, learning_rate)
    images = torch.cat([pos, neg])
    signs = torch.cat([torch.ones(len(pos)), -torch.ones(len(neg))]).to(images.device)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH_SIZE):
            optimiser.zero_grad()
            loss = softplus(-signs[rows] * detector(images[rows])).mean()
            torch.autograd.backward(loss)
            optimiser.step()
    return detector


def attended_stage(backbone: Backbone, pos: Tensor) -> tuple[str, int]:
    """Return the stage in front of `attention`'s layer, and its number of channels."""
    shapes = stages_with_maps(backbone, pos[:1])
    after = load_submission("attention").hyperparameters_for(backbone.name)["after"]
    after = str(after) or middle_stage(backbone, shapes)
    return after, num_channels(shapes[after])


def plain_attention(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    after, channels = attended_stage(backbone, pos)
    gains = Gains(torch.ones(channels, device=pos.device))
    network = nn.Sequential(backbone.upto(after), gains, backbone.after(after))
    return train(nn.Sequential(network, LogOdds(TARGET)), pos, neg, learning_rate=0.03)


def plain_last_layer(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    backbone.stage(backbone.stages[-1]).requires_grad_(True)
    return train(nn.Sequential(backbone, LogOdds(TARGET)), pos, neg, learning_rate=3e-4)
