"""A worker: a process that serves one request, either to adapt or to predict, and ends.

It runs the submission. It is given pixels, never labels, paths or the clock. The judge checks
everything it sends.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone
from attnbench.errors import NotApplicable
from attnbench.sandbox.contract import (
    Scores,
    call_mismatch,
    checked_detector,
    checked_outputs,
    find_adapt,
)
from attnbench.sandbox.failures import ContractViolation, describe_failure
from attnbench.sandbox.handing_on import handed_on
from attnbench.sandbox.places import (
    line_of_error,
    place_of_detector,
    place_of_error,
    place_of_function,
)
from attnbench.sandbox.precision import PrecisionObserver
from attnbench.sandbox.printed_output import flush_output, forget_output
from attnbench.sandbox.remarks import remarks_on
from attnbench.sandbox.remedies import remedy_for
from attnbench.sandbox.unpacking import unpack
from attnbench.sandbox.warm_state import (
    WarmState,
    device_of,
    set_seed,
    start_threads,
    synchronise,
)
from attnbench.wire.artefact import Artefact
from attnbench.wire.channel import Channel, ChannelClosed, Message
from attnbench.wire.shared_images import map_private, map_shared

SUBMISSION_MODULE = "submission"

# From a forward pass of this length on, a rehearsal has only a few images per class.
_LONG_PASS_SECONDS, _FEW_IMAGES = 1.0, 8


def serve(channel: Channel, state: WarmState, folder: Path, confinement: tuple[str, ...]) -> None:
    """Serve the one request that comes through `channel`. Failures are reported to the judge.

    Args:
        channel: the channel to the judge.
        state: this process's copy of the fork server's state.
        folder: this worker's private folder.
        confinement: names of the restrictions on this process, for the record.
    """
    source = folder / "source"
    try:
        channel.send(Message("started", {"confinement": list(confinement)}))
        request = channel.receive()
        torch.set_num_threads(int(request.fields["threads"]))
        state = state.on(request.fields["device"])
        state.set_target(request.fields["target"])
        pass_seconds = 0.0
        if request.kind == "adapt" and request.fields["rehearse"]:
            # Timed before any code of the submission is in this process.
            pass_seconds = state.pass_seconds([shape[0] for shape in request.fields["shapes"]])
            channel.send(Message("pass", {"seconds": pass_seconds}))
        _write_source(source, request.arrays)
        sys.path.insert(0, str(source))
        with _recorded_warnings(device_of(state.backbone)) as caught:
            handlers = {"adapt": _adapt, "predict": _predict}
            context = _Context(channel, request, state, source, caught, pass_seconds)
            handlers[request.kind](context)
    except NotApplicable as refusal:
        answer = Message("not applicable", {"reason": str(refusal)[:1000]})
    except BaseException as error:
        failure = describe_failure(error, source)
        failure["reason"] = _with_place_and_remedy(error, failure["reason"], source)
        answer = Message("failed", failure)
    else:
        return
    flush_output()
    channel.send(answer)


def _with_place_and_remedy(error: BaseException, reason: str, source: Path) -> str:
    """Return the reason of a failure, with the submission's line before it and a remedy after it."""
    if isinstance(error, ContractViolation):  # its message has both already
        return reason
    own_modules = {path.stem for path in source.glob("*.py")}
    remedy = remedy_for(reason, line_of_error(error, source), own_modules)
    return place_of_error(error, source) + reason + f": {remedy}" * bool(remedy)


@dataclass(frozen=True)
class _Context:
    """A request, and whatever is needed to serve it."""

    channel: Channel
    request: Message
    state: WarmState
    source: Path
    caught_warnings: list[warnings.WarningMessage]
    pass_seconds: float
    precision: PrecisionObserver = field(default_factory=PrecisionObserver)

    @property
    def report(self) -> dict[str, Any]:
        """Fields of a reply: the submission's nondeterministic operations, and its precision."""
        names = {str(warning.message).partition(" ")[0] for warning in self.caught_warnings}
        return {"nondeterministic": sorted(names), "precision": sorted(self.precision.observed)}


def _adapt(context: _Context) -> None:
    request, state, channel = context.request, context.state, context.channel
    device = device_of(state.backbone)
    shapes = [tuple(shape) for shape in request.fields["shapes"]]
    modules_before = len(sys.modules)
    adapt = _load_adapt()
    settings: dict[str, Any] = request.fields["hyperparameters"]
    if request.fields["rehearse"]:
        _rehearse_until_warm(adapt, context, [shape[0] for shape in shapes])
        forget_output()
        adapt = _reload_adapt(context.source, modules_before)
    set_seed(request.fields["seed"])
    synchronise(device)
    memory_before = _start_memory_count(device)
    channel.send(Message("ready"))
    # "go": the judge's clock runs from here until it has the artefact. The images come now and not
    # earlier, so nothing that the submission has left running can have seen them.
    earlier = channel.receive().arrays
    descriptor = channel.receive_descriptor()
    pos, neg = (_to_device(images, device) for images in map_private(descriptor, shapes))
    backbone = state.backbone
    if earlier:  # the detector of another target, whose network is to be adapted further
        backbone = handed_on(Artefact.of_arrays(earlier), backbone)
    detector = _call_adapt(adapt, context.source, backbone, pos, neg, settings)
    artefact = state.packer.pack(detector, context.source)
    synchronise(device)
    flush_output()
    used = _peak_memory(device) - memory_before
    report = context.report | {"device_memory_bytes": used}
    channel.send(Message("artefact", report, artefact.arrays))
    if request.fields["remark"]:  # after the clock has stopped
        remarks = remarks_on(
            detector,
            state.backbone,
            state.packer.unchanged_tensors(),
            torch.cat([pos, neg]),
            adapt_place=place_of_function(adapt, context.source),
            detector_place=place_of_detector(detector, context.source),
        )
        channel.send(Message("remarks", asdict(remarks)))
    # The judge reads from the kernel how much memory this process has used, and then ends it.
    with contextlib.suppress(ChannelClosed):
        channel.receive()


def _start_memory_count(device: torch.device) -> int:
    """Return the bytes that are allocated on a GPU, whose peak is counted from here; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak_memory(device: torch.device) -> int:
    """Return the most bytes that were allocated on a GPU at a time; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _rehearse_until_warm(
    adapt: Callable[..., object], context: _Context, counts: Sequence[int]
) -> None:
    """Rehearse on as many noise images as the episode has, or on a few where these take long.

    Creating a kernel takes about a millisecond. Where a forward pass takes a second, the kernels for
    other batch sizes than those of a few images make little difference (docs/timing.md).

    Args:
        adapt: the submission's function.
        context: the request.
        counts: the episode's numbers of positives and of negatives.
    """
    few = [min(_FEW_IMAGES, count) for count in counts]
    if few != counts and context.pass_seconds >= _LONG_PASS_SECONDS:
        try:
            _rehearse(adapt, context, few)
            return
        except NotApplicable:
            raise
        except Exception:  # the method may need more images
            forget_output()
            context.state.renew_rehearsal()
    _rehearse(adapt, context, counts)


def _rehearse(adapt: Callable[..., object], context: _Context, counts: Sequence[int]) -> None:
    """Adapt to noise images, `counts` of each class, and pack the result."""
    request, state = context.request, context.state
    pos, neg = state.noise_images(counts)
    set_seed(request.fields["seed"])
    # A list that the submission changes here must not reach the adaptation.
    settings = copy.deepcopy(request.fields["hyperparameters"])
    with context.precision:
        detector = _call_adapt(adapt, context.source, state.rehearsal, pos, neg, settings)
    state.rehearsal_packer.pack(detector, context.source)


def _predict(context: _Context) -> None:
    request, backbone, channel = context.request, context.state.backbone, context.channel
    device = device_of(backbone)
    shapes = [tuple(shape) for shape in request.fields["shapes"]]
    buffers = map_shared(channel.receive_descriptor(), shapes)
    start_threads(backbone)  # this must not count as the detector's time
    _load_adapt()
    set_seed(request.fields["seed"])
    synchronise(device)
    channel.send(Message("ready"))
    artefact = Artefact.of_arrays(channel.receive().arrays)
    detector = unpack(artefact, backbone).eval()
    synchronise(device)
    place = place_of_detector(detector, context.source)
    channel.send(Message("loaded", {"place": place}))
    observer = context.precision if request.fields["observe"] else contextlib.nullcontext()
    with torch.no_grad(), observer:
        while (batch := channel.receive()).kind == "images":
            buffer, count = batch.fields["buffer"], batch.fields["count"]
            images = _to_device(buffers[buffer][:count], device)
            outputs = _read_out(detector, images, logits=bool(batch.fields["logits"]), place=place)
            flush_output()
            channel.send(Message("scores", context.report, outputs))


def _write_source(folder: Path, files: Mapping[str, NDArray[Any]]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())


@contextlib.contextmanager
def _recorded_warnings(device: torch.device) -> Iterator[list[warnings.WarningMessage]]:
    """Use deterministic kernels on a GPU, and record a warning for each operation without one."""
    if device.type != "cuda":
        yield []
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("ignore")
        warnings.filterwarnings("always", message=".*does not have a deterministic")
        yield caught


def _read_out(
    detector: nn.Module, images: Tensor, *, logits: bool, place: str
) -> dict[str, Scores]:
    """Return scores, and logits if they were requested and the detector offers them."""
    logits_of = getattr(detector, "logits", None)
    if not (logits and callable(logits_of)):
        return {"scores": checked_outputs(detector(images), (len(images),), "scores", place)}
    outputs = logits_of(images)
    # With `from_logits`, the scores need no second forward pass.
    from_logits = getattr(detector, "from_logits", None)
    scores = from_logits(outputs) if callable(from_logits) else detector(images)
    return {
        "scores": checked_outputs(scores, (len(images),), "scores", place),
        "logits": checked_outputs(outputs, (len(images), None), "logits", place),
    }


def _load_adapt() -> Callable[..., object]:
    return find_adapt(vars(importlib.import_module(SUBMISSION_MODULE)))


def _reload_adapt(source: Path, modules_before: int) -> Callable[..., object]:
    """Import the submission once more, so that its modules keep nothing from the rehearsal.

    Modules are in the order of their import. Only those after the first `modules_before` can be the
    submission's. (Looking at every module would copy half of the fork server's memory.)
    """
    newest = itertools.islice(reversed(sys.modules), len(sys.modules) - modules_before)
    for name in list(newest):
        file = getattr(sys.modules[name], "__file__", None)
        if isinstance(file, str) and Path(file).is_relative_to(source):
            del sys.modules[name]
    return _load_adapt()


def _call_adapt(
    adapt: Callable[..., object],
    source: Path,
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    settings: dict[str, Any],
) -> nn.Module:
    place = place_of_function(adapt, source)
    try:
        with torch.enable_grad():
            returned = adapt(backbone, pos, neg, **settings)
    except TypeError as error:
        # An error of the call itself has no frame below this one. Others are the submission's.
        trace = error.__traceback__
        is_of_call = trace is not None and trace.tb_next is None
        if is_of_call and (mismatch := call_mismatch(adapt, settings)):
            raise ContractViolation(place + mismatch) from None
        raise
    return checked_detector(returned, place)


def _to_device(images: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    return torch.from_numpy(images).to(device)
