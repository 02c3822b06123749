"""Landlock: a Linux process gives up, for itself and its children, what it does not need.

No privilege is needed, and nothing outside the named folders can be opened afterwards. A process in
such a domain cannot trace processes outside it either, nor read their memory or environment. See
https://docs.kernel.org/userspace-api/landlock.html; the numbers below are those of its ABI.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from attnbench.evaluation.isolation.linux import libc, no_new_privileges

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << n for n in range(4))
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
_TRUNCATE = 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_TCP = 0b11  # bind and connect, from ABI 4 on
_SCOPES = 0b11  # abstract unix sockets and signals stay within the domain, from ABI 6 on


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The kernel's Landlock ABI, 0 where there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(libc().syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def prepare(
    readable: Iterable[Path], writable: Iterable[Path], listable: Iterable[Path] = ()
) -> int | None:
    """A ruleset that allows nothing but to read, write or list these files and folders.

    Also no TCP (ABI 4), and no signal or abstract socket to processes outside (ABI 6).

    Returns:
        A descriptor for `enforce`; None where the kernel has no Landlock.
    """
    abi = version()
    if abi == 0:
        return None
    everything = _ALL_BY_ABI[min(abi, 3)]
    attributes = _Ruleset(everything, _TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    # An older kernel takes the structure as long as what it does not know is nought.
    ruleset = int(
        libc().syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    )
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    kinds = ((readable, _READ), (writable, everything), (listable, _READ_DIR))
    for paths, allowed in kinds:
        for path in paths:
            _allow(ruleset, path, allowed)
    return ruleset


def enforce(ruleset: int) -> None:
    """Put a ruleset over this process, on top of those it is under already.

    For good, and for all threads started and processes forked from here on; so call it while there
    is one thread.
    """
    no_new_privileges()
    if libc().syscall(_RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no permission
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= _OF_FILES
        rule = _PathBeneath(allowed, descriptor)
        if libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0):
            raise OSError(ctypes.get_errno(), f"landlock_add_rule for {path}")
    finally:
        os.close(descriptor)
