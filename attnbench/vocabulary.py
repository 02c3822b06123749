"""The fixed vocabularies of options, task files and records, each defined once."""

from __future__ import annotations

from typing import Literal, get_args

TrackName = Literal["mini", "small", "full"]
DeviceKind = Literal["cpu", "cuda"]
IsolationLevel = Literal["process", "bwrap"]
EngineName = Literal["local", "ray", "slurm"]
ProgressStyle = Literal["auto", "bars", "lines", "json"]
# The status of an episode or of a record.
Status = Literal["ok", "failed", "not applicable"]
# Whether `attnbench verify` has confirmed a record, and `verify --audit` on images of a secret seed.
Badge = Literal[
    "self-reported",
    "verified",
    "audited",
    "verified and audited",
    "better on public seeds",
    "failed verification",
]
# Which outputs compete when a detector that keeps the backbone's logits is read out by arg-max.
ArgmaxRule = Literal["argmax-all", "argmax-targets"]

# The everyday categories that people chose from in the experiments of Geirhos et al.
SIXTEEN_CATEGORIES = (
    *("airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat"),
    *("chair", "clock", "dog", "elephant", "keyboard", "knife", "oven", "truck"),
)
# What stands for people where names of submissions are expected.
PEOPLE = "people"

# The folder of one's own records, and the folder of those that the leaderboard is made from.
RECORDS_FOLDER = "records"
PUBLISHED_FOLDER = "published"

# The task of `attnbench try`.
TRIED_TASK = "imagenet-standard"

TRACKS: tuple[TrackName, ...] = get_args(TrackName)
DEVICE_KINDS: tuple[DeviceKind, ...] = get_args(DeviceKind)
ISOLATION_LEVELS: tuple[IsolationLevel, ...] = get_args(IsolationLevel)
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
