"""Judging episodes in real processes: every outcome has its reason, and nothing is left behind."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from attnbench.adaptation import balanced_loss, log_odds
from attnbench.backbones import load
from attnbench.commands.check import noise_episode
from attnbench.isolation.confinement import limits_for
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.judge.template import Template
from attnbench.records.outcome import SCORES_SCHEMA, EpisodeOutcome
from attnbench.records.record import EpisodeResult
from attnbench.sandbox.warm_state import WarmState
from attnbench.stimuli.episode import Episode
from attnbench.submission import load_submission

Write = Callable[[str, str], Path]
BACKBONE = "shipped/digits-cnn"

HONEST = """
    import torch
    from torch import nn

    class Detector(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network
            self.shift = nn.Parameter(torch.randn(3))

        def forward(self, images):
            return self.network(images)[:, 0] + self.shift.sum()

    def adapt(backbone, pos, neg):
        return Detector(backbone)
"""

# A detector whose scores are an expression of those of the network.
CHANGED_SCORES = """
    import torch
    from torch import nn

    class Detector(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            scores = self.network(images)[:, 0]
            return {expression}

    def adapt(backbone, pos, neg):
        return Detector(backbone)
"""

# Source code, and a part of the reason of its failure.
FAILURES = {
    "raises": ("def adapt(backbone, pos, neg): raise ValueError('no such luck')", "no such luck"),
    "returns-none": ("def adapt(backbone, pos, neg): pass", "returned None"),
    "no-adapt": ("x = 1", "defines no function adapt"),
    "syntax-error": ("def adapt(:", "SyntaxError"),
    "exits": ("import sys\ndef adapt(b, p, n): sys.exit(3)", "sys.exit"),
    "exits-hard": ("import os\ndef adapt(b, p, n): os._exit(3)", "exit code 3"),
    "segfault": ("import ctypes\ndef adapt(b, p, n): ctypes.string_at(0)", "SIGSEGV"),
    "kills-itself": ("import os\ndef adapt(b, p, n): os.kill(os.getpid(), 9)", "SIGKILL"),
    "closes-everything": ("import os\ndef adapt(b, p, n): os.closerange(0, 999)", "adapting"),
    "lambda": (
        "from torch import nn\ndef adapt(b, p, n):\n"
        "    m = nn.Identity()\n    m.f = lambda x: x\n    return m",
        "lambda",
    ),
    "wrong-shape": (CHANGED_SCORES.format(expression="scores[:, None]"), "shape"),
    "wrong-count": (CHANGED_SCORES.format(expression="scores[1:]"), "shape"),
    "nan": (CHANGED_SCORES.format(expression="scores * float('nan')"), "NaN"),
    "not-a-tensor": (CHANGED_SCORES.format(expression="scores.tolist()"), "a list"),
    "fails-on-prediction": (CHANGED_SCORES.format(expression="scores / [][0]"), "IndexError"),
    "too-few-arguments": ("def adapt(backbone, pos): pass", "three arguments"),
}


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with open_judge(Conditions(untrained=True)) as judge:
        yield judge.evaluator(BACKBONE)


@pytest.fixture
def judge_code(evaluator: Evaluator, submission_folder: Write) -> Callable[..., EpisodeResult]:
    """A function that judges a submission, given its name and source code."""
    episode = noise_episode(load(BACKBONE, untrained=True))

    def judge(name: str, code: str, timeout: float = 30.0, manifest: str = "") -> EpisodeResult:
        folder = submission_folder(name, code)
        with (folder / "submission.toml").open("a") as file:
            file.write(manifest)
        submission = load_submission(folder)
        return evaluator.judge(submission, episode, timeout, cold=True).result

    return judge


def random_episode(adaptation_images: int, test_images: int) -> Episode:
    """An episode of noise.

    Args:
        adaptation_images: per class.
        test_images: in total. The first `adaptation_images` of them are positives.
    """
    preprocessing = load(BACKBONE, untrained=True).preprocessing
    pixels = np.random.default_rng(0).integers(
        0, 256, (2 * adaptation_images + test_images, 3, 28, 28), dtype=np.uint8
    )
    return Episode.of_pixels(
        pixels, per_class=adaptation_images, label=0, preprocessing=preprocessing
    )


def test_honest_submission_is_scored(judge_code: Callable[..., EpisodeResult]) -> None:
    result = judge_code("honest", HONEST)
    assert result.status == "ok", result
    assert result.cost is not None and result.measures is not None
    assert (result.cost.parameters_added, result.cost.parameters_changed) == (3, 0)
    assert result.cost.adaptation_seconds > 0 and result.cost.pass_seconds > 0


def test_outcome_has_the_score_of_each_test_image(
    evaluator: Evaluator, submission_folder: Write
) -> None:
    episode = random_episode(adaptation_images=8, test_images=30)
    for name, code, images in (("works", HONEST, 30), ("fails", FAILURES["raises"][0], 0)):
        submission = load_submission(submission_folder(name, code))
        outcome = evaluator.judge(submission, episode, 60.0, cold=False)
        assert isinstance(outcome, EpisodeOutcome)
        assert outcome.scores.schema == SCORES_SCHEMA
        assert outcome.scores["target"].to_pylist() == [episode.target] * images
        assert outcome.scores["image"].to_pylist() == list(episode.image_ids[:images])
        assert outcome.scores["present"].to_pylist() == episode.present[:images].tolist()
        assert outcome.result.images_sha256 == episode.fingerprint
        assert outcome.environment.confinement == evaluator.confinement


def test_warm_up_leaves_no_thread_in_the_fork_server() -> None:
    """A fork copies only one thread. The child would wait for the other threads forever."""
    this_process = psutil.Process()
    earlier_children = set(this_process.children())
    with Template("process", limits=limits_for(60.0)) as template:
        template.load(BACKBONE, untrained=True)
        (fork_server,) = set(this_process.children()) - earlier_children
        threads = fork_server.num_threads()
        template.warm_up(counts=[3, 5], batches=[7], threads=2)
        assert fork_server.num_threads() == threads


def test_detector_may_overwrite_its_images(evaluator: Evaluator, submission_folder: Write) -> None:
    """The buffers that images come in are reused, and a detector can write to them."""
    episode = random_episode(adaptation_images=8, test_images=400)
    assert len(list(episode.batches(np.arange(400)))) > 4
    scores = []
    for name, expression in {
        "reads": "scores",
        "overwrites": "scores + 0 * images.zero_().sum()",
    }.items():
        code = CHANGED_SCORES.format(expression=expression)
        submission = load_submission(submission_folder(name, code))
        outcome = evaluator.judge(submission, episode, 60.0, cold=False)
        assert outcome.result.status == "ok", outcome.result.reason
        scores.append(outcome.scores)
    assert scores[0].num_rows == 400 and scores[0].equals(scores[1])


@pytest.mark.parametrize("name", FAILURES)
def test_failure_has_its_reason_and_does_not_affect_the_next_episode(
    judge_code: Callable[..., EpisodeResult], name: str
) -> None:
    code, reason = FAILURES[name]
    result = judge_code(name, code)
    assert result.status == "failed"
    assert reason in result.reason
    assert judge_code("afterwards", HONEST).status == "ok"


@pytest.mark.parametrize("name", ["none", "bias_only", "attention", "last_layer"])
def test_same_seed_gives_the_same_scores_to_the_bit(evaluator: Evaluator, name: str) -> None:
    """Test images come in a new random order each time, which must not matter."""
    episode = random_episode(adaptation_images=12, test_images=101)
    submission = load_submission(name)
    first, second = (evaluator.judge(submission, episode, 60.0, cold=False) for _ in range(2))
    assert first.result.status == "ok", first.result.reason
    assert first.result.measures == second.result.measures
    assert first.scores.num_rows == 101 and first.scores.equals(second.scores)


def test_process_started_by_a_submission_ends_with_it(
    judge_code: Callable[..., EpisodeResult],
) -> None:
    code = HONEST.replace(
        "def adapt(backbone, pos, neg):",
        "def adapt(backbone, pos, neg):\n"
        "        import subprocess\n"
        "        subprocess.Popen(['sleep', '4242'], start_new_session=True)",
    )
    assert judge_code("leaves-a-process", code).status == "ok"
    processes = psutil.process_iter(["cmdline"])
    assert [p for p in processes if "4242" in (p.info["cmdline"] or [])] == []


def test_no_state_passes_between_episodes(judge_code: Callable[..., EpisodeResult]) -> None:
    reads = """
        import os, pathlib, torch
        from torch import nn
        import builtins

        def adapt(backbone, pos, neg):
            if hasattr(builtins, "seen") and len(pos) != builtins.seen:
                raise RuntimeError("a module global survived")
            if pathlib.Path("note").exists() or "NOTE" in os.environ:
                raise RuntimeError("a file or variable survived")
            return nn.Sequential(backbone, nn.Linear(10, 1), nn.Flatten(0))
    """
    writes = reads.replace(
        "return nn", "builtins.seen = -1; os.environ['NOTE'] = '1'; open('note', 'w'); return nn"
    )
    # A rehearsal runs in the process of the timed adaptation, which therefore sees its notes.
    assert "survived" in judge_code("leaves-a-note", writes).reason
    # No other episode sees them.
    assert judge_code("reads-notes", reads).status == "ok"


def test_worker_learns_no_paths_or_labels_from_its_environment(
    judge_code: Callable[..., EpisodeResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNBENCH_DATA", "secret")
    code = """
        import os, sys

        def adapt(backbone, pos, neg):
            raise RuntimeError(str(sorted(os.environ)) + str(sys.argv))
    """
    result = judge_code("reads-environment", code)
    assert "ATTNBENCH" not in result.reason and "PATH" in result.reason


def test_a_list_that_a_rehearsal_changes_is_whole_again_for_the_adaptation(
    judge_code: Callable[..., EpisodeResult],
) -> None:
    code = HONEST.replace("pos, neg):", "pos, neg, layers):").replace(
        "return Detector(backbone)", "assert layers.pop() == 2; return Detector(backbone)"
    )
    result = judge_code("pops", code, manifest="[hyperparameters]\nlayers = [1, 2]")
    assert result.status == "ok", result.reason


def test_timed_adaptation_follows_a_rehearsal_on_other_images(
    judge_code: Callable[..., EpisodeResult],
) -> None:
    code = HONEST.replace(
        "return Detector(backbone)",
        "time.sleep(5 if pos.std() > 0.8 else 0); return Detector(backbone)",
    ).replace("import torch\n", "import time\n    import torch\n", 1)
    result = judge_code("slow-on-rehearsal-images", code)
    assert result.cost is not None
    assert result.cost.adaptation_seconds < 5
    assert result.cost.adaptation_seconds_cold is not None
    assert result.cost.adaptation_seconds_cold > 0


def test_pass_takes_as_long_as_a_forward_over_as_many_images() -> None:
    state = WarmState(load("shipped/figures-vgg"))
    images = torch.randn(30, 3, 48, 48)
    with torch.no_grad():
        state.backbone(images)
        ratios = []
        for _ in range(15):
            started = time.perf_counter()
            state.backbone(images)
            forward_seconds = time.perf_counter() - started
            ratios.append(state.pass_seconds([10, 20]) / forward_seconds)
    assert 0.3 < statistics.median(ratios) < 3
    assert state.pass_seconds([1, 1]) < state.pass_seconds([100, 100])


def test_rehearsal_target_is_about_as_hard_as_that_of_an_episode() -> None:
    state = WarmState(load("shipped/figures-vgg"))
    state.set_target(3)
    assert state.backbone.target == 3 and state.rehearsal.target == state.rehearsal_label
    pos, neg = state.noise_images([8, 8])
    with torch.no_grad():
        losses = [
            balanced_loss(
                log_odds(state.backbone(pos), label), log_odds(state.backbone(neg), label)
            )
            for label in range(40)
        ]
    assert state.rehearsal_label is not None
    chosen = losses[state.rehearsal_label]
    assert chosen >= math.log(2)
    assert all(loss < math.log(2) or loss >= chosen for loss in losses)
    state.set_target(None)
    assert state.rehearsal.target is None


def test_rehearsal_has_a_target_if_and_only_if_the_episode_has_one(
    evaluator: Evaluator, submission_folder: Write
) -> None:
    code = HONEST.replace(
        "return Detector(backbone)",
        "assert backbone.target is None; return Detector(backbone)",
    )
    episode = noise_episode(load(BACKBONE, untrained=True))
    submission = load_submission(submission_folder("without-a-target", code))
    for label, status in ((None, "ok"), (3, "failed")):
        episode_with_label = replace(episode, label=label)
        outcome = evaluator.judge(submission, episode_with_label, 60.0, cold=False)
        assert outcome.result.status == status
