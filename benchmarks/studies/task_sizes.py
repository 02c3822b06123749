"""How large the shipped tasks are, and how hard they are for an unadapted network.

    python -m benchmarks.studies.task_sizes [--data DATA] [--track mini] [--targets 6] [--write]

For every task and track: the numbers of targets and images, how many seeds share no image, and d_a of
`none`, the log-odds that the backbone gives the target as it is. A task is of use where this d_a is
well above 0 and no target is at the ceiling. Pictures are loaded and scored in this process, without
the judge. `--targets` takes so many targets, evenly spaced.

Results are kept in `task_sizes.json`. `--write` writes the table in docs/tasks.md.
"""

from __future__ import annotations

import argparse
import json
import runpy
import statistics
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from attnbench import NotApplicable
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.resources import submissions_folder
from attnbench.statistics.detection import detect
from attnbench.stimuli.episodes import Episode, TrackStimuli
from attnbench.stimuli.image_sets import ImageSet
from attnbench.stimuli.selection import Role
from attnbench.tasks import Blend, Sample, Track, list_tasks, load_task

RESULTS = Path(__file__).with_name("task_sizes.json")
PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
_START, _END = "<!-- task sizes -->\n", "<!-- end -->"
_MAX_SEEDS = 100

# Measured values by "TASK TRACK".
Results = dict[str, dict[str, Any]]


def unadapted_d_a(backbone: Backbone, episode: Episode) -> float:
    """Return d_a of `none` on an episode. Raises NotApplicable if the backbone has no such label."""
    adapt = runpy.run_path(str(submissions_folder() / "none" / "submission.py"))["adapt"]
    backbone.target = episode.label
    detector = adapt(backbone, torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)).eval()
    rows = np.arange(len(episode.present))
    with torch.no_grad():
        scores = [
            detector(torch.from_numpy(episode.make(rows[start : start + 8])))
            for start in range(0, len(rows), 8)
        ]
    return detect(torch.cat(scores).double().numpy(), episode.present).d_a


def disjoint_seeds(track: Track, backbone: Backbone, data: Path | None) -> int:
    """Return how many seeds have no image in common, for the target with the fewest images."""
    sets = [
        ImageSet(role, sample, track.labels, backbone.preprocessing, data)
        for role, sample in ((Role.ADAPT, track.adapt), (Role.TEST, track.test))
    ]
    targets = sets[1].classes if isinstance(track.targets, str) else track.targets
    return min(
        next(
            seeds
            for seeds in count(1)
            if seeds == _MAX_SEEDS or image_set.shares_images(target, targets, range(seeds + 1))
        )
        for image_set in sets
        for target in targets
    )


def measure(track: Track, targets: int | None, data: Path | None) -> dict[str, Any]:
    """Return the number of disjoint seeds, and d_a of `none` for some targets on each backbone."""
    found: dict[str, Any] = {}
    for name in track.backbones:
        backbone = load(name, data=data)
        found.setdefault("seeds", disjoint_seeds(track, backbone, data))
        stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, data)
        found.setdefault("targets", len(stimuli.targets))
        step = len(stimuli.targets) / (targets or len(stimuli.targets))
        chosen = [stimuli.targets[int(place)] for place in np.arange(0, len(stimuli.targets), step)]
        try:
            d_as = [unadapted_d_a(backbone, stimuli.episode(target, 0)) for target in chosen]
        except NotApplicable:
            continue
        found.setdefault("d_a", {})[name] = [round(d_a, 2) for d_a in d_as]
    return found


def _images(sample: Sample) -> str:
    partners = sample.generator.partners if isinstance(sample.generator, Blend) else 1
    times = f" × {partners}" if partners > 1 else ""
    return f"{sample.positives} + {sample.negatives}{times}"


def table(results: Results) -> str:
    """Return the table in Markdown."""
    rows = []
    for task in map(load_task, list_tasks()):
        for name, track in task.tracks.items():
            found = results.get(f"{task.name} {name}", {})
            targets = track.targets if isinstance(track.targets, str) else len(track.targets)
            d_as = [
                f"{statistics.mean(values):.2f} [{min(values):.2f}, {max(values):.2f}] ({len(values)})"
                for values in found.get("d_a", {}).values()
            ]
            rows.append(
                (
                    f"`{task.name}`",
                    name,
                    found.get("targets", {"imagenet-a": 200}.get(str(targets), targets)),
                    _images(track.adapt),
                    _images(track.test),
                    found.get("seeds", ""),
                    "; ".join(d_as),
                )
            )
    heads = ["task", "track", "targets", "to adapt", "to test", "seeds", "d_a of `none`"]
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True) + "\n"


def read_results() -> Results:
    """Return what has been measured so far."""
    results: Results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    return results


def page_with_table(page: str) -> str:
    """Return a page with the table between its marks."""
    before, after = page.split(_START)
    return before + _START + table(read_results()) + _END + after.split(_END, 1)[1]


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description="sizes of tasks, and d_a without adaptation")
    parser.add_argument("--data", type=Path, help="the data folder")
    parser.add_argument("--track", help="default: none, only write the table")
    parser.add_argument("--task", action="append", choices=list_tasks(), help="default: all")
    parser.add_argument("--targets", type=int, help="how many targets; default: all")
    parser.add_argument("--write", action="store_true", help="write the table in docs/tasks.md")
    options = parser.parse_args()
    for task in map(load_task, options.task or list_tasks()):
        if options.track in task.tracks:
            found = measure(task.tracks[options.track], options.targets, options.data)
            results = read_results() | {f"{task.name} {options.track}": found}
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")
            print(task.name, options.track, found, flush=True)
    if options.write:
        PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
