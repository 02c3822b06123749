"""What a part of the run is: items that are measured one after the other, in order of value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attnbench.vocabulary import DeviceKind
from benchmarks.measured import Figure


@dataclass(frozen=True)
class Sizes:
    """How much is measured. On a CPU it is little: there, the run only shows that it works.

    Attributes:
        device: what is measured.
        methods: how many of the shipped submissions are run; None for all of them.
        targets: how many targets of a task.
        seeds: how many seeds show by how much a result varies.
        backbone: the small backbone of most questions about the clock.
        networks: the networks of the parts about speed and memory.
        timed_per_class: images per class to adapt on in the part about the clock.
        per_class: images per class to adapt on in the part about large networks.
        memory_per_class: the same in the part about memory, from few to many.
        tested: the number of test images in the part about prediction.
        repeats: how often something is timed, at most.
        matrix: rows and columns of the matrices that a device's rate is measured with.
        work_seconds: how long the work takes that is put off on another stream.
        idle_seconds: how long the device idles so that its clock may fall.
    """

    device: DeviceKind
    methods: int | None
    targets: int
    seeds: int
    backbone: str
    networks: tuple[str, ...]
    timed_per_class: int
    per_class: int
    memory_per_class: tuple[int, ...]
    tested: int
    repeats: int
    matrix: int
    work_seconds: float
    idle_seconds: float

    @classmethod
    def on(cls, device: DeviceKind) -> Sizes:
        """Return the sizes for a device."""
        if device == "cuda":
            return cls(
                device=device,
                methods=None,
                targets=2,
                seeds=2,
                backbone="shipped/figures-vgg",
                networks=("torchvision/vgg16", "torchvision/resnet50", "torchvision/vit_b_16"),
                timed_per_class=24,
                per_class=64,
                memory_per_class=(16, 64, 256),
                tested=512,
                repeats=30,
                matrix=8192,
                work_seconds=0.5,
                idle_seconds=2.0,
            )
        return cls(
            device=device,
            methods=2,
            targets=1,
            seeds=2,
            backbone="shipped/figures-vgg",
            networks=("shipped/figures-vgg", "shipped/figures-resnet", "shipped/figures-vit"),
            timed_per_class=4,
            per_class=4,
            memory_per_class=(2, 4),
            tested=32,
            repeats=2,
            matrix=128,
            work_seconds=0.02,
            idle_seconds=0.01,
        )


@dataclass(frozen=True)
class Measured:
    """What was measured for one item.

    Attributes:
        figures: cells of the part's table.
        remarks: what is no figure, one line each.
    """

    figures: tuple[Figure, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A part of the run.

    Attributes:
        name: one word, for files and options.
        title: what it asks.
        share: its share of the time, relative to those of other parts.
        items: returns the names of its items, the most important first.
        measure: measures an item, given its name, the sizes and the seconds that it may take. It
            takes longer where a single repetition does.
        in_new_process: the items that are measured in a process in which nothing has run before.
    """

    name: str
    title: str
    share: float
    items: Callable[[Sizes], list[str]]
    measure: Callable[[str, Sizes, float], Measured]
    in_new_process: frozenset[str] = frozenset()
