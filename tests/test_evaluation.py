"""Real processes: every end of a submission is a result with its reason, and nothing is left."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from attnbench.adaptation import balanced_loss, log_odds
from attnbench.backbones import load
from attnbench.commands.check import made_up_episode
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.template import Template
from attnbench.sandbox.warm_state import Stage
from attnbench.records.record import EpisodeResult
from attnbench.stimuli.episodes import Episode
from attnbench.submission import load_submission

Write = Callable[[str, str], Path]

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

SPOILT = """
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

ENDS = {
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
    "wrong-shape": (SPOILT.format(expression="scores[:, None]"), "shape"),
    "wrong-count": (SPOILT.format(expression="scores[1:]"), "shape"),
    "nan": (SPOILT.format(expression="scores * float('nan')"), "NaN"),
    "not-a-tensor": (SPOILT.format(expression="scores.tolist()"), "a list"),
    "fails-on-prediction": (SPOILT.format(expression="scores / [][0]"), "IndexError"),
    "unknown-hyperparameter": ("def adapt(backbone, pos): pass", "TypeError"),
}


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    network = load("shipped/digits-cnn", untrained=True)
    with Template() as template:
        yield Evaluator(network, template, device="cpu", untrained=True)


@pytest.fixture
def judge(evaluator: Evaluator, submission_folder: Write) -> Callable[..., EpisodeResult]:
    episode = made_up_episode(load("shipped/digits-cnn", untrained=True))

    def judge(name: str, code: str, timeout: float = 30.0) -> EpisodeResult:
        submission = load_submission(submission_folder(name, code))
        return evaluator.judge(submission, episode, timeout, cold=True)[0]

    return judge


def test_an_honest_submission_is_scored(judge: Callable[..., EpisodeResult]) -> None:
    result = judge("honest", HONEST)
    assert result.status == "ok", result
    assert result.cost is not None and result.measures is not None
    assert (result.cost.parameters_added, result.cost.parameters_changed) == (3, 0)
    assert result.cost.adaptation_seconds > 0 and result.cost.pass_seconds > 0


def test_kernels_are_made_by_threads_that_are_gone_before_a_worker_is_forked() -> None:
    """A process with a pool of threads cannot be forked: its child would wait for them for ever."""
    me = psutil.Process()
    others = set(me.children())
    with Template() as template:
        template.load("shipped/digits-cnn", untrained=True)
        (process,) = set(me.children()) - others
        before = process.num_threads()
        template.warm_up(sides=[3, 5], batches=[7], threads=2)
        assert process.num_threads() == before


def test_a_detector_may_overwrite_its_images(
    evaluator: Evaluator, submission_folder: Write
) -> None:
    """They come in the same few places over and over."""
    network = load("shipped/digits-cnn", untrained=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * 8 + 400, 3, 28, 28), dtype=np.uint8)
    episode = Episode.of_pixels(pixels, per_side=8, label=0, preprocessing=network.preprocessing)
    assert len(list(episode.batches(np.arange(400)))) > 4
    scored = []
    for name, expression in {
        "reads": "scores",
        "spoils": "scores + 0 * images.zero_().sum()",
    }.items():
        submission = load_submission(submission_folder(name, SPOILT.format(expression=expression)))
        result, scores = evaluator.judge(submission, episode, 60.0, cold=False)
        assert result.status == "ok", result.reason
        scored.append(scores)
    pd.testing.assert_frame_equal(*scored, check_exact=True)


@pytest.mark.parametrize("name", ENDS)
def test_every_end_has_its_reason(judge: Callable[..., EpisodeResult], name: str) -> None:
    code, reason = ENDS[name]
    result = judge(name, code)
    assert result.status == "failed"
    assert reason in result.reason
    assert judge("afterwards", HONEST).status == "ok"


@pytest.mark.parametrize("name", ["none", "bias_only", "attention", "last_layer"])
def test_the_same_seed_gives_the_same_scores_to_the_bit(evaluator: Evaluator, name: str) -> None:
    """In whatever order the images come: it is drawn anew each time."""
    network = load("shipped/digits-cnn", untrained=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * 12 + 101, 3, 28, 28), dtype=np.uint8)
    episode = Episode.of_pixels(pixels, per_side=12, label=0, preprocessing=network.preprocessing)
    submission = load_submission(name)
    first, again = (evaluator.judge(submission, episode, 60.0, cold=False) for _ in range(2))
    assert first[0].status == "ok", first[0].reason
    assert first[0].measures == again[0].measures
    pd.testing.assert_frame_equal(first[1], again[1], check_exact=True)


def test_what_a_submission_starts_ends_with_it(judge: Callable[..., EpisodeResult]) -> None:
    code = HONEST.replace(
        "def adapt(backbone, pos, neg):",
        "def adapt(backbone, pos, neg):\n"
        "        import subprocess\n"
        "        subprocess.Popen(['sleep', '4242'], start_new_session=True)",
    )
    assert judge("leaves-a-process", code).status == "ok"
    left = [p for p in psutil.process_iter(["cmdline"]) if "4242" in (p.info["cmdline"] or [])]
    assert left == []


def test_nothing_travels_between_episodes(judge: Callable[..., EpisodeResult]) -> None:
    code = """
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
    note = code.replace(
        "return nn", "builtins.seen = -1; os.environ['NOTE'] = '1'; open('note', 'w'); return nn"
    )
    # The rehearsal shares the process with the timed run, so what it leaves shows there...
    assert "survived" in judge("leaves-a-note", note).reason
    # ...and nowhere else.
    assert judge("reads-notes", code).status == "ok"


def test_the_worker_is_not_told_paths_or_labels(
    judge: Callable[..., EpisodeResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNBENCH_DATA", "secret")
    code = """
        import os, sys

        def adapt(backbone, pos, neg):
            raise RuntimeError(str(sorted(os.environ)) + str(sys.argv))
    """
    result = judge("reads-environment", code)
    assert "ATTNBENCH" not in result.reason and "PATH" in result.reason


def test_a_rehearsal_has_few_images_or_as_many_as_the_method_wants(
    evaluator: Evaluator, submission_folder: Write
) -> None:
    episode = made_up_episode(load("shipped/digits-cnn", untrained=True), per_side=20)
    few, wants_more = (
        HONEST.replace("return Detector(backbone)", f"{line}; return Detector(backbone)")
        for line in (
            "len(pos) < 9 and len(neg) < 9 and __import__('os')._exit(7)",
            "assert len(pos) == len(neg) == 20, 'ten folds of each side'",
        )
    )
    seen = [
        evaluator.judge(load_submission(submission_folder(name, code)), episode, 60.0, cold=False)
        for name, code in (("few", few), ("wants-more", wants_more))
    ]
    assert "exit code 7" in seen[0][0].reason
    assert seen[1][0].status == "ok", seen[1][0].reason


def test_the_timed_run_follows_a_rehearsal_on_other_images(
    judge: Callable[..., EpisodeResult],
) -> None:
    code = HONEST.replace(
        "return Detector(backbone)",
        "time.sleep(5 if pos.std() > 0.8 else 0); return Detector(backbone)",
    ).replace("import torch\n", "import time\n    import torch\n", 1)
    result = judge("slow-on-made-up-images", code)
    assert result.cost is not None
    assert result.cost.adaptation_seconds < 5
    assert result.cost.adaptation_seconds_cold is not None
    assert result.cost.adaptation_seconds_cold > 0


def test_a_pass_is_a_forward_over_so_many_images_in_this_process() -> None:
    stage = Stage(load("shipped/figures-vgg"))
    images = torch.randn(30, 3, 48, 48)
    with torch.no_grad():
        stage.backbone(images)
        ratios = []
        for _ in range(15):
            started = time.perf_counter()
            stage.backbone(images)
            alone = time.perf_counter() - started
            ratios.append(stage.pass_seconds([10, 20]) / alone)
    assert 0.3 < statistics.median(ratios) < 3
    assert stage.pass_seconds([1, 1]) < stage.pass_seconds([100, 100])


def test_a_rehearsal_has_about_as_much_to_learn_as_an_episode() -> None:
    stage = Stage(load("shipped/figures-vgg"))
    stage.set_target(3)
    assert stage.backbone.target == 3 and stage.rehearsal.target == stage.rehearsal_label
    pos, neg = stage.made_up([8, 8])
    with torch.no_grad():
        losses = [
            balanced_loss(
                log_odds(stage.backbone(pos), label), log_odds(stage.backbone(neg), label)
            )
            for label in range(40)
        ]
    assert stage.rehearsal_label is not None
    chosen = losses[stage.rehearsal_label]
    assert chosen >= math.log(2)
    assert all(loss < math.log(2) or loss >= chosen for loss in losses)
    stage.set_target(None)
    assert stage.rehearsal.target is None


def test_a_rehearsal_aims_at_a_label_where_the_episode_does(
    evaluator: Evaluator, submission_folder: Write
) -> None:
    code = HONEST.replace(
        "return Detector(backbone)",
        "assert backbone.target is None; return Detector(backbone)",
    )
    episode = made_up_episode(load("shipped/digits-cnn", untrained=True))
    submission = load_submission(submission_folder("without-a-target", code))
    for label, status in ((None, "ok"), (3, "failed")):
        aimed = replace(episode, label=label)
        assert evaluator.judge(submission, aimed, 60.0, cold=False)[0].status == status
