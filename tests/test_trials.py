"""People's trials: the form of the CSV, which trial is of which picture, fast and slow answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnbench.errors import AttnbenchError
from attnbench.records.trials import Trials, read_trials

HEADER = "subj,session,trial,rt,object_response,category,condition,imagename"


def _write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "trials.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def _read(folder: Path, *rows: str, header: str = HEADER) -> Trials:
    return read_trials(_write(folder, *rows, header=header))


def test_a_trial_is_of_the_picture_whose_name_its_own_ends_in(tmp_path: Path) -> None:
    trials = _read(
        tmp_path,
        "b,1,1,0.5,cat,bear,0,0001_edg_s01_0_bear_00_bear10.png",
        "a,1,1,NaN,na,bear,0,some/folder/bear1.png",
        "a,1,2,0.7,dog,dog,0,0002_my_dog.png",
        "a,1,3,0.7,dog,dog,0,0003_other.png",
    )
    about = trials.about(["bear1.png", "my_dog.png", "bear10.png"])
    assert about.people == ("a", "b")
    # No trial of `0001_…_bear10.png` is of `bear1.png`, and one name has an underscore.
    assert about.answers().tolist() == [["na", "dog", ""], ["", "", "cat"]]
    assert np.isnan(about.seconds).tolist() == [False, True, False]
    assert about.presentations == ()


def test_a_picture_may_be_answered_once_for_each_presentation_time(tmp_path: Path) -> None:
    header = "subj,object_response,category,imagename,presentation_ms"
    trials = _read(
        tmp_path,
        "a,na,bear,bear1.png,50",
        "a,bear,bear,bear1.png,200",
        header=header,
    ).about(["bear1.png"])
    assert trials.presentations == (50, 200)
    long = trials.where(trials.presentation_ms == 200)
    assert long.answers().tolist() == [["bear"]]
    with pytest.raises(AttnbenchError, match=r"a has several trials of bear1\.png"):
        trials.answers()


def test_fast_answers_are_of_the_same_people_and_pictures_as_slow_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pace, difficulty = rng.uniform(0.3, 3, 6), rng.uniform(0.5, 2, 40)
    rows = [
        f"p{p},1,1,{pace[p] * difficulty[i] * rng.uniform(0.9, 1.1):.6f},cat,cat,0,cat{i}.png"
        for p in range(6)
        for i in range(40)
    ]
    trials = _read(tmp_path, *rows).about([f"cat{i}.png" for i in range(40)])
    fast = trials.fast()
    by_picture = np.bincount(trials.picture, fast, 40)
    assert by_picture.tolist() == [3.0] * 40
    # Without correction for their pace, the fastest person would have nothing but fast answers.
    assert 0.2 < np.bincount(trials.person, fast, 6).min() / 40 < 0.5
    assert 0.5 < np.bincount(trials.person, fast, 6).max() / 40 < 0.8


@pytest.mark.parametrize(
    ("rows", "header", "expected"),
    [
        ([], HEADER, ["no trials"]),
        (["a"], "subj", ["no column 'object_response'", "presentation_ms"]),
        (
            ["a,cat,cat,x.png,50"],
            "subj,object_response,category,imagename,presentaton_ms",
            ["unknown column 'presentaton_ms'", "did you mean presentation_ms?"],
        ),
        (["a,1,1,1,ct,cat,0,x.png"], HEADER, ["line 2", "object_response is 'ct'", "mean cat?"]),
        (["a,1,1,1,cat,na,0,x.png"], HEADER, ["line 2", "category is 'na'"]),
        (
            ["a,1,1,1,cat,cat,0,x.png", "a,1,1,-1,cat,cat,0,x.png"],
            HEADER,
            ["line 3", "rt is '-1'", "positive number of seconds"],
        ),
        (["a,1,1,1,cat,cat,0"], HEADER, ["line 2", "number of values"]),
        ([",1,1,1,cat,cat,0,x.png"], HEADER, ["line 2", "subj is empty"]),
        (
            ["a,cat,cat,x.png,fast"],
            "subj,object_response,category,imagename,presentation_ms",
            ["line 2", "presentation_ms is 'fast'", "milliseconds"],
        ),
        (["a,a,cat,cat,x.png"], "subj,subj,object_response,category,imagename", ["'subj' twice"]),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, rows: list[str], header: str, expected: list[str]
) -> None:
    with pytest.raises(AttnbenchError) as raised:
        _read(tmp_path, *rows, header=header)
    assert all(text in str(raised.value) for text in ["trials.csv", *expected])


def test_a_file_that_is_not_there_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AttnbenchError, match="cannot read the trials"):
        read_trials(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00subj")
    with pytest.raises(AttnbenchError, match="UTF-8"):
        read_trials(tmp_path / "binary.csv")
