"""An estimate of what a run of the track `full` would take on a cluster. It is not a measurement.

    python -m benchmarks.studies.on_paper

The passes of adaptations are those measured on `mini`, from the records in this checkout. What is
assumed about GPUs, disks and prices is in `Assumptions`, and is printed with the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean, median

from attnbench.records.store import RecordStore

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Assumptions:
    """The assumptions of the estimate.

    Attributes:
        gpus, gpus_a_node: of the cluster.
        targets, methods, seeds: of the run, on each task.
        forwards_a_second: images of 224 pixels through VGG-16 in float32, on one GPU.
        adapt_images, test_images: of an episode of imagenet-standard, and of alpha-blend.
        adversarial_images: test images of an episode of imagenet-a.
        judge_seconds: what the judge adds to an episode, as measured on mini.
        decode_seconds: to decode a photograph on one core.
        cores_a_node: that decode photographs.
        picture_bytes: of a prepared picture in the cache.
        photograph_bytes: of a photograph as a file.
        photographs: in the training split of ImageNet-1k.
        dollars_a_gpu_hour: price of a rented GPU.
    """

    gpus: int = 64
    gpus_a_node: int = 8
    targets: int = 200
    methods: int = 25
    seeds: int = 3
    forwards_a_second: float = 2000.0
    adapt_images: int = 1300 + 4995
    test_images: int = 50 + 2000
    adversarial_images: int = 7500
    judge_seconds: float = 0.5
    decode_seconds: float = 0.01
    cores_a_node: int = 96
    picture_bytes: int = 224 * 224 * 3
    photograph_bytes: int = 110_000
    photographs: int = 1_281_167
    dollars_a_gpu_hour: float = 3.0


def measured_passes(records: Path) -> list[float]:
    """Return the passes of each method on `imagenet-standard` of `mini`, from complete records."""
    loaded = RecordStore(records).load_all()[0]
    return [
        median(
            episode.cost.adaptation_seconds / episode.cost.pass_seconds
            for episode in record.episodes
            if episode.cost is not None
        )
        for _, record in loaded
        if record.identity.track == "mini"
        and record.identity.task == "imagenet-standard"
        and record.identity.seed == 0
        and record.status == "ok"
    ]


def print_estimate(assumed: Assumptions, passes: list[float]) -> None:
    """Print the estimate as Markdown tables."""
    print("| assumed | |\n|---|---|")
    for assumption in fields(assumed):
        value = getattr(assumed, assumption.name)
        print(f"| {assumption.name.replace('_', ' ')} | {value:,} |")
    print(f"| passes of an adaptation (mean of {len(passes)} methods) | {mean(passes):.1f} |\n")

    pass_seconds = assumed.adapt_images / assumed.forwards_a_second
    adaptation_seconds = mean(passes) * pass_seconds
    episodes = assumed.targets * assumed.methods * assumed.seeds
    test_images = (assumed.test_images, assumed.test_images, assumed.adversarial_images)
    phases = {
        "pass": pass_seconds * 0.02,  # timed on a small part of the batches
        "rehearsal": adaptation_seconds,
        "adaptation": adaptation_seconds,
        "cold adaptation (one target of each record)": adaptation_seconds / assumed.targets,
        "prediction": mean(test_images) / assumed.forwards_a_second,
        "judge": assumed.judge_seconds,
    }
    total = sum(phases.values())
    print("| phase of an episode | seconds | share |\n|---|---|---|")
    for phase, seconds in phases.items():
        print(f"| {phase} | {seconds:.1f} | {seconds / total:.0%} |")
    print(f"| all | {total:.1f} | |\n")

    gpu_hours = total * episodes * len(test_images) / 3600
    nodes = assumed.gpus // assumed.gpus_a_node
    # Negatives are drawn anew for each target and seed, so a node ends up reading nearly all
    # pictures.
    draws = assumed.targets * assumed.seeds * assumed.adapt_images
    photographs = assumed.photographs * (1 - math.exp(-draws / assumed.photographs))
    decoding_hours = photographs * assumed.decode_seconds / assumed.cores_a_node / 3600
    read_bytes = photographs * assumed.photograph_bytes
    image_bytes = assumed.adapt_images * assumed.picture_bytes * 4
    print("| in all | |\n|---|---|")
    print(f"| episodes (three tasks on VGG-16) | {episodes * len(test_images):,} |")
    print(f"| GPU hours | {gpu_hours:,.0f} |")
    print(f"| hours on {assumed.gpus} GPUs | {gpu_hours / assumed.gpus:.1f} |")
    print(f"| dollars | {gpu_hours * assumed.dollars_a_gpu_hour:,.0f} |")
    print(f"| photographs read by a node, once | {read_bytes / 1e9:.0f} GB |")
    print(f"| photographs read by {nodes} nodes together | {nodes * read_bytes / 1e12:.1f} TB |")
    print(
        f"| prepared pictures kept by a node | {photographs * assumed.picture_bytes / 1e9:.0f} GB |"
    )
    print(f"| minutes of decoding on a node | {decoding_hours * 60:.0f} |")
    print(f"| images passed to a worker for an episode | {image_bytes / 1e9:.1f} GB |")


if __name__ == "__main__":
    print_estimate(Assumptions(), measured_passes(ROOT / "published"))
