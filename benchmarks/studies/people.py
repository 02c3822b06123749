"""Does adapting a network make its errors more like people's, and which kind of adapting does?

    python -m benchmarks.studies.people --data DATA [--records DIR] [--write]

The judge runs the untouched network, one bias, and three ways of adapting on the tracks of
tasks/people.toml, with six of its eleven targets. Their records are compared with the trials of ten
people for each kind of picture (Geirhos et al. 2019, 2021). Answers are then divided into fast and slow
ones, and two methods run with several budgets. Records that are there are not made again. `--write`
writes the tables and sentences in docs/people.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import attnbench
from attnbench.commands.compare_people import (
    SettingBesidePeople,
    compare_with_people,
    scored_images,
)
from attnbench.leaderboard.people import BesidePeople, beside_people
from attnbench.overrides import Overrides, toml_of
from attnbench.records.folders import StoredRecord
from attnbench.records.store import RecordStore
from attnbench.records.trials import read_trials
from attnbench.resources import tasks_folder
from attnbench.tasks import load_task
from attnbench.vocabulary import PEOPLE, SIXTEEN_CATEGORIES
from benchmarks.studies.people_tables import (
    BUDGET_HEADS,
    PEOPLE_HEADS,
    answer,
    budget_rows,
    differences_table,
    markdown,
    methods_table,
    people_row,
    speed_table,
)

Settings = Mapping[str, bool | int]

# An earlier count of the same trials: the share of answers that name the shape.
COUNTED = {"edge": 0.87, "silhouette": 0.75, "cue-conflict": 0.78}
KINDS = tuple(COUNTED)
UNTOUCHED, CONTROL = "none", "bias_only"


def record_name(submission: str, settings: Settings) -> str:
    """Return the name that a submission has in records with other values of hyperparameters."""
    if not settings:
        return submission
    texts = {name: toml_of(value) for name, value in sorted(settings.items())}
    return Overrides(submission=submission, hyperparameters=texts).name


# Fine-tuning has the learning rate of the manifest: trying three would take three times as long.
FINE_TUNING: Settings = {"choose_rate": False}
FULL = record_name("full_finetune", FINE_TUNING)
# What each method adapts, by the name of its records.
ADAPTED = {"attention": "attention", "last_layer": "the last layer", FULL: "everything"}
METHODS = (UNTOUCHED, CONTROL, *ADAPTED)
# Every second target of tasks/people.toml.
TARGETS = ("bear", "boat", "car", "chair", "elephant", "truck")
TASK = "people-study"
# Methods with a budget: their other settings, the hyperparameter, and its values.
BUDGETS: Mapping[str, tuple[Settings, str, tuple[int, ...]]] = {
    "attention": ({}, "steps", (1, 2, 8)),
    "full_finetune": (FINE_TUNING, "epochs", (1, 3)),
}
# These have few pictures, so that budgets do not take hours.
BUDGET_KINDS = ("edge", "silhouette")

PAGE = Path(__file__).parents[2] / "docs" / "people.md"


def write_task(records: Path) -> Path:
    """Write the task with the targets of the study, beside its records, and return the file."""
    text = (tasks_folder() / f"{PEOPLE}.toml").read_text("utf-8")
    given = list(load_task(PEOPLE).tracks[KINDS[0]].targets)
    text = text.replace(f"targets = {json.dumps(given)}", f"targets = {json.dumps(TARGETS)}")
    path = records / f"{TASK}.toml"
    records.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(f'name = "{PEOPLE}"', f'name = "{TASK}"', 1), "utf-8")
    return path


def run_judge(data: Path, records: Path) -> None:
    """Make the records that are missing."""
    task = write_task(records)
    common: dict[str, Any] = {"tasks": task, "data": data, "records": records}
    plain = [name for name in METHODS if name != FULL]
    attnbench.evaluate(plain, track=KINDS, **common)
    attnbench.evaluate("full_finetune", track=KINDS, settings=FINE_TUNING, **common)
    for name, (fixed, parameter, values) in BUDGETS.items():
        settings: dict[str, Any] = {**fixed, parameter: list(values)}
        attnbench.evaluate(name, track=BUDGET_KINDS, settings=settings, **common)


def people_table(data: Path) -> str:
    """Return people's figures on all sixteen categories, recomputed from their trials."""
    names, rows = np.array(SIXTEEN_CATEGORIES), []
    for kind, counted in COUNTED.items():
        pictures = pq.read_table(data / kind / "data")
        trials = read_trials(data / kind / "human-trials.csv")
        answers = trials.about(pictures["name"].to_pylist()).answers()
        shapes = names[pictures["label"].to_numpy()]
        has_texture = "texture" in pictures.column_names
        textures = names[pictures["texture"].to_numpy()] if has_texture else None
        rows.append(people_row(kind, answers, shapes, textures, counted))
    return markdown(rows, PEOPLE_HEADS)


def by_speed(
    names: Sequence[str], kinds: Sequence[str], data: Path, records: Path
) -> tuple[list[BesidePeople], list[BesidePeople]]:
    """Return methods beside people's fast answers, and beside their slow ones, for each kind."""
    scores = {
        (record.identity.track, record.identity.submission): scored_images(
            [StoredRecord(records, path, record)]
        )
        for path, record in RecordStore(records).load_all()[0]
        if record.identity.task == TASK and record.identity.submission in names
    }
    fast, slow = [], []
    for kind in kinds:
        detectors = {name: scores[kind, name] for name in names}
        files = sorted({file for one in detectors.values() for file in one.files.tolist()})
        trials = read_trials(data / kind / "human-trials.csv").about(files)
        is_fast = trials.fast()
        fast += beside_people(detectors, trials.where(is_fast))
        slow += beside_people(detectors, trials.where(~is_fast & ~np.isnan(trials.seconds)))
    return fast, slow


def budget_table(data: Path, records: Path) -> str:
    """Return d_a and kappa for each value of the budgets."""
    rows = []
    for name, (fixed, parameter, values) in BUDGETS.items():
        labels = {
            record_name(name, {**fixed, parameter: value}): f"{name}, {parameter} {value}"
            for value in values
        }
        settings = [_setting(list(labels), kind, data, records) for kind in BUDGET_KINDS]
        fast, slow = by_speed(list(labels), BUDGET_KINDS, data, records)
        rows += budget_rows(labels, settings, fast, slow)
    return markdown(rows, BUDGET_HEADS)


def _setting(names: list[str], kind: str, data: Path, records: Path) -> SettingBesidePeople:
    trials = data / kind / "human-trials.csv"
    (setting,) = compare_with_people(names, trials=trials, records=records, task=TASK, track=kind)
    return setting


def sections(data: Path, records: Path) -> dict[str, str]:
    """Return the parts of the page that are measured, by name."""
    settings = {kind: _setting(list(METHODS), kind, data, records) for kind in KINDS}
    comparisons = [setting.comparisons[0] for setting in settings.values()]
    return {
        "people": people_table(data),
        "methods": methods_table(settings),
        "differences": differences_table(comparisons, METHODS, (UNTOUCHED, CONTROL)),
        "answer": answer(comparisons, ADAPTED, UNTOUCHED, CONTROL),
        "speed": speed_table(*by_speed(METHODS, KINDS, data, records), METHODS),
        "budgets": budget_table(data, records),
    }


def with_sections(page: str, texts: Mapping[str, str]) -> str:
    """Return the page with each measured part in its place."""
    for name, text in texts.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, after = page.split(start)
        page = before + start + text + end + after.split(end, 1)[1]
    return page


def main() -> None:
    """Run the judge, compare with people, and print or write what was found."""
    parser = argparse.ArgumentParser(description="methods of adapting beside people")
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--records", type=Path, default=Path("records"), help="default: records")
    parser.add_argument("--write", action="store_true", help="write the tables in docs/people.md")
    options = parser.parse_args()
    run_judge(options.data, options.records)
    texts = sections(options.data, options.records)
    for name, text in texts.items():
        print(f"{name}\n\n{text}")
    if options.write:
        PAGE.write_text(with_sections(PAGE.read_text("utf-8"), texts), "utf-8")


if __name__ == "__main__":
    main()
