"""What a run of the track `full` would take on a cluster, on paper.

    python -m benchmarks.studies.on_paper

Passes are those measured on `mini` (the records of this checkout); what is assumed of a GPU, of a disk
and of prices stands in `Assumptions` and is printed with the result. It is no measurement.
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
    """What the sum starts from.

    Attributes:
        gpus, gpus_a_node: of the cluster.
        targets, methods, seeds: of the run, on each task.
        forwards_a_second: images of 224 pixels through VGG-16 in float32 on one GPU.
        adapt_images, test_images: of an episode of imagenet-standard; alpha-blend has as many.
        adversarial_images: test images of imagenet-a.
        judge_seconds: what the judge adds to an episode (measured on mini).
        decode_seconds: of a photograph, on one core.
        cores_a_node: that decode.
        picture_bytes: of one as it is kept prepared; `photograph_bytes`: as it comes.
        photographs: of ImageNet-1k's training part.
        dollars_a_gpu_hour: of a rented GPU.
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
    """Each method's passes on mini's imagenet-standard, of the records that are whole."""
    found = RecordStore(records).load_all()[0]
    return [
        median(each.cost.adaptation_seconds / each.cost.pass_seconds for each in record.episodes
               if each.cost is not None)
        for _, record in found
        if record.identity.track == "mini"
        and record.identity.task == "imagenet-standard"
        and record.identity.seed == 0
        and record.status == "ok"
    ]  # fmt: skip


def print_sum(given: Assumptions, passes: list[float]) -> None:
    """The sum, as tables of Markdown."""
    print("| assumed | |\n|---|---|")
    for each in fields(given):
        value = getattr(given, each.name)
        print(f"| {each.name.replace('_', ' ')} | {value:,} |")
    print(f"| passes of an adaptation (mean of {len(passes)} methods) | {mean(passes):.1f} |\n")

    a_pass = given.adapt_images / given.forwards_a_second
    episodes = given.targets * given.methods * given.seeds
    tests = (given.test_images, given.test_images, given.adversarial_images)
    phases = {
        "pass": a_pass * 0.02,  # timed on some of its batches
        "rehearsal": mean(passes) * a_pass,
        "adaptation": mean(passes) * a_pass,
        "cold adaptation (one target of each record)": mean(passes) * a_pass / given.targets,
        "prediction": mean(tests) / given.forwards_a_second,
        "judge": given.judge_seconds,
    }
    whole = sum(phases.values())
    print("| phase of an episode | seconds | share |\n|---|---|---|")
    for name, seconds in phases.items():
        print(f"| {name} | {seconds:.1f} | {seconds / whole:.0%} |")
    print(f"| all | {whole:.1f} | |\n")

    gpu_hours = whole * episodes * len(tests) / 3600
    nodes = given.gpus // given.gpus_a_node
    # Negatives are drawn anew for each target and seed, so a node comes to need nearly all pictures.
    draws = given.targets * given.seeds * given.adapt_images
    seen = given.photographs * (1 - math.exp(-draws / given.photographs))
    decoding = seen * given.decode_seconds / given.cores_a_node / 3600
    print("| in all | |\n|---|---|")
    print(f"| episodes (three tasks on VGG-16) | {episodes * len(tests):,} |")
    print(f"| GPU hours | {gpu_hours:,.0f} |")
    print(f"| hours on {given.gpus} GPUs | {gpu_hours / given.gpus:.1f} |")
    print(f"| dollars | {gpu_hours * given.dollars_a_gpu_hour:,.0f} |")
    print(f"| photographs a node reads, once | {seen * given.photograph_bytes / 1e9:.0f} GB |")
    print(f"| to {nodes} nodes together | {nodes * seen * given.photograph_bytes / 1e12:.1f} TB |")
    print(f"| prepared pictures a node keeps | {seen * given.picture_bytes / 1e9:.0f} GB |")
    print(f"| minutes of decoding on a node | {decoding * 60:.0f} |")
    print(f"| images handed to a worker for an episode | "
          f"{given.adapt_images * given.picture_bytes * 4 / 1e9:.1f} GB |")  # fmt: skip


if __name__ == "__main__":
    print_sum(Assumptions(), measured_passes(ROOT / "records"))
