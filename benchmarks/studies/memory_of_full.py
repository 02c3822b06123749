"""How much memory the judge takes for an episode of `full`: 6,295 images to adapt on, 2,050 to test.

    python -m benchmarks.studies.memory_of_full [SUBMISSION]

ImageNet's layout with made-up pictures, VGG-16 without weights, one target. Printed is the most that
all processes together had at any time (memory that several share is counted once), in MiB, beside
the size of the images that the submission is handed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from attnbench.backbones import load
from attnbench.backbones.imagenet import IMAGENET_A_WNIDS, WNIDS
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.template import Template
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from benchmarks.studies.memory import watched

TARGET = IMAGENET_A_WNIDS[0]
EVERY_SECONDS = 0.5


def make_pictures(folder: Path) -> None:
    """As many as an episode of the target needs: 1,300 and 50 of it, 5 and 11 of the others."""
    draw = np.random.default_rng(0)
    for split, of_target, of_others in (("train", 1300, 5), ("val", 50, 11)):
        for wnid in WNIDS:
            place = folder / "imagenet" / split / wnid
            place.mkdir(parents=True)
            for number in range(of_target if wnid == TARGET else of_others):
                pixels = draw.integers(0, 256, (15, 20, 3), np.uint8)
                picture = Image.fromarray(pixels).resize((320, 240))
                picture.save(place / f"{wnid}_{number}.JPEG", quality=50)


def of_all_processes() -> dict[str, float]:
    """MiB that this process and its children have in memory, each page counted once."""
    here = psutil.Process()
    total = 0
    for process in [here, *here.children(recursive=True)]:
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return {"all": total / 2**20}


def main(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, Template() as template:
        make_pictures(Path(folder))
        backbone = load("torchvision/vgg16", untrained=True)
        track = load_task("imagenet-standard").tracks["full"]
        stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, Path(folder))
        evaluator = Evaluator(backbone, template, device="cpu", untrained=True)
        before = of_all_processes()
        with watched(of_all_processes, EVERY_SECONDS) as most:
            started = time.perf_counter()
            episode = stimuli.episode(TARGET, 0)
            drawn = time.perf_counter() - started
            result, _ = evaluator.judge(load_submission(name), episode, track.timeout, cold=False)
    handed = (episode.pos.nbytes + episode.neg.nbytes) / 2**20
    print(f"{name}: {result.status} {result.reason}")
    print(f"{len(episode.pos)} + {len(episode.neg)} images of {handed:,.0f} MiB, in {drawn:.0f} s")
    print(f"before {before['all']:,.0f} MiB, at the most {most['all']:,.0f} more")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "none")
