"""Which pictures the episodes of a target draw: disjoint between seeds, and reproducible."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.backbones.backbone import Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.stimuli.image_sets import ImageSet
from attnbench.stimuli.selection import Role, choose_partners, draw
from attnbench.tasks import Sample

DIGITS = tuple("0123456789")
SMALL = Preprocessing(size=8, resize=8, mean=(0.5,) * 3, std=(0.5,) * 3)


@given(
    total=st.integers(1, 60), share=st.floats(0.01, 1), key=st.integers(0, 9), seed=st.integers(0)
)
def test_seeds_share_no_picture_as_long_as_there_are_enough(
    total: int, share: float, key: int, seed: int
) -> None:
    candidates = np.arange(total) * 3 + 1
    count = max(1, int(share * total))
    draws = [draw(candidates, count, [key], number).tolist() for number in range(total // count)]
    for pictures in (*draws, draw(candidates, count, [key], seed).tolist()):
        assert len(set(pictures)) == count and {*pictures} <= {*candidates.tolist()}
    assert all(set(one).isdisjoint(other) for one, other in combinations(draws, 2))
    assert draw(candidates, count, [key], seed).tolist() == (
        draw(candidates, count, [key], seed).tolist()
    )


def test_a_new_order_begins_where_the_pictures_end() -> None:
    order = draw(np.arange(10), 10, [5], 0)
    assert sorted(order.tolist()) == list(range(10))
    assert draw(np.arange(10), 10, [6], 0).tolist() != order.tolist()
    # Two slices of four have room in ten pictures. Each pair of later seeds has an order of its own.
    first, second, third, fourth = (draw(np.arange(10), 4, [5], seed).tolist() for seed in range(4))
    assert [*first, *second] == order[:8].tolist()
    assert {*third}.isdisjoint(fourth) and [*third, *fourth] != [*first, *second]


def test_a_secret_seed_does_not_repeat_the_images_of_a_public_one() -> None:
    """Of 30 pictures, public seeds have three slices. A secret seed must not be one of them."""
    public = {tuple(draw(np.arange(30), 10, [1], seed)) for seed in range(3)}
    secret = {tuple(draw(np.arange(30), 10, [1], 2**40 + seed)) for seed in range(300)}
    assert len(secret) == 300 and not secret & public


def _image_set(**changes: Any) -> ImageSet:
    sample = {"source": {"kind": "digits", "split": "test"}, "positives": 15, "negatives": 100}
    return ImageSet(Role.TEST, Sample.model_validate(sample | changes), {}, SMALL, None)


@pytest.mark.parametrize("generator", [None, {"kind": "blend", "alpha": 0.5}])
def test_an_image_set_says_whether_seeds_share_images(generator: dict[str, Any] | None) -> None:
    images = _image_set(generator=generator)
    # About 60 positives and 560 negatives: the positives run out first.
    seeds = int((images.pictures.labels == 3).sum()) // 15
    assert not images.shares_images("3", DIGITS, range(seeds))
    assert images.shares_images("3", DIGITS, range(seeds + 1))
    assert not images.shares_images("3", DIGITS, [0, 0])
    everything = _image_set(positives="all", generator=generator)
    assert everything.shares_images("3", DIGITS, range(2))
    assert not everything.shares_images("3", DIGITS, [1])


def test_targets_and_roles_have_draws_of_their_own() -> None:
    images = _image_set()
    three, four = (set(images.select(name, DIGITS, 0).pictures[15:].tolist()) for name in "34")
    assert three != four and not three.isdisjoint(four)


@given(repeats=st.integers(1, 5), seed=st.integers(0, 99))
def test_blends_of_a_picture_have_different_partners(repeats: int, seed: int) -> None:
    labels = np.repeat(np.arange(4), 5)
    candidates = np.flatnonzero(labels != 0)
    pictures = np.repeat(np.arange(12), repeats)
    partners = choose_partners(np.random.default_rng(seed), labels, pictures, candidates)
    assert (labels[partners] != labels[pictures]).all() and (labels[partners] != 0).all()
    assert len({*zip(pictures.tolist(), partners.tolist(), strict=True)}) == len(pictures)


def test_each_picture_is_blended_with_several_partners() -> None:
    one, several = (
        _image_set(generator={"kind": "blend", "alpha": 0.5, "partners": number})
        for number in (1, 7)
    )
    selection = several.select("3", DIGITS, 0)
    assert selection.positive_count == 7 * 15 and len(selection.pictures) == 7 * 115
    assert (selection.pictures[::7] == one.select("3", DIGITS, 0).pictures).all()
    names = several.image_names(selection)
    assert len({*names}) == len(names)
    assert several.build_images(selection, 0).shape == (7 * 115, 3, 8, 8)
    for name in names[:3]:
        assert len(several.pictures_of(name)) == 2


def test_too_few_partners_are_an_error() -> None:
    images = _image_set(generator={"kind": "blend", "alpha": 0.5, "partners": 2000})
    with pytest.raises(AttnbenchError, match=r"2000 partners: there are only \d+ pictures"):
        images.select("3", DIGITS, 0)
