"""The rights that a worker gives up before it runs any code of a submission."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from attnbench.isolation import landlock, seccomp, visible_paths
from attnbench.isolation.linux import die_with_parent, drop_capabilities

_MAX_FILE_BYTES = 1 << 30
_MAX_PROCESSES = 512
_SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class Limits:
    """The resource limits of a worker.

    Attributes:
        memory_bytes: private memory of the worker, and of each process that it starts.
        processes: processes and threads of this user. The limit does not apply to root.
        cpu_seconds: CPU time of the worker, and of each process that it starts.
    """

    memory_bytes: int
    processes: int
    cpu_seconds: int


def limits_for(seconds: float, sharing: int = 1) -> Limits:
    """Return limits for a worker, given the memory and the threads in use on this machine now.

    Args:
        seconds: the longest that one request may take.
        sharing: how many such workers share the machine.
    """
    # RLIMIT_NPROC limits all threads of this user, so the limit includes those that run already.
    threads = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        uids = process.info["uids"]
        threads += process.info["num_threads"] or 0 if uids and uids.real == os.getuid() else 0
    return Limits(
        memory_bytes=int(psutil.virtual_memory().available * _SHARE_OF_MEMORY / sharing),
        processes=threads + _MAX_PROCESSES * sharing,
        cpu_seconds=int((seconds + 10) * (os.cpu_count() or 1)),
    )


@dataclass(frozen=True)
class Confinement:
    """The confinement that all workers of a fork server have in common.

    Attributes:
        limits: the resource limits of each worker.
        ruleset: the descriptor of the Landlock ruleset that workers share (see `landlock.prepare`);
            None if the kernel has no Landlock.
    """

    limits: Limits
    ruleset: int | None


def prepare(scratch: Path, hidden: Sequence[Path], limits: Limits) -> Confinement:
    """Prepare the confinement of workers whose folders will be in `scratch`.

    Args:
        scratch: the folder in which each worker will have its own folder.
        hidden: resolved paths that workers must not see.
        limits: the resource limits of each worker.
    """
    whole, split = visible_paths.whole_and_split(visible_paths.program_folders(), hidden)
    writable = [scratch, *visible_paths.devices()]
    return Confinement(limits, landlock.prepare([*whole, Path("/proc")], writable, split))


def confine(folder: Path, channel: int, output: int, confinement: Confinement) -> tuple[str, ...]:
    """Confine this process, which was just forked and has one thread, and everything it starts.

    The worker's folder becomes its working directory, its home and its temporary folder, and the only
    place that it can write to. All open files except the channel are closed. Standard input is the null
    device. Standard output and error go to a file.

    Args:
        folder: the worker's own folder.
        channel: the descriptor of its channel to the judge.
        output: the descriptor of the file for what it prints.
        confinement: see `prepare`.

    Returns:
        The names of the restrictions in force, such as `landlock 7` and `seccomp`.
    """
    os.setsid()
    with open(os.devnull, "rb", buffering=0) as null:
        os.dup2(null.fileno(), 0)
    for stream in (1, 2):
        os.dup2(output, stream)
    kept = {channel} if confinement.ruleset is None else {channel, confinement.ruleset}
    _close_descriptors_except(kept)
    os.chdir(folder)
    os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    _set_limits(confinement.limits)
    # When memory runs out, the kernel kills this process first, and not the judge.
    Path("/proc/self/oom_score_adj").write_text("1000")
    drop_capabilities()
    in_force = ["limits"]
    if confinement.ruleset is not None:
        # The first ruleset is the same for all workers and slow to build, so the fork server has built
        # it. The second limits this worker to its own folder and its own /proc entry.
        writable = [folder, *visible_paths.devices()]
        own = landlock.prepare(visible_paths.all_but_other_processes(), writable)
        for ruleset in (confinement.ruleset, own):
            if ruleset is not None:
                landlock.enforce(ruleset)
                os.close(ruleset)
        in_force.append(f"landlock {landlock.version()}")
    if seccomp.restrict():
        in_force.append("seccomp")
    die_with_parent(signal.SIGKILL)
    return tuple(in_force)


def _set_limits(limits: Limits) -> None:
    for which, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES),
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
    ):
        # A process cannot raise its hard limit. RLIM_INFINITY is -1, so `min` alone would be wrong.
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))


def _close_descriptors_except(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue  # the descriptor of this listing itself
