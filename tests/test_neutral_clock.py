"""The clock favours nobody: whatever kernels a method uses, its rehearsal has created them.

oneDNN creates a kernel for each combination of operation, batch size, memory layout and data type when
it is first used. It reports each creation, and whether it found the kernel in its cache. So these tests
need no clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twin_submissions import COUNTING, VARIANTS

from attnbench.backbones import load
from attnbench.commands.check import noise_episode
from attnbench.isolation.confinement import limits_for
from attnbench.judge.template import Template
from attnbench.judge.worker_session import Adaptation, WorkerSession
from attnbench.stimuli.episode import Episode
from attnbench.submission import load_submission
from attnbench.tasks import load_task


@pytest.fixture(scope="module")
def session() -> Iterator[tuple[WorkerSession, Episode]]:
    """A session with workers that have the backbone of `mini`, and an episode of its size."""
    name = load_task("imagenet-standard").tracks["mini"].backbones[0]
    backbone = load(name)
    with Template("process", limits=limits_for(3600.0)) as template:
        template.load(name, untrained=False)
        labels = len(backbone.labels or ())
        session = WorkerSession(template, backbone=name, labels=labels, size=0, device="cpu")
        yield session, noise_episode(backbone, per_class=20)


def created_kernels(adaptation: Adaptation) -> int:
    """Return how many kernels an adaptation has created. It must have used some."""
    (counts,) = re.findall(r"(\d+) kernels created, (\d+) found", adaptation.printed)
    created, found = map(int, counts)
    assert created + found > 0
    return created


@pytest.mark.parametrize("name", VARIANTS)
def test_a_rehearsal_creates_the_kernels_of_any_method(
    name: str,
    session: tuple[WorkerSession, Episode],
    submission_folder: Callable[[str, str], Path],
) -> None:
    folder = submission_folder(name, VARIANTS[name])
    (folder / "counting.py").write_text(COUNTING)
    submission = load_submission(folder)
    workers, episode = session
    for _ in range(2):  # the first episode, and a later one
        adaptation = workers.adapt(submission, episode, 60.0, rehearse=True)
        assert created_kernels(adaptation) == 0
    cold = workers.adapt(submission, episode, 60.0, rehearse=False)
    assert created_kernels(cold) > 0


def test_a_submission_that_does_without_the_toolkit_never_meets_it(
    session: tuple[WorkerSession, Episode], submission_folder: Callable[[str, str], Path]
) -> None:
    code = """
        import sys
        from torch import nn

        def adapt(backbone, pos, neg):
            print([name for name in sys.modules if name.startswith("attnbench.adaptation")])
            return nn.Sequential(backbone, nn.Linear(backbone(pos[:1]).shape[1], 1), nn.Flatten(0))
        """
    workers, episode = session
    submission = load_submission(submission_folder("plain", code))
    assert submission.modules == ()
    assert workers.adapt(submission, episode, 60.0, rehearse=False).printed == "[]\n"
