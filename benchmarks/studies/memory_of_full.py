"""The memory that an episode of `full` takes: 6,295 images to adapt to, 2,050 test images.

    python -m benchmarks.studies.memory_of_full [SUBMISSION]

There is one target, synthetic pictures in ImageNet's layout and VGG-16 without trained weights.
Printed is the peak memory of all processes together in MiB, with shared memory counted once, and
the size of the images that the submission adapts to.
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
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import open_judge
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from benchmarks.studies.memory import peaks

TARGET = IMAGENET_A_WNIDS[0]
INTERVAL_SECONDS = 0.5


def make_pictures(folder: Path) -> None:
    """Write 1,300 and 50 pictures of the target, and 5 and 11 of each other class."""
    rng = np.random.default_rng(0)
    for split, of_target, of_others in (("train", 1300, 5), ("val", 50, 11)):
        for wnid in WNIDS:
            class_folder = folder / "imagenet" / split / wnid
            class_folder.mkdir(parents=True)
            for number in range(of_target if wnid == TARGET else of_others):
                pixels = rng.integers(0, 256, (15, 20, 3), np.uint8)
                picture = Image.fromarray(pixels).resize((320, 240))
                picture.save(class_folder / f"{wnid}_{number}.JPEG", quality=50)


def mebibytes_of_all_processes() -> dict[str, float]:
    """Return the resident memory of this process and its children, each page counted once."""
    here = psutil.Process()
    total = 0
    for process in [here, *here.children(recursive=True)]:
        with suppress(psutil.Error):  # a child may have ended
            total += process.memory_full_info().pss
    return {"all": total / 2**20}


def main(name: str) -> None:
    """Judge one episode and print its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        make_pictures(data)
        backbone = load("torchvision/vgg16", untrained=True)
        track = load_task("imagenet-standard").tracks["full"]
        stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, data)
        with open_judge(Conditions(untrained=True)) as judge:
            evaluator = judge.evaluator(backbone.name)
            before = mebibytes_of_all_processes()
            with peaks(mebibytes_of_all_processes, INTERVAL_SECONDS) as highest:
                started = time.perf_counter()
                episode = stimuli.episode(TARGET, 0)
                seconds = time.perf_counter() - started
                outcome = evaluator.judge(load_submission(name), episode, track.timeout, cold=False)
    images = (episode.pos.nbytes + episode.neg.nbytes) / 2**20
    print(f"{name}: {outcome.result.status} {outcome.result.reason}")
    print(
        f"{len(episode.pos)} + {len(episode.neg)} images of {images:,.0f} MiB, "
        f"prepared in {seconds:.0f} s"
    )
    print(f"{before['all']:,.0f} MiB before, at most {highest['all']:,.0f} MiB more")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "none")
