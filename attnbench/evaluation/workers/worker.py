"""The untrusted side: runs a submission in a process that lives for one job.

It gets pixels, never labels, paths or the clock. What it says is checked by the evaluator.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone
from attnbench.errors import NotApplicable
from attnbench.evaluation.artefact import Artefact, unpack
from attnbench.evaluation.channel import Channel, Message
from attnbench.evaluation.handover import mapped, watched
from attnbench.evaluation.workers.stage import Stage, device_of, seed, start_up, synchronise

SUBMISSION_MODULE = "submission"

Scores = NDArray[np.float32]


class Unusable(Exception):
    """What the submission delivered breaks the contract."""


def serve(channel: Channel, stage: Stage, folder: Path, confinement: tuple[str, ...]) -> None:
    """Do the one job that comes through `channel`; every end but a crash is told to the evaluator.

    Args:
        channel: to the evaluator.
        stage: as the template has made it; this process's own copy.
        folder: this worker's own.
        confinement: what keeps this process in its place, for the record.
    """
    try:
        channel.send(Message("started", {"confinement": list(confinement)}))
        job = channel.receive()
        torch.set_num_threads(int(job.fields["threads"]))
        stage = stage.on(job.fields["device"])
        stage.set_target(job.fields["target"])
        if job.kind == "adapt" and job.fields["warm_up"]:
            # Before anything of the submission is here.
            seconds = stage.pass_seconds([shape[0] for shape in job.fields["shapes"]])
            channel.send(Message("pass", {"seconds": seconds}))
        source = _write_source(folder / "source", job.arrays)
        sys.path.insert(0, str(source))
        with _noting_nondeterminism(device_of(stage.backbone)) as noted:
            job_of = {"adapt": _adapt, "predict": _predict}
            job_of[job.kind](_Context(channel, job, stage, source, noted))
    except NotApplicable as refusal:
        channel.send(Message("not applicable", {"reason": str(refusal)[:1000]}))
    except BaseException as error:
        channel.send(Message("failed", _explain(error)))


@dataclass(frozen=True)
class _Context:
    channel: Channel
    job: Message
    stage: Stage
    source: Path
    nondeterministic: list[warnings.WarningMessage]

    @property
    def notes(self) -> dict[str, Any]:
        """What the evaluator is told beside the result."""
        said = {str(each.message).partition(" ")[0] for each in self.nondeterministic}
        return {"nondeterministic": sorted(said)}


def _adapt(context: _Context) -> None:
    job, stage, channel = context.job, context.stage, context.channel
    device = device_of(stage.backbone)
    shapes = [tuple(shape) for shape in job.fields["shapes"]]
    imported = len(sys.modules)
    adapt = _load_adapt()
    settings: dict[str, Any] = job.fields["hyperparameters"]
    if job.fields["warm_up"]:
        counts = [shape[0] for shape in shapes]
        try:
            _rehearse(adapt, context, stage.fewest(counts))
        except NotApplicable:
            raise
        except Exception:  # perhaps it wants more images than these few
            _rehearse(adapt, context, counts)
        adapt = _load_adapt_anew(context.source, imported)
    seed(job.fields["seed"])
    synchronise(device)
    channel.send(Message("ready"))
    # "go": the evaluator's clock runs from here until the artefact has arrived. The images come now
    # and not before, so that nothing the submission left running has seen them.
    channel.receive()
    pos, neg = (_to_device(side, device) for side in mapped(channel.receive_descriptor(), shapes))
    detector = _detector(adapt, stage.backbone, pos, neg, settings)
    artefact = stage.packer.pack(detector, context.source)
    synchronise(device)
    channel.send(Message("artefact", context.notes, artefact.arrays))


def _rehearse(adapt: Callable[..., object], context: _Context, counts: list[int]) -> None:
    """Adapt to so many made-up images a side, and pack what comes of it."""
    job, stage = context.job, context.stage
    pos, neg = stage.made_up(counts)
    seed(job.fields["seed"])
    detector = _detector(adapt, stage.rehearsal, pos, neg, job.fields["hyperparameters"])
    stage.rehearsal_packer.pack(detector, context.source)


def _predict(context: _Context) -> None:
    job, backbone, channel = context.job, context.stage.backbone, context.channel
    device = device_of(backbone)
    places = watched(channel.receive_descriptor(), [tuple(shape) for shape in job.fields["shapes"]])
    start_up(backbone)  # which is no detector's time
    _load_adapt()
    seed(job.fields["seed"])
    synchronise(device)
    channel.send(Message("ready"))
    artefact = Artefact.of_arrays(channel.receive().arrays)
    detector = unpack(artefact, backbone).eval()
    synchronise(device)
    channel.send(Message("loaded"))
    with torch.no_grad():
        while (request := channel.receive()).kind == "images":
            place, count = request.fields["place"], request.fields["count"]
            images = _to_device(places[place][:count], device)
            answers = _read_out(detector, images, logits=bool(request.fields["logits"]))
            channel.send(Message("scores", context.notes, answers))


def _write_source(folder: Path, files: Mapping[str, NDArray[Any]]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())
    return folder


@contextlib.contextmanager
def _noting_nondeterminism(device: torch.device) -> Iterator[list[warnings.WarningMessage]]:
    """Ask a GPU for deterministic kernels; what has none is noted, by its name."""
    if device.type != "cuda":
        yield []
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("ignore")
        warnings.filterwarnings("always", message=".*does not have a deterministic")
        yield caught


def _read_out(detector: nn.Module, images: Tensor, *, logits: bool) -> dict[str, Scores]:
    """Scores, and logits where they are asked for and the detector has them."""
    logits_of = getattr(detector, "logits", None)
    if not (logits and callable(logits_of)):
        return {"scores": _checked(detector(images), (len(images),), "scores")}
    outputs = logits_of(images)
    from_logits = getattr(detector, "from_logits", None)
    scores = from_logits(outputs) if callable(from_logits) else detector(images)
    return {
        "scores": _checked(scores, (len(images),), "scores"),
        "logits": _checked(outputs, (len(images), None), "logits"),
    }


def _load_adapt() -> Callable[..., object]:
    module = importlib.import_module(SUBMISSION_MODULE)
    adapt = getattr(module, "adapt", None)
    if not callable(adapt):
        raise Unusable("submission.py defines no function adapt(backbone, pos, neg)")
    return adapt  # type: ignore[no-any-return]


def _load_adapt_anew(source: Path, imported: int) -> Callable[..., object]:
    """The function from a second import: what the rehearsal left in its modules is not there.

    `imported` is how many modules there were before the first; those the submission brought came
    after them. (Looking at every module would copy half of the template's memory into this process.)
    """
    for name in list(itertools.islice(reversed(sys.modules), len(sys.modules) - imported)):
        file = getattr(sys.modules[name], "__file__", None)
        if isinstance(file, str) and Path(file).is_relative_to(source):
            del sys.modules[name]
    return _load_adapt()


def _detector(
    adapt: Callable[..., object],
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    settings: dict[str, Any],
) -> nn.Module:
    with torch.enable_grad():
        detector = adapt(backbone, pos, neg, **settings)
    if not isinstance(detector, nn.Module):
        raise Unusable(f"adapt returned {_kind(detector)}; it must return an nn.Module")
    return detector


def _checked(values: object, expected: tuple[int | None, ...], what: str) -> Scores:
    if not isinstance(values, Tensor):
        raise Unusable(f"the detector returned {_kind(values)}; it must return a tensor of {what}")
    sizes = zip(values.shape, expected, strict=False)
    if values.dim() != len(expected) or any(e is not None and n != e for n, e in sizes):
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise Unusable(
            f"the detector returned {what} of shape {list(values.shape)} for {expected[0]} images; "
            f"the shape must be [{wanted}]"
        )
    array: Scores = values.detach().float().cpu().numpy()
    return array


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _to_device(images: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    return torch.from_numpy(images).to(device)


def _explain(error: BaseException) -> dict[str, str]:
    """A one-line reason and the end of the traceback, without the harness's own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    if isinstance(error, Unusable):
        reason = str(error)
    elif isinstance(error, SystemExit):
        reason = f"the submission called sys.exit({error.code!r})"
    elif isinstance(error, MemoryError | torch.OutOfMemoryError):
        reason = "the submission ran out of memory"
    else:
        reason = f"{type(error).__name__}: {_text_of(error)}".splitlines()[0]
    try:
        detail = "".join(traceback.format_exception(type(error), error, trace))
    except Exception:
        detail = ""
    return {"reason": reason[:1000], "detail": detail[-4000:]}


def _text_of(error: BaseException) -> str:
    try:
        return str(error).strip() or "no message"
    except Exception:
        return "its message cannot be told"
