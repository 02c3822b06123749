"""Entries for the leaderboard tests: real ones, and some in which every text is hostile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from attnbench.leaderboard.entries import Entry, read_entries
from attnbench.leaderboard.order import order_correlations
from attnbench.leaderboard.standings import Standings, standings_of
from attnbench.records.record import EpisodeResult, Record
from attnbench.statistics.intervals import Floats

ROOT = Path(__file__).parents[2]
MakeRecord = Callable[..., Record]
Make = Callable[..., list[Record]]
TASKS = ("alpha-blend", "imagenet-a", "imagenet-standard")
HOSTILE = (
    "<script>alert(1)</script> | `x` \x1b[31m \u202eabc\n# $x^2$ ../../x \" ' " + "long " * 900
)


def boards_of(entries: list[Entry]) -> list[Standings]:
    """Return the standings of each track, with the entries' badges."""
    badges = {entry.record.identity: entry.badge for entry in entries}
    return standings_of([entry.record for entry in entries], badges, order_correlations(entries))


@pytest.fixture(scope="session")
def entries() -> list[Entry]:
    """The repository's records of `noisy-mnist`, on the tracks `mini` and `small`."""
    every, problems = read_entries([ROOT / "published"])
    assert not problems
    return [entry for entry in every if entry.record.identity.task == "noisy-mnist"]


@pytest.fixture
def hostile(make_record: MakeRecord) -> list[Entry]:
    """Entries in which every free text of a record is hostile."""
    text = HOSTILE[:9_000]
    records = [
        make_record(title=text, device_name=text, created=text, python=text),
        make_record(title=text, submission="failed-one", reason=text),
        make_record(submission="x..x", submission_sha256="d" * 64, device_name="=1+1"),
    ]
    renamed = []
    for record in records:
        episodes = [
            EpisodeResult.model_validate(episode.model_dump() | {"target": f"{text}{number}"})
            for number, episode in enumerate(record.episodes)
        ]
        renamed.append(record.model_copy(update={"episodes": tuple(episodes)}))
    names = [f"mini/noisy-mnist/{number} $(rm -rf x)'.json" for number in range(len(renamed))]
    return [
        Entry(Path("published"), Path(name), record, "self-reported", None)
        for name, record in zip(names, renamed, strict=True)
    ]


@pytest.fixture(scope="session")
def make(make_record: Callable[..., Record]) -> Make:
    """A function that makes a method's records of d_a `[tasks, targets, seeds]`."""
    template = make_record()
    episode = template.episodes[0]
    assert episode.measures is not None

    def make(
        name: str,
        d_a: Floats,
        tasks: Sequence[str] = TASKS,
        has_label: bool | None = True,
        track: str = "mini",
    ) -> list[Record]:
        records = []
        for task, by_target in zip(tasks, d_a, strict=True):
            for seed in range(by_target.shape[1]):
                identity = {"submission": name, "task": task, "seed": seed, "track": track}
                episodes = tuple(
                    episode.model_copy(
                        update={
                            "target": f"target {target}",
                            "has_label": has_label,
                            "measures": episode.measures.model_copy(
                                update={"d_a": float(value), "d_prime": float(value)}
                            ),
                        }
                    )
                    for target, value in enumerate(by_target[:, seed])
                )
                records.append(
                    template.model_copy(
                        update={
                            "identity": template.identity.model_copy(update=identity),
                            "episodes": episodes,
                        }
                    )
                )
        return records

    return make
