"""The engine for a Ray cluster: a station in each of several actors."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from attnbench.engines.dispatch import SeatLost, dispatch
from attnbench.engines.engine import Conditions, Job, Run, needs_of
from attnbench.engines.parcel import Parcel, pack, unpack
from attnbench.engines.station import Station
from attnbench.errors import AttnbenchError
from attnbench.resources import cache_folder

if TYPE_CHECKING:
    from attnbench.records.store import Measured

# How often one that waits for an actor looks whether it is still wanted.
_PATIENCE_SECONDS = 1.0
_PIECE_BYTES = 64 << 20


class Ray:
    """Episodes on the nodes of a Ray cluster; by default one on each node, or one on each GPU.

    Args:
        address: of a running cluster; None for the one that RAY_ADDRESS names or that was begun on this
            machine, and where there is none, for one of this machine alone that ends with the run.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    @contextlib.contextmanager
    def open(self, conditions: Conditions) -> Iterator[Run]:
        """See `Engine`."""
        with _connected(self._address):
            nodes = ray.nodes()  # type: ignore[no-untyped-call]
            shared = _shared_out(conditions, [node for node in nodes if node["Alive"]])
            parcels = functools.cache(functools.partial(pack, put=ray.put, size=_PIECE_BYTES))
            seats = [ActorSeat(shared, parcels) for _ in range(shared.workers or 1)]
            yield functools.partial(dispatch, seats)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connected to a cluster; one that was begun here ends with it."""
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RayError, ValueError, RuntimeError) as error:
            raise AttnbenchError(f"no Ray cluster at {address}: {error}") from None
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def _shared_out(conditions: Conditions, nodes: list[dict[str, Any]]) -> Conditions:
    """How many episodes at a time, with how many cores each, on these nodes.

    Raises AttnbenchError where there is not what the conditions ask for.
    """
    cores = [int(node["Resources"].get("CPU", 0)) for node in nodes]
    gpus = [int(node["Resources"].get("GPU", 0)) for node in nodes]
    places = gpus if conditions.device == "cuda" else [int(each > 0) for each in cores]
    if not sum(places):
        what = "GPU" if conditions.device == "cuda" else "free core"
        raise AttnbenchError(f"the Ray cluster has no {what}: `ray status` lists what it has")
    workers = conditions.workers or sum(places)
    if conditions.device == "cuda" and workers > sum(places):
        raise AttnbenchError(
            f"--workers {workers}, but {sum(places)} GPUs: an adaptation is timed on a GPU of its own"
        )
    hosts = {node["NodeManagerHostname"] for node, n in zip(nodes, places, strict=True) if n}
    least = min(count for count, n in zip(cores, places, strict=True) if n)
    on_a_node = -(-workers // sum(n > 0 for n in places))
    return replace(
        conditions,
        workers=workers,
        threads=conditions.threads or max(1, least // on_a_node),
        at_once=-(-workers // len(hosts)),
    )


class ActorSeat:
    """A station in a Ray actor; see `Seat`.

    Args:
        conditions: of the run.
        parcels: packs a data folder for nodes that have none.
    """

    def __init__(self, conditions: Conditions, parcels: Callable[[Path], Parcel]) -> None:
        self._conditions = conditions
        self._parcels = parcels
        self._actor: Any = None

    def start(self) -> None:
        """Begin on a node with room, when there is one, and see that it has the data."""
        needs = needs_of(self._conditions, self._conditions.threads or 1)
        actor = self._actor = _Desk.options(  # type: ignore[attr-defined]
            num_cpus=needs.cores,
            num_gpus=needs.gpus,
            memory=needs.memory_bytes,
            scheduling_strategy="SPREAD",
        ).remote(self._conditions)
        data = self._conditions.data
        if not self._get(actor.has_data.remote()) and data is not None:
            self._get(actor.receive.remote(self._parcels(data)))

    def judge(self, job: Job) -> Measured:
        """See `Station.judge`. Raises SeatLost where the actor, or its node, ends."""
        if (actor := self._actor) is None:
            raise SeatLost
        measured: Measured = self._get(actor.judge.remote(job))
        return measured

    def stop(self) -> None:
        """End the actor."""
        actor, self._actor = self._actor, None
        if actor is not None:
            ray.kill(actor)

    def _get(self, reference: Any) -> Any:
        while True:
            try:
                return ray.get(reference, timeout=_PATIENCE_SECONDS)
            except GetTimeoutError:
                if self._actor is None:
                    raise SeatLost from None
            except RayActorError:
                raise SeatLost from None
            except RayTaskError as error:
                raise error.cause from None


@ray.remote(max_restarts=0)
class _Desk:
    """What an actor is: a station, and its node's copy of the data."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._station: Station | None = None

    def has_data(self) -> bool:
        return self._conditions.data is None or self._conditions.data.is_dir()

    def receive(self, parcel: Parcel) -> None:
        folder = unpack(parcel, cache_folder() / "data", get=ray.get)
        self._conditions = replace(self._conditions, data=folder)

    def judge(self, job: Job) -> Measured:
        if self._station is None:
            self._station = Station(self._conditions)
        return self._station.judge(job)
