"""The untrusted side: runs a submission in a process that lives for one job.

It gets pixels, never labels, paths or the clock. What it says is checked by the evaluator.
"""

from __future__ import annotations

import copy
import importlib
import random
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone
from attnbench.errors import NotApplicable
from attnbench.evaluation.artefact import Artefact, ArtefactPacker, unpack
from attnbench.evaluation.channel import Channel, Message

SUBMISSION_MODULE = "submission"

Scores = NDArray[np.float32]


class Unusable(Exception):
    """What the submission delivered breaks the contract."""


def serve(channel: Channel, backbone: Backbone) -> None:
    """Do the one job that comes through `channel`; every end but a crash is told to the evaluator."""
    try:
        job = channel.receive()
        torch.set_num_threads(int(job.fields["threads"]))
        backbone.to(job.fields["device"])
        backbone.target = job.fields["target"]
        sys.path.insert(0, job.fields["source"])
        {"adapt": _adapt, "predict": _predict}[job.kind](channel, job, backbone)
    except NotApplicable as refusal:
        channel.send(Message("not applicable", {"reason": str(refusal)[:1000]}))
    except BaseException as error:
        channel.send(Message("failed", _explain(error)))


def _adapt(channel: Channel, job: Message, backbone: Backbone) -> None:
    device = backbone_device(backbone)
    pos, neg = (_to_device(job.arrays[side], device) for side in ("pos", "neg"))
    packer = ArtefactPacker(backbone)
    adapt = _load_adapt()
    settings: dict[str, Any] = job.fields["hyperparameters"]
    if job.fields["warm_up"]:
        made_up = torch.Generator().manual_seed(0)
        no_pos, no_neg = (
            torch.randn(side.shape, generator=made_up).to(device) for side in (pos, neg)
        )
        rehearsal = copy.deepcopy(backbone)
        _seed(job.fields["seed"])
        ArtefactPacker(rehearsal).pack(_detector(adapt, rehearsal, no_pos, no_neg, settings))
    _seed(job.fields["seed"])
    _synchronise(device)
    channel.send(Message("ready"))
    channel.receive()  # "go": the evaluator's clock runs from here until the artefact has arrived
    artefact = packer.pack(_detector(adapt, backbone, pos, neg, settings))
    _synchronise(device)
    channel.send(Message("artefact", arrays=_as_arrays(artefact)))


def _predict(channel: Channel, job: Message, backbone: Backbone) -> None:
    device = backbone_device(backbone)
    artefact = Artefact(job.arrays["structure"].tobytes(), job.arrays["tensors"].tobytes())
    detector = unpack(artefact, backbone).eval()
    _seed(job.fields["seed"])
    channel.send(Message("ready"))
    with torch.no_grad():
        while (request := channel.receive()).kind == "images":
            images = _to_device(request.arrays["images"], device)
            answers = _read_out(detector, images, logits=bool(request.fields["logits"]))
            channel.send(Message("scores", arrays=answers))


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


def backbone_device(backbone: nn.Module) -> torch.device:
    """The device a backbone's parameters are on."""
    return next(backbone.parameters()).device


def _load_adapt() -> Callable[..., object]:
    module = importlib.import_module(SUBMISSION_MODULE)
    adapt = getattr(module, "adapt", None)
    if not callable(adapt):
        raise Unusable("submission.py defines no function adapt(backbone, pos, neg)")
    return adapt  # type: ignore[no-any-return]


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


def _as_arrays(artefact: Artefact) -> dict[str, Any]:
    return {
        "structure": np.frombuffer(artefact.structure, np.uint8),
        "tensors": np.frombuffer(artefact.tensors, np.uint8),
    }


def _to_device(images: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    return torch.from_numpy(images).to(device)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


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
        reason = f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
    detail = "".join(traceback.format_exception(type(error), error, trace))
    return {"reason": reason[:1000], "detail": detail[-4000:]}
