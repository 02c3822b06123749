"""`attnbench try` and the Python functions that run in the user's own process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import attnbench
from attnbench.commands.try_out import import_adapt, try_out
from attnbench.errors import AttnbenchError, NotApplicable

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

Write = Callable[[str, str], Path]
TASK = "noisy-mnist"


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attnbench", "try", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
    )


class Threshold(nn.Module):
    """The target's log-odds, above a threshold."""

    def __init__(self, backbone: nn.Module, target: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.target = target
        self.register_buffer("threshold", torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return attnbench.log_odds(self.backbone(images), self.target) - self.threshold


def by_log_odds(backbone: attnbench.Backbone, pos: torch.Tensor, neg: torch.Tensor) -> nn.Module:
    if backbone.target is None:
        raise NotApplicable("needs a label")
    return Threshold(backbone, backbone.target)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The row of a real evaluation of `attention`."""
    folder = tmp_path_factory.mktemp("records")
    return attnbench.evaluate("attention", tasks=TASK, records=folder)


def test_trying_gives_the_figures_of_an_evaluation(evaluated: pd.DataFrame) -> None:
    scores = attnbench.scores(Path(evaluated["record"][0]))
    attempt = try_out("attention", task=TASK, target="3")
    expected = scores[scores["target"] == "3"]
    detection = attnbench.detect(expected["score"].to_numpy(), expected["present"].to_numpy())
    measures, cost = attempt.result.measures, attempt.result.cost
    assert measures is not None and cost is not None
    assert (measures.d_prime, measures.auc) == (detection.d_prime, detection.auc)
    assert cost.parameters_added == evaluated["parameters_added"][0]


def test_methods_can_be_tried_in_turn() -> None:
    """Each module is called `submission`: the folder of an earlier one must not come first."""
    added = [
        attempt.result.cost.parameters_added
        for name in ("attention", "bias_only", "attention")
        if (attempt := try_out(name, task=TASK)).result.cost is not None
    ]
    assert added[0] == added[2] > added[1] == 1


def test_an_open_episode_has_the_images_that_the_judge_shows(evaluated: pd.DataFrame) -> None:
    episode = attnbench.episode(TASK, "3")
    assert episode.backbone.target is not None and episode.target == "3"
    assert episode.pos.shape[1:] == episode.images.shape[1:] and len(episode.pos) > 0
    scores = attnbench.scores(Path(evaluated["record"][0]))
    own = scores[scores["target"] == "3"]
    assert tuple(own["image"]) == episode.image_ids
    assert own["present"].tolist() == episode.present.tolist()
    assert len(episode.images) == len(episode.present)
    other = attnbench.episode(TASK, "3", seed=1)
    assert not torch.equal(other.pos, episode.pos)
    with pytest.raises(AttnbenchError, match="did you mean"):
        attnbench.episode("imagenet-standard", "warm plain dics")


def test_a_function_is_evaluated_like_a_submission(tmp_path: Path) -> None:
    """`none` scores by the same log-odds."""
    frame = attnbench.evaluate(by_log_odds, tasks=TASK, targets=["3", "5"])
    expected = attnbench.evaluate("none", tasks=TASK, targets=["3", "5"], records=tmp_path)
    assert frame["submission"].tolist() == ["by_log_odds"]
    for column in ("d_prime", "d_prime_low", "criterion", "d_a", "auc", "targets", "status"):
        assert frame[column][0] == pytest.approx(expected[column][0], abs=1e-6), column
    assert frame["parameters_added"][0] == 1 and frame["record"][0] is None
    assert frame["isolation"][0] == "none" and list(frame) == list(expected)
    assert isinstance(attnbench.plot(pd.concat([frame, expected])), Figure)


def test_a_function_may_refuse_a_backbone_and_its_errors_are_its_own() -> None:
    frame = attnbench.evaluate(by_log_odds, tasks="cifar-ssl")
    assert frame["status"][0] == "not applicable" and "needs a label" in frame["reason"][0]
    with pytest.raises(AttnbenchError, match="nothing to plot"):
        attnbench.plot(frame)

    def broken(backbone: object, pos: object, neg: object) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        attnbench.evaluate(broken, tasks=[TASK])
    with pytest.raises(AttnbenchError, match="adapt returned None"):
        attnbench.evaluate(lambda backbone, pos, neg: None, tasks=[TASK])


def test_an_adaptation_leaves_the_next_one_a_fresh_backbone() -> None:
    seen = []

    def spoil(backbone: attnbench.Backbone, pos: torch.Tensor, neg: torch.Tensor) -> nn.Module:
        first = next(backbone.parameters())
        seen.append(first.clone())
        with torch.no_grad():
            first.zero_()
        return by_log_odds(backbone, pos, neg)

    attnbench.evaluate(spoil, tasks=[TASK], targets=["1", "3"])
    assert len(seen) == 2 and all(torch.equal(seen[0], other) for other in seen)


def test_prints_warnings_and_the_debugger_work(submission_folder: Write) -> None:
    folder = submission_folder(
        "mine",
        "import warnings\n"
        "from attnbench.adaptation import log_odds\n"
        "def adapt(backbone, pos, neg):\n"
        "    print('positives:', len(pos))\n"
        "    warnings.warn('careful')\n"
        "    breakpoint()\n"
        "    return backbone\n",
    )
    done = run(folder, "--task", TASK, stdin="p 6 * 7\nc\n")
    assert "positives: " in done.stdout and "(Pdb) 42" in done.stdout
    assert "careful" in done.stderr
    # A backbone has a score for each label. The message names the line and the remedy.
    assert done.returncode == 2 and "the shape must be" in done.stderr
    left = run(folder, "--task", TASK, stdin="q\n")
    assert left.returncode == 1 and "Traceback" not in left.stderr
    assert "the debugger was left" in left.stderr


def test_a_failure_shows_the_methods_own_traceback_whole(submission_folder: Write) -> None:
    folder = submission_folder(
        "mine",
        "import torch\n"
        "def adapt(backbone, pos, neg):\n"
        "    return project(pos)\n"
        "def project(images):\n"
        "    return torch.ones(3) @ torch.ones(4)\n",
    )
    done = run(folder, "--task", TASK)
    assert done.returncode == 1
    first, *lines = done.stderr.splitlines()
    assert first == "Traceback (most recent call last):"
    files = [line for line in lines if line.lstrip().startswith("File")]
    source = folder / "submission.py"
    assert files[0] == f'  File "{source}", line 3, in adapt'
    assert files[1] == f'  File "{source}", line 5, in project'
    assert any("torch.ones(3) @ torch.ones(4)" in line for line in lines)
    assert not any("/attnbench/" in line for line in files)


def test_failures_are_answered_with_what_to_write(
    submission_folder: Write,
) -> None:
    relative = submission_folder("relative", "from .helper import scale\n")
    assert "What to do: write `from helper import scale`" in run(relative, "--task", TASK).stderr
    boolean = submission_folder(
        "boolean",
        "import attnbench\n"
        "from torch import nn\n"
        "class Detector(nn.Module):\n"
        "    def __init__(self, backbone):\n"
        "        super().__init__()\n"
        "        self.backbone, self.target = backbone, backbone.target\n"
        "    def forward(self, images):\n"
        "        return attnbench.log_odds(self.backbone(images), self.target) > 0\n"
        "def adapt(backbone, pos, neg):\n"
        "    return Detector(backbone)\n",
    )
    done = run(boolean, "--task", TASK)
    assert done.returncode == 2 and "return the decision score itself" in done.stderr


def test_a_syntax_error_shows_its_line(submission_folder: Write) -> None:
    folder = submission_folder("mine", "def adapt(backbone, pos, neg):\n    retrun 3\n")
    done = run(folder, "--task", TASK)
    assert done.returncode == 1 and "SyntaxError" in done.stderr
    assert f'{folder / "submission.py"}", line 2' in done.stderr
    assert "/attnbench/" not in done.stderr


def test_submissions_can_be_imported_in_turn(submission_folder: Write) -> None:
    code = "name = {!r}\ndef adapt(backbone, pos, neg):\n    return name\n"
    folders = {name: submission_folder(name, code.format(name)) for name in ("one", "other")}
    for name in ("one", "other", "one"):
        assert import_adapt(folders[name])(None, None, None) == name


def test_helpers_hyperparameters_and_refusals(submission_folder: Write) -> None:
    folder = submission_folder(
        "mine",
        "from helper import refuse\ndef adapt(backbone, pos, neg, *, rate):\n    refuse(rate)\n",
    )
    (folder / "helper.py").write_text(
        "from attnbench import NotApplicable\n"
        "def refuse(rate):\n"
        "    raise NotApplicable(f'not at a rate of {rate}')\n"
    )
    with (folder / "submission.toml").open("a") as manifest:
        manifest.write("\n[hyperparameters]\nrate = 0.25\n")
    done = run(folder, "--task", TASK)
    assert done.returncode == 0 and "not applicable: not at a rate of 0.25" in done.stdout
    assert not list(folder.glob("records")) and np.isfinite(0.25)
