"""What all methods get wrong, what divides them, and the pictures of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from attnbench.leaderboard.entries import group_entries, read_entries
from attnbench.leaderboard.pooling import Setting
from attnbench.leaderboard.shared_errors import SharedErrors, shared_errors
from attnbench.leaderboard.site.error_pictures import SheetDrawer, picture_sheet
from attnbench.records.outcome import scores_table
from attnbench.records.record import Measures, Record
from attnbench.records.store import RecordStore
from attnbench.records.summary import summarise
from attnbench.statistics.clustering import clustered_order
from attnbench.statistics.detection import detect
from attnbench.tasks import load_task

PRESENT = np.array([True, True, True, False, False, False])
RIGHT = [1, 1, 1, -1, -1, -1]


@pytest.fixture
def errors_of(
    make_record: Callable[..., Record], tmp_path: Path
) -> Callable[[Sequence[Sequence[int]]], SharedErrors | None]:
    """A function that writes a record per method, and returns what they get wrong together.

    Each method has the same scores for the targets `cat` and `dog`.
    """

    def errors_of(scores: Sequence[Sequence[int]]) -> SharedErrors | None:
        for number, of_method in enumerate(scores):
            values = np.array(of_method, np.float32)
            record = make_record(submission=f"method-{number}")
            episodes = [
                each.model_copy(update={"measures": Measures.of(detect(values, PRESENT))})
                for each in record.episodes
            ]
            tables = [
                scores_table(
                    target, [f"{target} {image}" for image in range(len(values))], PRESENT, values
                )
                for target in ("dog", "cat")  # not in the order of the names
            ]
            update = {"episodes": tuple(episodes), "summary": summarise(episodes)}
            RecordStore(tmp_path).save(record.model_copy(update=update), pa.concat_tables(tables))
        entries, problems = read_entries([tmp_path])
        assert not problems
        ((methods,),) = ([*settings.values()] for settings in group_entries(entries).values())
        return shared_errors(methods)

    return errors_of


def test_errors_of_all_and_of_half_are_found(
    errors_of: Callable[[Sequence[Sequence[int]]], SharedErrors | None],
) -> None:
    found = errors_of(
        [
            [-1, 1, 1, 1, -1, -1],  # all miss 0 and call 3 present
            [-1, 1, 1, 1, -1, -1],
            [-1, -1, 1, 1, -1, -1],  # half of them miss 1
            [-1, -1, 1, 1, -1, -1],
        ]
    )
    assert found is not None
    assert (found.methods, found.positives, found.negatives) == (4, 6, 6)
    assert (found.missed_by_all, found.false_alarms_of_all) == (2, 2)
    assert found.right_for_all == 6
    # The targets come in turn.
    assert [(image.name, image.present) for image in found.hardest] == [
        ("cat 0", True),
        ("dog 0", True),
        ("cat 3", False),
        ("dog 3", False),
    ]
    assert {image.target for image in found.hardest} == {"cat", "dog"}
    assert [(image.name, image.wrong) for image in found.dividing] == [("cat 1", 2), ("dog 1", 2)]


def test_methods_without_errors_have_none_in_common(
    errors_of: Callable[[Sequence[Sequence[int]]], SharedErrors | None],
) -> None:
    found = errors_of([RIGHT] * 3)
    assert found is not None
    assert found.right_for_all == 12 and not found.hardest and not found.dividing


def test_two_methods_are_too_few(
    errors_of: Callable[[Sequence[Sequence[int]]], SharedErrors | None],
) -> None:
    assert errors_of([RIGHT] * 2) is None


def test_a_sheet_shows_the_named_pictures() -> None:
    task = load_task("imagenet-standard")
    names = [f"figures-test/{'warm plain disc'}/{number}" for number in range(7)]
    sheet = picture_sheet(task, names)
    assert sheet is not None
    image = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGBA"))
    assert image.shape == (2 * 96 + 8, 6 * 96 + 5 * 8, 4)
    assert (image[:96, 96:104, 3] == 0).all()  # a gap is transparent, so dark pages stay dark
    assert (image[104:, 104:, 3] == 0).all()  # the last row has one picture
    assert picture_sheet(task, ["no such picture"]) is None


def test_pictures_of_data_sets_and_of_other_versions_are_not_drawn() -> None:
    task = load_task("imagenet-standard")
    setting = Setting(task.name, "shipped/figures-vgg", task.content_hash("mini"), "", False)
    with ProcessPoolExecutor(1) as pool:
        drawer = SheetDrawer(pool)
        assert drawer.draw(task, setting, "small", "k", ["name"]) is None
        assert drawer.draw(None, setting, "mini", "k", ["name"]) is None
        assert drawer.draw(task, setting, "mini", "k", []) is None
        other = Setting(task.name, "shipped/figures-vgg", "f" * 64, "", False)
        assert drawer.draw(task, other, "mini", "k", ["name"]) is None
        sheet = drawer.draw(task, setting, "mini", "k", ["name"])
        assert sheet is not None and not sheet.is_drawn and not dict(drawer.files())


def test_detectors_with_similar_errors_are_neighbours() -> None:
    rng = np.random.default_rng(0)
    groups = rng.permutation([0] * 4 + [1] * 3 + [2] * 5)
    kappa = np.where(groups[:, None] == groups, 0.8, 0.1)
    kappa[0, 1] = kappa[1, 0] = np.nan
    order = clustered_order(kappa)
    assert sorted(order) == list(range(12))
    assert (np.diff(groups[order]) != 0).sum() == 2  # each group is in one piece
    assert clustered_order(np.full((2, 2), np.nan)) == [0, 1]
