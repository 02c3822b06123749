"""The arithmetic of studies, on made-up vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnbench.leaderboard.people import Beside, BesidePeople, DetectorBesidePeople
from attnbench.records.learning_curves import Curve, CurveKey
from attnbench.statistics.people_consistency import MeanKappa
from attnbench.statistics.people_detection import people_detection
from attnbench.stimuli.embedded import FIGURES_PER_CLASS
from attnbench.stimuli.figures import CLASSES
from attnbench.tasks import list_tasks, load_task
from benchmarks.studies import (
    learning_dynamics,
    learning_rates,
    meta_mapping,
    pages,
    people,
    people_tables,
    spiking,
    task_sizes,
    what_adaptation_learns,
)

TRIALS = Path(__file__).parents[2] / "shared" / "data" / "learning-dynamics" / "trials.csv.gz"


def test_pairs_of_classes_differ_in_colour_only() -> None:
    assert len(meta_mapping.WARM) == len(meta_mapping.COOL) == 20
    assert sorted(meta_mapping.WARM + meta_mapping.COOL) == list(range(len(CLASSES)))
    for warm, cool in zip(meta_mapping.WARM, meta_mapping.COOL, strict=True):
        assert CLASSES[warm].split()[1:] == CLASSES[cool].split()[1:]


def test_a_planted_map_between_tasks_is_recovered() -> None:
    rng = np.random.default_rng(0)
    x, planted = rng.standard_normal((40, 6)), rng.standard_normal((6, 6))
    new = rng.standard_normal(6)
    predicted = meta_mapping.apply_map(x, x @ planted + 1, new)
    np.testing.assert_allclose(predicted, new @ planted + 1, rtol=0.02, atol=0.02)


def test_where_changes_are_unrelated_to_vectors_the_mean_change_is_added() -> None:
    rng = np.random.default_rng(1)
    x, change, new = rng.standard_normal((19, 60)), rng.standard_normal(60), rng.standard_normal(60)
    predicted = meta_mapping.apply_map(x, x + change, new)
    np.testing.assert_allclose(predicted, new + change, atol=1e-6)


def test_the_nearest_vector_is_by_angle_and_not_by_length() -> None:
    x, y = np.array([[10.0, 1.0], [0.1, 0.1]]), np.eye(2)
    np.testing.assert_array_equal(meta_mapping.nearest(x, y, np.array([3.0, 2.9])), y[1])


def test_no_picture_of_the_target_is_used_for_any_other_vector() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(len(CLASSES)), 5)
    train = meta_mapping.Pictures(rng.standard_normal((len(labels), 8)), labels)
    test = meta_mapping.Pictures(rng.standard_normal((len(labels), 8)), labels)
    altered = train.features + 9 * (labels == meta_mapping.COOL[3])[:, None]
    with_others = meta_mapping.d_as(3, meta_mapping.Pictures(altered, labels), test)
    for name, value in meta_mapping.d_as(3, train, test).items():
        assert (value == with_others[name]) == (name != "trained")


def test_each_rule_of_spiking_has_its_own_row() -> None:
    latency, surrogate = (next(spiking.measures("noisy-mnist", rule, 1)) for rule in spiking.RULES)
    assert (latency != surrogate).all()
    assert all(row[1] > 0 and 0 < row[2] <= 32 for row in (latency, surrogate))


def test_no_record_uses_a_target_that_rates_are_tuned_on() -> None:
    tuning = load_task(str(learning_rates.TUNING)).tracks["photographs"]
    tuned = {*learning_rates.FIGURES, *tuning.targets}
    assert len(tuned) == 10 + 20
    for name in list_tasks():
        for track in load_task(name).tracks.values():
            assert isinstance(track.targets, str) or tuned.isdisjoint(track.targets)
            for sample in (track.adapt, track.test):
                assert tuned.isdisjoint(getattr(sample.source, "classes", ()))


def test_no_task_draws_a_figure_that_rates_are_tuned_on() -> None:
    assert FIGURES_PER_CLASS["adapt"] <= learning_rates._FIRST_FIGURE


def test_the_table_shows_what_a_submission_loses_to_its_best_rate() -> None:
    means = {"0.1": 2.0, "0.33": 2.5, "1": 2.2, "3": 1.0, "10": 0.0}
    assert learning_rates.losses(means) == ("0.33", 2.2, 2.5 - 2.2)
    chosen = means | {learning_rates.AS_SHIPPED: 2.6}
    assert learning_rates.losses(chosen) == ("0.33", 2.6, 0.0)
    backbone = next(iter(learning_rates.BACKBONES))
    table = learning_rates.table({"one": {backbone: means}, "two": {backbone: chosen}})
    assert "2.20 (×0.33: +0.30)" in table and "| 2.60 " in table


def test_no_method_loses_much_to_another_rate() -> None:
    """The results as measured: at most 0.15 in d_a is lost, except in the five cells named here."""
    lost = learning_rates.all_losses(learning_rates.read_results())
    assert len(lost) > 100 and np.mean(np.array(list(lost.values())) <= 0.1) > 0.9
    assert {cell for cell, loss in lost.items() if loss > 0.15} == {
        ("edram", "shipped/figures-vit"),
        ("full_finetune", "shipped/mnist-cnn"),
        ("stawm", "shipped/figures-resnet"),
        ("stawm", "shipped/figures-vit"),
        ("stn", "shipped/mnist-cnn"),
    }


def test_where_a_method_does_not_apply_the_table_has_a_dash() -> None:
    first, second, *_ = learning_rates.BACKBONES
    table = learning_rates.table({"one": {first: None, second: {"1": 2.0, "10": 2.2}}})
    assert "In 0 of 1 cells" in table
    *_, row = table.splitlines()
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["–", "2.00 (×10: +0.20)", ""]


def made_up_trials(answer: Callable[[str, int], str]) -> pd.DataFrame:
    """Trials of three runs, with two epochs, given the answer to a category in an epoch."""
    return pd.DataFrame(
        [
            {
                "observer": "somebody",
                "run": run,
                "epoch": epoch,
                "phase": phase,
                "ground_truth": category,
                "prediction": answer(category, epoch) if phase == "test" else category,
            }
            for run in range(3)
            for epoch in (1, 2)
            for phase in ("train", "test")
            for category in "pqv"
            for _ in range(4)
        ]
    )


def test_accuracy_of_answers_has_chance_at_one_half() -> None:
    (always,) = learning_dynamics.learners_in(made_up_trials(lambda category, epoch: "p"))
    # Somebody who always answers the same is at chance for each target.
    assert always.test == pytest.approx(np.full((3, 2), 0.5))
    assert always.train == pytest.approx(np.ones((3, 2)))
    assert always.lag.value == pytest.approx(0.5)
    late = made_up_trials(lambda category, epoch: category if epoch == 2 else "p")
    (learner,) = learning_dynamics.learners_in(late)
    assert learner.test.mean(axis=0) == pytest.approx([0.5, 1])
    # Of an accuracy above chance that rises from 0 to 0.5, 90 % is reached at 0.9 of log2.
    assert learner.needed == pytest.approx(2**0.9)


@pytest.mark.skipif(not TRIALS.exists(), reason="the trials of the study are not there")
def test_people_learn_as_the_study_counted() -> None:
    """The shares of correct answers in the six epochs, by our own count of the trials."""
    trials = pd.read_csv(TRIALS)
    people = trials[trials["observer"] == "human"]
    correct = (people["ground_truth"] == people["prediction"]).groupby(
        [people["phase"], people["epoch"]]
    )
    shares = correct.mean().unstack().round(2)
    assert shares.loc["train"].tolist() == [0.45, 0.56, 0.59, 0.64, 0.63, 0.69]
    assert shares.loc["test"].tolist() == [0.47, 0.5, 0.56, 0.59, 0.67, 0.67]
    by_name = {learner.name: learner for learner in learning_dynamics.learners_in(trials)}
    assert len(by_name["human"].test) == 12
    assert all(len(by_name[name].test) == 20 for name in by_name if name != "human")
    # People generalise at once; every network of the study lags behind its training.
    assert by_name["human"].lag.low < 0 < by_name["vgg16"].lag.low


def test_the_table_of_task_sizes_is_that_of_the_tasks() -> None:
    page = task_sizes.PAGE.read_text("utf-8")
    assert task_sizes.page_with_table(page) == page, (
        "renew it with `python -m benchmarks.studies.task_sizes --write`"
    )


def test_a_block_of_a_page_is_replaced_and_must_exist(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end of x -->\nb\n", "utf-8")
    pages.write_block(page, "x", "new\n")
    assert page.read_text("utf-8") == "a\n<!-- x -->\nnew\n<!-- end of x -->\nb\n"
    with pytest.raises(ValueError, match="no block y"):
        pages.write_block(page, "y", "new")


def test_all_parts_of_the_page_have_a_block() -> None:
    text = what_adaptation_learns.PAGE.read_text("utf-8")
    for name in ("learning dynamics", *what_adaptation_learns.PARTS):
        assert f"<!-- {name} -->\n" in text and f"<!-- end of {name} -->" in text


def test_the_front_has_only_points_that_are_better_than_all_faster_ones() -> None:
    def curve(name: str, values: list[float], passes: list[float], d_a: list[float]) -> Curve:
        row = np.array([d_a])
        return Curve(
            key=CurveKey(name, "digits", "mini", "shipped/digits-cnn"),
            axis="steps" if len(values) > 1 else "no budget",
            abscissa=tuple(values),
            targets=("3",),
            d_a=row,
            d_prime=row,
            auc=row,
            auc_seen=row,
            passes=(None,) * len(values),
            contended_passes=tuple(passes),
            failures=(),
        )

    found = [
        curve("slow", [1, 2, 4], [2, 4, 8], [1.0, 1.5, 1.4]),
        curve("fast", [1], [3], [1.2]),
    ]
    assert list(what_adaptation_learns._budget_rows(found)) == [
        ("slow", "1 steps", "2.0", "1.00"),
        ("fast", "", "3.0", "1.20"),
        ("slow", "2 steps", "4.0", "1.50"),
    ]


def _beside(values: dict[str, tuple[float, float]]) -> BesidePeople:
    """A comparison in which methods have these kappas at their own threshold and at people's rate."""

    def side(kappa: float) -> Beside:
        noise = np.random.default_rng(0).normal(0, 0.01, 200)
        return Beside(*[MeanKappa(kappa, 1.0, kappa + noise)] * 2, None)

    detectors = {
        name: DetectorBesidePeople(*[side(own).present] * 2, None, side(matched), np.zeros((2, 1)))
        for name, (own, matched) in values.items()
    }
    detection = people_detection(np.eye(2, 4, dtype=bool), np.arange(4) < 2, np.zeros(4, np.int64))
    return BesidePeople("made up", None, ("a", "b"), 4, 1, detection, side(0.5), detectors)


@pytest.mark.parametrize(
    ("own", "matched", "expected"),
    [
        (0.3, 0.1, "Only through the criterion: with attention adapted"),
        (0.3, 0.2, "Yes: with attention adapted"),
        (0.1, 0.1, "Not as far as can be told"),
    ],
)
def test_the_answer_about_people_follows_from_intervals(
    own: float, matched: float, expected: str
) -> None:
    kappas = {"none": (0.1, 0.1), "bias_only": (0.25, 0.1), "attention": (own, matched)}
    names = ({"attention": "attention"}, "none", "bias_only")
    text = people_tables.answer([_beside(kappas)] * 3, *names)
    assert text.startswith(f"**{expected}")
    assert f"{own - 0.1:+.3f} [" in text and "+0.150 [" in text and f"{own - 0.25:+.3f} [" in text


def test_kinds_of_pictures_are_independent_and_methods_are_paired() -> None:
    kappas = {"none": (0.1, 0.1), "bias_only": (0.2, 0.1)}
    comparisons = [_beside(kappas)] * 3
    found = people_tables.change(comparisons, "bias_only", "none", people_tables.OWN, "present")
    assert found.value == pytest.approx(0.1)
    assert found.interval == pytest.approx((0.1, 0.1))  # the same noise in both
    kappa = people_tables.kappa_of("none", people_tables.OWN, "present")
    one, three = (
        people_tables.joint([kappa(comparison) for comparison in comparisons[:number]])
        for number in (1, 3)
    )
    assert three.replicates.std() == pytest.approx(one.replicates.std() / 3**0.5, rel=0.2)


def test_measured_parts_of_the_page_of_people_are_replaced() -> None:
    page = people.PAGE.read_text("utf-8")
    names = ("people", "answer", "differences", "methods", "speed", "budgets")
    changed = people.with_sections(page, dict.fromkeys(names, "new\n"))
    assert changed.count("\nnew\n<!-- end of ") == len(names)
    assert people.with_sections(changed, {}) == changed
