"""The engine for a Ray cluster: an episode runner in each of several actors."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from attnbench.engines.data_bundle import DataBundle, pack, unpack
from attnbench.engines.engine import MEMORY_BYTES, Job, Outcomes, RunJobs
from attnbench.engines.episode_runner import EpisodeRunner, open_runner
from attnbench.engines.pool import RunnerLost, run_on_pool
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.resources import cache_folder

# How often a thread that waits for an actor checks whether its runner was stopped.
_POLL_SECONDS = 1.0
_CHUNK_BYTES = 64 << 20


class Ray:
    """Runs episodes on the nodes of a Ray cluster; by default one per node, or one per GPU.

    Args:
        address: the address of a running cluster. By default, the cluster that RAY_ADDRESS names or
            that runs on this machine. If there is none, one is started here and ends with the run.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    @contextlib.contextmanager
    def open(self, conditions: Conditions) -> Iterator[RunJobs]:
        """See `Engine`."""
        with _connected(self._address):
            nodes = ray.nodes()  # type: ignore[no-untyped-call]
            shared = _divide(conditions, [node for node in nodes if node["Alive"]])
            pack_once = functools.cache(
                functools.partial(pack, put=ray.put, chunk_bytes=_CHUNK_BYTES)
            )
            runners = [ActorRunner(shared, pack_once) for _ in range(shared.workers or 1)]
            yield functools.partial(run_on_pool, runners)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster. A cluster that was started here ends with the context."""
    is_ours = not ray.is_initialized()
    if is_ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RayError, ValueError, RuntimeError) as error:
            raise AttnbenchError(f"cannot connect to a Ray cluster at {address}: {error}") from None
    try:
        yield
    finally:
        if is_ours:
            ray.shutdown()


def _divide(conditions: Conditions, nodes: list[dict[str, Any]]) -> Conditions:
    """Decide how many episodes run at a time on these nodes, with how many threads each.

    Raises:
        AttnbenchError: if the nodes do not have what the conditions ask for.
    """
    cores = [int(node["Resources"].get("CPU", 0)) for node in nodes]
    gpus = [int(node["Resources"].get("GPU", 0)) for node in nodes]
    on_gpus = conditions.device == "cuda"
    slots = gpus if on_gpus else [int(count > 0) for count in cores]
    if not sum(slots):
        what = "GPU" if on_gpus else "free core"
        raise AttnbenchError(f"the Ray cluster has no {what}: `ray status` lists what it has")
    workers = conditions.workers or sum(slots)
    if on_gpus and workers > sum(slots):
        raise AttnbenchError(
            f"--workers {workers} needs as many GPUs, but the cluster has {sum(slots)}: each "
            "adaptation is timed on a GPU of its own"
        )
    # Several Ray nodes may be on one machine. Their episodes share its CPU, and times are contended.
    hosts = {node["NodeManagerHostname"] for node, n in zip(nodes, slots, strict=True) if n}
    fewest_cores = min(count for count, n in zip(cores, slots, strict=True) if n)
    # `-(-a // b)` is a / b, rounded up.
    per_node = -(-workers // sum(n > 0 for n in slots))
    return replace(
        conditions,
        workers=workers,
        threads=conditions.threads or max(1, fewest_cores // per_node),
        sharing=-(-workers // len(hosts)),
    )


class ActorRunner:
    """An episode runner in a Ray actor; see `RunnerHandle`.

    Args:
        conditions: the conditions of the run.
        pack_data: packs a data folder for nodes that do not have it.
    """

    def __init__(self, conditions: Conditions, pack_data: Callable[[Path], DataBundle]) -> None:
        self._conditions = conditions
        self._pack_data = pack_data
        self._actor: Any = None

    def start(self) -> None:
        """Start the actor once a node has room for it, and send the data if that node has none."""
        actor = self._actor = _RunnerActor.options(  # type: ignore[attr-defined]
            num_cpus=self._conditions.threads or 1,
            num_gpus=int(self._conditions.device == "cuda"),
            memory=MEMORY_BYTES,
            scheduling_strategy="SPREAD",
        ).remote(self._conditions)
        data = self._conditions.data
        if not self._get(actor.has_data.remote()) and data is not None:
            self._get(actor.receive.remote(self._pack_data(data)))

    def judge(self, job: Job) -> Outcomes:
        """See `EpisodeRunner.judge`. Raises RunnerLost if the actor or its node ends."""
        if (actor := self._actor) is None:
            raise RunnerLost
        outcomes: Outcomes = self._get(actor.judge.remote(job))
        return outcomes

    def stop(self) -> None:
        """End the actor."""
        actor, self._actor = self._actor, None
        if actor is not None:
            ray.kill(actor)

    def _get(self, reference: Any) -> Any:
        while True:
            try:
                return ray.get(reference, timeout=_POLL_SECONDS)
            except GetTimeoutError:
                # `stop` was called from another thread, perhaps before the actor was even placed.
                if self._actor is None:
                    raise RunnerLost from None
            except RayActorError:
                raise RunnerLost from None
            except RayTaskError as error:
                raise error.cause from None


@ray.remote(max_restarts=0)
class _RunnerActor:
    """The actor: an episode runner, opened with the first job, and its node's copy of the data."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._opened = contextlib.ExitStack()
        self._runner: EpisodeRunner | None = None

    def has_data(self) -> bool:
        return self._conditions.data is None or self._conditions.data.is_dir()

    def receive(self, bundle: DataBundle) -> None:
        folder = unpack(bundle, cache_folder() / "data", get=ray.get)
        self._conditions = replace(self._conditions, data=folder)

    def judge(self, job: Job) -> Outcomes:
        # Not in the constructor: the data may still have to arrive.
        if self._runner is None:
            self._runner = self._opened.enter_context(open_runner(self._conditions))
        return self._runner.judge(job)
