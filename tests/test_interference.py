"""`attnbench interference`: adapting to one target, then another, and the cost to other classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import attnbench
from attnbench.adaptation import Detector, Gains
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.commands.check import noise_episode
from attnbench.commands.interference import FOLDER
from attnbench.commands.open_episode import OpenEpisode
from attnbench.commands.try_out import import_adapt
from attnbench.errors import AttnbenchError, NotApplicable
from attnbench.leaderboard.interference_plot import interference_plot
from attnbench.leaderboard.plot_style import svg
from attnbench.records.interference import Interference
from attnbench.records.store import RecordStore
from attnbench.runs.events import EpisodeDone
from attnbench.sandbox.handing_on import handed_on
from attnbench.sandbox.packing import ArtefactPacker
from attnbench.statistics.interference import choose_pairs, confusion, sensitivity, top1
from attnbench.submission import load_submission
from tests.command_line import run

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

TASK = """
name = "digits"
version = 1
title = "Digits"
reference = "none"
description = "Written by a test."

[tracks.mini]
backbones = ["shipped/digits-cnn"]
targets = ["1", "3", "5", "7", "8"]
timeout = 60

[tracks.mini.adapt]
source = { kind = "digits", split = "adapt" }
positives = 8
negatives = 8
generator = { kind = "noise", sigma = 1.5 }

[tracks.mini.test]
source = { kind = "digits", split = "test" }
positives = 20
negatives = 40
generator = { kind = "noise", sigma = 1.5 }
"""

# Adds 5 to the target's output, and nothing else.
SHIFT = """
    import torch
    from torch import nn
    from attnbench.adaptation import Detector

    def adapt(backbone, pos, neg):
        detector = Detector(nn.Identity(), backbone.target, pos[:1], frozen=backbone)
        with torch.no_grad():
            for parameter in detector.threshold.parameters():
                parameter.fill_(5.0)
        return detector
"""

# Turns the backbone's last layer round, in place.
REVERSED = """
    import torch
    from attnbench.adaptation import Detector

    def adapt(backbone, pos, neg):
        with torch.no_grad():
            for parameter in backbone.stage(backbone.stages[-1]).parameters():
                parameter.neg_()
        return Detector(backbone, backbone.target, pos[:1], threshold=False)
"""


# A detector that keeps the backbone's outputs and does not say what its network is.
KEEPING_OUTPUTS = """
    from torch import nn

    class Detector(nn.Module):
        def __init__(self, backbone):
            super().__init__()
            self.backbone, self.target = backbone, backbone.target

        def logits(self, images):
            return self.backbone(images)

        def forward(self, images):
            return self.logits(images)[:, self.target]

    def adapt(backbone, pos, neg):
        return Detector(backbone)
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task on very noisy digits."""
    path = tmp_path / "digits.toml"
    path.write_text(TASK, encoding="utf-8")
    return path


# Statistics.


def test_sensitivity_is_that_of_the_log_odds() -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(50, 6))
    present = np.arange(50) < 20
    outputs[present, 2] += 1
    scores = attnbench.log_odds(torch.from_numpy(outputs), 2).numpy()
    assert sensitivity(outputs, 2, present) == pytest.approx(attnbench.detect(scores, present).d_a)


def test_top1_leaves_out_unknown_classes() -> None:
    outputs = np.eye(4)
    assert top1(outputs, np.array([0, 1, 3, -1])) == pytest.approx(2 / 3)
    assert np.isnan(top1(outputs, np.full(4, -1)))


def test_confusion_is_the_mean_probability_in_both_directions() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.0, 0.9, 0.1]])
    outputs = np.log(np.maximum(probabilities, 1e-12))
    found = confusion(outputs, np.array([0, 0, 1]), np.array([0, 1]))
    assert found == pytest.approx(np.array([[0.6, (0.3 + 0) / 2], [(0.3 + 0) / 2, 0.9]]))


@given(st.integers(4, 12).flatmap(lambda k: st.tuples(st.just(k), st.integers(1, k // 2))))
def test_pairs_have_no_target_in_common_and_the_first_are_extreme(sizes: tuple[int, int]) -> None:
    k, count = sizes
    drawn = np.random.default_rng(k).random((k, k))
    confusions = drawn + drawn.T
    similar, dissimilar = choose_pairs(confusions, count)
    assert len(similar) == count and not set(similar) & set(dissimilar)
    for kind in (similar, dissimilar):
        targets = [target for pair in kind for target in pair]
        assert len(set(targets)) == len(targets)
    pairs = {(a, b): confusions[a, b] for a in range(k) for b in range(a + 1, k)}
    assert pairs[min(similar[0]), max(similar[0])] == max(pairs.values())
    left = {pair: value for pair, value in pairs.items() if pair not in similar}
    assert left[dissimilar[0]] == min(left.values())


# The network that is handed on.


@pytest.mark.parametrize(
    "name", ["none", "bias_only", "last_layer", "attention", "film", "lora", "full_finetune"]
)
def test_a_handed_on_network_has_the_stages_and_the_outputs(name: str) -> None:
    backbone = load("shipped/digits-cnn")
    packer = ArtefactPacker(backbone)
    episode = noise_episode(backbone, per_class=4)
    backbone.target = episode.label
    submission = load_submission(name)
    adapt = import_adapt(submission.folder)
    settings = submission.hyperparameters_for(backbone.name)
    detector = adapt(backbone, *map(torch.from_numpy, (episode.pos, episode.neg)), **settings)
    assert isinstance(detector, Detector)
    fresh = load("shipped/digits-cnn")
    fresh.target = 3
    network = handed_on(packer.pack(detector), fresh)
    assert isinstance(network, Backbone) and network.stages == fresh.stages
    assert network.target == 3 and network.labels == fresh.labels
    assert not any(parameter.requires_grad for parameter in network.parameters())
    images = torch.from_numpy(episode.make(np.arange(6)))
    with torch.no_grad():
        expected = detector.logits(images)
        assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4)
        assert name == "none" or not torch.allclose(fresh(images), expected)


def test_what_stands_between_two_stages_goes_with_the_first(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    chain = nn.Sequential(Gains(torch.ones(8)), *backbone.after("block1"))
    detector = Detector(chain, 0, torch.zeros(1, 3, 16, 16), frozen=backbone.upto("block1"))
    network = handed_on(packer.pack(detector), backbone)
    assert any(isinstance(module, Gains) for module in network.stage("block1"))
    assert network.upto("block1")(torch.zeros(1, 3, 16, 16)).shape == (1, 8, 8, 8)


def test_networks_that_run_the_stages_otherwise_are_refused(backbone: Backbone) -> None:
    packer = ArtefactPacker(backbone)
    image = torch.zeros(1, 3, 16, 16)
    skipping = nn.Sequential(*backbone.children())
    skipping[1] = nn.Conv2d(8, 16, 1)
    with pytest.raises(NotApplicable, match=r"cannot be handed on.*runs block1, head"):
        handed_on(packer.pack(Detector(skipping, 0, image)), backbone)
    with pytest.raises(NotApplicable, match="it has no `network`"):
        handed_on(packer.pack(nn.Linear(3, 1)), backbone)


# From the submission to the record.


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Interference]]:
    """The folder and the results of methods whose effects are known: none, a shift, a reversal."""
    root = tmp_path_factory.mktemp("interference")
    (root / "digits.toml").write_text(TASK, encoding="utf-8")
    manifest = 'name = "{}"\ntitle = "t"\nauthors = ["A"]\nlicence = "MIT"\npaper = "none"\n'
    folders = []
    for name, code in (("shift", SHIFT), ("reversed", REVERSED)):
        folder = root / name
        folder.mkdir()
        text = manifest.format(name) + 'description = "Written by a test."\n'
        (folder / "submission.toml").write_text(text, encoding="utf-8")
        lines = [line.removeprefix("    ") for line in code.splitlines()]
        (folder / "submission.py").write_text("\n".join(lines), encoding="utf-8")
        folders.append(folder)
    found = attnbench.interference(
        ["none", *folders], task=root / "digits.toml", pairs=1, records=root / "records"
    )
    return root, found


def test_a_method_without_parameters_has_no_interference_and_no_cost(
    shifted: tuple[Path, list[Interference]],
) -> None:
    untouched = shifted[1][0]
    for similar in (True, False):
        for change in (untouched.lost(similar=similar), untouched.gained(similar=similar)):
            assert (change.value, change.low, change.high) == (0, 0, 0)
    assert untouched.reference_cost.value == 0
    for each in untouched.records[0].alone:
        assert each.d_a == each.d_a_untouched
        assert (each.parameters_added, each.parameters_changed) == (0, 0)


def _sensitivity(outputs: torch.Tensor, episode: OpenEpisode) -> float:
    scores = attnbench.log_odds(outputs.double(), episode.drawn.label or 0).numpy()
    return attnbench.detect(scores, episode.drawn.present).d_a


def _shifted_outputs(episode: OpenEpisode, *labels: int | None) -> torch.Tensor:
    """The backbone's outputs on the test images, with 5 added to some of them."""
    drawn = episode.drawn
    with torch.no_grad():
        images = torch.from_numpy(drawn.make(np.arange(len(drawn.present))))
        outputs = load("shipped/digits-cnn")(images)
    for label in labels:
        outputs[:, label] += 5
    return outputs


def test_a_shift_interferes_as_the_outputs_of_the_backbone_say(
    shifted: tuple[Path, list[Interference]],
) -> None:
    root, (_, shift, _) = shifted
    (record,) = shift.records
    assert len(record.in_sequence) == 4 and shift.failures == ()
    lost = []
    for sequence in record.in_sequence:
        first, second = (
            attnbench.episode(root / "digits.toml", target)
            for target in (sequence.pair.first, sequence.pair.second)
        )
        labels = (first.drawn.label, second.drawn.label)
        after_both = _sensitivity(_shifted_outputs(first, *labels), first)
        assert sequence.d_a_first == pytest.approx(after_both, abs=1e-6)
        expected = _sensitivity(_shifted_outputs(second, *labels), second)
        assert sequence.d_a_second == pytest.approx(expected, abs=1e-6)
        if sequence.pair.similar:
            lost.append(after_both - _sensitivity(_shifted_outputs(first, labels[0]), first))
    assert shift.lost(similar=True).value == pytest.approx(np.mean(lost), abs=1e-6)


def test_the_reference_cost_of_a_shift_is_what_the_outputs_say(
    shifted: tuple[Path, list[Interference]],
) -> None:
    root, (_, shift, _) = shifted
    for each in shift.records[0].alone:
        episode = attnbench.episode(root / "digits.toml", each.target)
        # The names of the test images say which digits they show.
        digits = torch.tensor([int(name.split("/")[1]) for name in episode.drawn.image_ids])
        outputs = _shifted_outputs(episode, episode.drawn.label)
        correct = (outputs.argmax(dim=1) == digits)[digits != int(each.target)]
        assert each.images == len(correct) == 40
        assert each.top1_adapted == pytest.approx(correct.double().mean().item())
        # Only the shift was added, so it can be taken off.
        assert each.top1_detached == each.top1_untouched
    assert shift.reference_cost.value < 0


def test_what_is_changed_in_place_does_not_come_off_and_is_handed_on(
    shifted: tuple[Path, list[Interference]],
) -> None:
    reversed_twice = shifted[1][2]
    (record,) = reversed_twice.records
    untouched = {each.target: each.d_a_untouched for each in record.alone}
    for each in record.alone:
        assert each.d_a is not None and each.d_a < 0 and each.parameters_changed
        assert each.top1_detached == each.top1_adapted != each.top1_untouched
    # The second adaptation turns the network back.
    for sequence in record.in_sequence:
        assert sequence.d_a_first == pytest.approx(untouched[sequence.pair.first])
        assert sequence.d_a_second == pytest.approx(untouched[sequence.pair.second])


def test_pairs_come_in_both_orders(shifted: tuple[Path, list[Interference]]) -> None:
    pairs = shifted[1][0].records[0].pairs
    assert len(pairs) == 4
    orders = {(pair.first, pair.second, pair.similar) for pair in pairs}
    assert orders == {(second, first, similar) for first, second, similar in orders}
    similar, dissimilar = (
        [p.confusion for p in pairs if p.similar == kind] for kind in (True, False)
    )
    assert min(similar) > max(dissimilar)


def test_results_can_be_plotted_and_listed(shifted: tuple[Path, list[Interference]]) -> None:
    assert svg(interference_plot(shifted[1])).startswith(b"<?xml")
    rows = list(shifted[1][1].rows())
    assert {row["kind"] for row in rows} == {"alone", "in sequence"}
    sequence = next(row for row in rows if row["kind"] == "in sequence")
    assert sequence["submission"] == "shift" and sequence["d_a_first_alone"] is not None


def test_records_are_resumed_and_other_commands_do_not_see_them(
    shifted: tuple[Path, list[Interference]],
) -> None:
    root, _ = shifted
    records = root / "records"
    (path,) = (records / FOLDER).rglob("none@*.json")
    complete = json.loads(path.read_text("utf-8"))
    interrupted = complete | {"in_sequence": complete["in_sequence"][:1]}
    path.write_text(json.dumps(interrupted), "utf-8")
    ended = []
    attnbench.interference(
        "none",
        task=root / "digits.toml",
        pairs=1,
        records=records,
        on_event=lambda event: ended.append(event) if isinstance(event, EpisodeDone) else None,
    )
    assert len(ended) == 3
    resumed = json.loads(path.read_text("utf-8"))
    assert resumed["in_sequence"] == complete["in_sequence"]
    assert RecordStore(records).load_all() == ([], [])


def test_refusals_are_one_sentence(
    tmp_path: Path, task: Path, submission_folder: Callable[[str, str], Path]
) -> None:
    keeping = submission_folder("keeping", KEEPING_OUTPUTS)
    options = ["--task", task, "--pairs", "1", "--records", tmp_path]
    ended = run("interference", "prototype", keeping, *options)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    text = " ".join(ended.stdout.split())
    assert "prototype: its detector does not keep the outputs of the backbone" in text
    assert "keeping: its detector cannot be handed on: it has no `network`" in text


def test_what_cannot_be_run_is_said_in_a_sentence(tmp_path: Path, task: Path) -> None:
    with pytest.raises(AttnbenchError, match=r"3 pairs need 6 targets, but there are 5.*--pairs 2"):
        attnbench.interference("none", task=task, pairs=3, records=tmp_path)
    with pytest.raises(AttnbenchError, match="is new to shipped/figures-simclr"):
        attnbench.interference("none", task="cifar-ssl", pairs=1, records=tmp_path)
