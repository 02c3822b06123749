"""Submissions that are timed beside each other: with the toolkit, and in plain PyTorch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from attnbench import adaptation
from attnbench.submission import Submission

# Each variant trains the backbone's last stage and a bias for two epochs.
PLAIN = """
import torch
from torch import nn
from torch.nn.functional import softplus

from counting import count_created_kernels

BATCH = 12
LAYOUT = {layout}
PRECISION = {precision}


class Detector(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.target = backbone, backbone.target
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return self.backbone(images)[:, self.target] + self.bias


@count_created_kernels
def adapt(backbone, pos, neg):
    detector = Detector(backbone)
    trained = [*backbone.get_submodule(backbone.stages[-1]).requires_grad_(True).parameters()]
    optimizer = torch.optim.Adam([*trained, detector.bias], lr=1e-3)
    images = torch.cat([pos, neg]).contiguous(memory_format=LAYOUT)
    signs = torch.tensor([1.0] * len(pos) + [-1.0] * len(neg))
    for _ in range(2):
        for rows in torch.randperm(len(images)).split(BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == "bfloat16"):
                scores = detector(images[rows])
            optimizer.zero_grad()
            softplus(-signs[rows] * scores.float()).mean().backward()
            optimizer.step()
    return detector
"""

TOOLKIT = """
from torch import nn

from attnbench.adaptation import Detector, fit_adam, split_trainable_head

from counting import count_created_kernels


@count_created_kernels
def adapt(backbone, pos, neg):
    frozen, trainable = split_trainable_head(backbone, backbone.target)
    detector = Detector(trainable, backbone.target, pos[:1], frozen=frozen)
    fit_adam(detector.scorer, *detector.frozen_features(pos, neg), learning_rate=1e-3, epochs=2)
    return detector
"""

# Writes what oneDNN reports during `adapt` to a file, and prints how many kernels it has created.
COUNTING = """
import ctypes, functools, os, tempfile
import torch


def count_created_kernels(adapt):
    @functools.wraps(adapt)
    def counted(*arguments, **settings):
        libc = ctypes.CDLL(None)
        with tempfile.TemporaryFile() as log:
            stdout = os.dup(1)
            libc.fflush(None)
            os.dup2(log.fileno(), 1)
            try:
                with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON_CREATION):
                    detector = adapt(*arguments, **settings)
            finally:
                libc.fflush(None)
                os.dup2(stdout, 1)
                os.close(stdout)
            log.seek(0)
            report = log.read()
        created, found = report.count(b"create:cache_miss"), report.count(b"create:cache_hit")
        print(f"{created} kernels created, {found} found")
        return detector

    return counted
"""

VARIANTS = {
    "toolkit": TOOLKIT,
    "plain": PLAIN.format(layout="torch.contiguous_format", precision="'float32'"),
    "channels-last": PLAIN.format(layout="torch.channels_last", precision="'float32'"),
    "half": PLAIN.format(layout="torch.channels_last", precision="'bfloat16'"),
}


def without_the_toolkit(submission: Submission) -> Submission:
    """Return a submission that brings the toolkit along as a package of its own, `own_toolkit`."""
    package = {
        f"own_toolkit/{path.name}": path.read_bytes()
        for path in Path(adaptation.__file__).parent.glob("*.py")
    }
    files = {
        path: content.replace(b"attnbench.adaptation", b"own_toolkit")
        for path, content in (submission.files | package).items()
    }
    return dataclasses.replace(submission, files=files, sha256="0" * 64)
