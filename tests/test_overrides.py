"""`--set`: values are parsed as TOML, checked against the manifest, and name the record."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import attnbench
from attnbench.errors import AttnbenchError
from attnbench.manifest import NAME_PATTERN
from attnbench.overrides import Overrides, Scalar, parse_settings, toml_of
from attnbench.records.store import RecordStore
from attnbench.runs.submissions import read_submissions
from attnbench.runs.sweep import sweep
from attnbench.submission import Submission, load_submission

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

TEXTS = st.text(st.characters(codec="utf-8"), max_size=100)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats()
SCALARS = st.booleans() | NUMBERS | TEXTS
HYPERPARAMETERS = """
declared_parameters = 9
[hyperparameters]
rate = 0.5
steps = 8
after = ""
quick = false

[backbone."shipped/digits-cnn"]
declared_parameters = 7
hyperparameters = { rate = 0.25, depth = 2 }
"""


@pytest.fixture
def submission(submission_folder: Callable[[str, str], Path]) -> Submission:
    """A submission with a hyperparameter of each type, one of them for one backbone only."""
    folder = submission_folder("sub", "def adapt(backbone, pos, neg, **settings): return None")
    with (folder / "submission.toml").open("a") as file:
        file.write(HYPERPARAMETERS)
    return load_submission(folder)


@given(SCALARS | st.lists(NUMBERS, max_size=4) | st.lists(TEXTS, max_size=4))
def test_a_value_has_one_form_as_toml_which_reads_back(value: Scalar | list[Scalar]) -> None:
    text = toml_of(value)
    assert repr(tomllib.loads(f"value = {text}")) == repr({"value": value})
    assert repr(parse_settings([f"x={text}"])) == repr({"x": [value]})


@given(st.lists(SCALARS, min_size=1, max_size=4))
def test_values_with_commas_between_them_are_a_sweep(values: list[Scalar]) -> None:
    assert repr(parse_settings([f"x={','.join(map(toml_of, values))}"])) == repr({"x": values})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("block3", ["block3"]),
        ("block3, block4", ["block3", "block4"]),
        ("0.1,block4,true", [0.1, "block4", True]),
        (r"block5\.0", [r"block5\.0"]),
        ("", [""]),
        ("1", [1]),
        ("[1, 2]", [[1, 2]]),
        ("[1, 2],[3]", [[1, 2], [3]]),
        ('"a,b"', ["a,b"]),
        ("a=b", ["a=b"]),
        ("#1", ["#1"]),
    ],
)
def test_text_without_quotes_is_text(text: str, values: list[object]) -> None:
    assert parse_settings([f"x={text}"]) == {"x": values}


@given(TEXTS)
def test_any_option_is_parsed_or_refused(text: str) -> None:
    try:
        values = parse_settings([text])
    except AttnbenchError as error:
        assert str(error).startswith("--set")
    else:
        assert len(values) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["rate"], "write NAME=VALUE"),
        (["=3"], "write NAME=VALUE"),
        (["rate=1", "rate=2"], r"rate twice: write --set rate=A,B"),
        (['after="a,b'], "not a TOML value"),
        (["after=[0-9]+"], "not a TOML value; put double quotes"),
    ],
)
def test_options_of_another_form_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(AttnbenchError, match=message):
        parse_settings(options)


@given(
    st.from_regex(NAME_PATTERN.replace("$", r"\Z"), fullmatch=True),
    st.dictionaries(st.sampled_from(["a", "b", "rate_1", "e8", "l" * 64]), TEXTS | NUMBERS),
    st.lists(st.sampled_from(["", "x", "x-b-y", "x/y", "x y", "-", "--", "Ä"]), unique=True),
)
def test_names_fit_and_other_values_give_another_name(
    name: str, settings: dict[str, Scalar], texts: list[str]
) -> None:
    def named(values: dict[str, Scalar]) -> str:
        texts = {key: toml_of(value) for key, value in sorted(values.items())}
        return Overrides(submission=name, hyperparameters=texts).name

    variants = [settings | {"a": one, "b": other} for one, other in product(texts, texts)]
    variants += [{**settings, "a": number} for number in (0.1, 0.2, -0.1, 1e-05, 1e16, 1)]
    names = [named(variant) for variant in variants]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(NAME_PATTERN, each) for each in names)


def test_readable_values_stand_in_the_name(submission: Submission) -> None:
    settings = {"rate": [0.3, -1, 1e-05], "after": ["block4"]}
    assert [variant.name for variant in sweep(submission, settings)] == [
        "sub-after-block4-rate-0.3",
        "sub-after-block4-rate--1.0",
        "sub-after-block4-rate-1e-05",
    ]


def test_a_sweep_is_every_combination_and_changes_nothing_else(submission: Submission) -> None:
    variants = sweep(submission, {"rate": [1, 0.3, 0.30], "depth": 3})
    assert [variant.hyperparameters_for("shipped/digits-cnn") for variant in variants] == [
        {"rate": rate, "steps": 8, "after": "", "quick": False, "depth": 3} for rate in (1.0, 0.3)
    ]
    assert variants[0].hyperparameters_for("other") == variants[0].manifest.hyperparameters
    assert len({submission.sha256, *(variant.sha256 for variant in variants)}) == 3
    for variant in variants:
        assert variant.files == submission.files and variant.manifest.declared_parameters is None
        assert variant.manifest.authors == submission.manifest.authors
    assert variants[1].manifest.title == "sub (depth = 3, rate = 0.3)"
    assert sweep(submission, {}) == [submission]


def test_the_order_of_options_does_not_matter(submission: Submission) -> None:
    one, other = ({"rate": 0.3, "steps": 4}, {"steps": 4, "rate": 0.3})
    assert sweep(submission, one) == sweep(submission, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rat": 0.3}, r"no hyperparameter 'rat': did you mean rate\? \(known: rate, steps"),
        ({"rate": "high"}, 'rate of sub is a number, such as 0.5, and cannot be "high"'),
        ({"rate": True}, "cannot be true"),
        ({"rate": 10**400}, "is a number"),
        ({"steps": 0.5}, "steps of sub is an integer, such as 8, and cannot be 0.5"),
        ({"steps": 2**63}, "an integer"),
        ({"quick": 1}, "quick of sub is true or false"),
        ({"after": 3}, """quote it: --set 'after="3"'"""),
        ({"after": [[1]]}, "after of sub is text"),
        ({"after": "x" * 2000}, "cannot be hyperparameters"),
    ],
)
def test_values_that_the_manifest_does_not_allow_are_refused(
    submission: Submission, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(AttnbenchError, match=message):
        sweep(submission, settings)  # type: ignore[arg-type]


def test_every_submission_of_a_run_must_have_the_hyperparameter() -> None:
    with pytest.raises(AttnbenchError, match="--set: none has no hyperparameters"):
        read_submissions(["attention", "none"], {"intensity": 0.3})
    submissions, _ = read_submissions(["attention", "lora"], {})
    assert [submission.name for submission in submissions] == ["attention", "lora"]


def test_a_swept_record_is_named_and_verified_by_its_values(tmp_path: Path) -> None:
    frame = attnbench.evaluate(
        ["bias_only"], tasks=["noisy-mnist"], settings={"steps": 2}, records=tmp_path
    )
    assert frame["submission"].tolist() == ["bias_only-steps-2"]
    path = Path(frame["record"][0])
    record = RecordStore(tmp_path).read(path)
    assert record.title.endswith("(steps = 2)")
    with pytest.raises(AttnbenchError, match=r"overridden .*verify it with --set steps=2"):
        attnbench.verify(path)
    with pytest.raises(AttnbenchError, match="verify it with --set steps=2"):
        attnbench.verify(path, settings={"steps": 3})
    verified = attnbench.verify(path, settings={"steps": 2}, sample=1)
    assert len(verified.targets) == 1 and not verified.problems
    # Without what the record says of itself, it is not taken for the plain submission.
    plain = record.model_copy(update={"overrides": None})
    renamed = plain.identity.model_copy(update={"submission": "bias_only"})
    path.write_text(plain.model_copy(update={"identity": renamed}).model_dump_json())
    assert "not the recorded version" in attnbench.verify(path).problems[0]
    with pytest.raises(AttnbenchError, match="of its manifest: leave out --set"):
        attnbench.verify(path, settings={"steps": 2})
