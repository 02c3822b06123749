"""What a worker gives up before it runs anything of a submission."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from attnbench.evaluation.isolation import landlock, reach, seccomp
from attnbench.evaluation.isolation.linux import die_with_parent, drop_capabilities

_FILE_BYTES = 1 << 30
_PROCESSES = 512
_SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class Limits:
    """The most a worker may use.

    Attributes:
        memory_bytes: of private memory, for the worker and for each process it starts.
        processes: of this user, threads included; the administrator has no such limit.
        cpu_seconds: of processor time, for the worker and for each process it starts.
    """

    memory_bytes: int
    processes: int
    cpu_seconds: int


def limits_for(seconds: float, at_once: int = 1) -> Limits:
    """Limits on this machine, as it is now, for a worker with a job of at most `seconds`.

    Args:
        seconds: of that job.
        at_once: how many such workers share the machine.
    """
    threads = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        uids = process.info["uids"]
        threads += process.info["num_threads"] or 0 if uids and uids.real == os.getuid() else 0
    return Limits(
        memory_bytes=int(psutil.virtual_memory().available * _SHARE_OF_MEMORY / at_once),
        processes=threads + _PROCESSES * at_once,
        cpu_seconds=int((seconds + 10) * (os.cpu_count() or 1)),
    )


@dataclass(frozen=True)
class Confinement:
    """What all workers of a template have in common.

    Attributes:
        limits: see `Limits`.
        ruleset: Landlock's for what they may read (see `landlock.prepare`), None where there is none.
    """

    limits: Limits
    ruleset: int | None


def prepare(scratch: Path, hidden: Sequence[Path], limits: Limits) -> Confinement:
    """The confinement of workers whose folders will be in `scratch`, and who must not see `hidden`."""
    whole, split = reach.whole_and_split(reach.program_folders(), hidden)
    writable = [scratch, *reach.devices()]
    return Confinement(limits, landlock.prepare([*whole, Path("/proc")], writable, split))


def confine(folder: Path, channel: int, confinement: Confinement) -> tuple[str, ...]:
    """Confine this process, just forked and with one thread, and all it will start.

    Its own folder is where it works, its home and its place for temporary files: the only place
    that it can write to. Of open files it keeps the channel; what it prints goes nowhere.

    Args:
        folder: the worker's own.
        channel: the descriptor of its channel to the evaluator.
        confinement: see `prepare`.

    Returns:
        What the kernel enforces, such as `landlock 7` and `seccomp`.
    """
    os.setsid()
    kept = {channel} if confinement.ruleset is None else {channel, confinement.ruleset}
    _close_all_but(kept)
    with open(os.devnull, "r+b", buffering=0) as nothing:
        for stream in (0, 1, 2):
            os.dup2(nothing.fileno(), stream)
    os.chdir(folder)
    os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    for which, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_DATA, confinement.limits.memory_bytes),
        (resource.RLIMIT_NPROC, confinement.limits.processes),
        (resource.RLIMIT_CPU, confinement.limits.cpu_seconds),
    ):
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))
    Path("/proc/self/oom_score_adj").write_text("1000")  # the first to go where memory runs out
    drop_capabilities()
    in_force = ["limits"]
    if confinement.ruleset is not None:
        # The first layer took a while to prepare; the second adds what only this worker knows.
        own = landlock.prepare(reach.everything_but_processes(), [folder, *reach.devices()])
        for ruleset in (confinement.ruleset, own):
            if ruleset is not None:
                landlock.enforce(ruleset)
                os.close(ruleset)
        in_force.append(f"landlock {landlock.version()}")
    if seccomp.restrict():
        in_force.append("seccomp")
    die_with_parent(signal.SIGKILL)
    return tuple(in_force)


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue  # the listing's own
