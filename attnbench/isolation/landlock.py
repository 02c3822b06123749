"""Landlock: a Linux process restricts itself and its children to a few parts of the file system.

It needs no privileges. Afterwards nothing outside the named folders can be opened. The process cannot
trace processes outside its Landlock domain either, nor read their memory or environment. The numbers
below are those of the kernel ABI: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from attnbench.isolation.linux import libc, no_new_privileges

# System call numbers, the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << n for n in range(4))
# All access rights to files that the kernel knows, by ABI version.
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
_TRUNCATE = 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_TCP = 0b11  # bind and connect; since ABI 4
# Abstract Unix sockets and signals do not leave the domain; since ABI 6.
_SCOPES = 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Return the version of the kernel's Landlock ABI, or 0 if it has no Landlock."""
    if sys.platform != "linux":
        return 0
    return max(0, int(libc().syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def prepare(
    readable: Iterable[Path], writable: Iterable[Path], listable: Iterable[Path] = ()
) -> int | None:
    """Create a ruleset that denies access to all files and folders but these.

    It also forbids TCP (since ABI 4), and signals and abstract sockets to other processes (since
    ABI 6).

    Args:
        readable: paths that may be read and executed, with everything below them.
        writable: paths that may also be written, with everything below them.
        listable: folders that may only be listed, with all folders below them.

    Returns:
        A descriptor for `enforce`, or None if the kernel has no Landlock.

    Raises:
        OSError: if the kernel refuses the ruleset.
    """
    abi = version()
    if abi == 0:
        return None
    everything = _ALL_BY_ABI[min(abi, 3)]
    attributes = _Ruleset(everything, _TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    # An older kernel accepts a longer structure if the fields it does not know are zero.
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
    """Apply a ruleset to this process, on top of any that already apply. It cannot be undone.

    It covers threads and processes started from now on, but not other threads that exist already. So
    call it while there is one thread.

    Args:
        ruleset: the descriptor that `prepare` returned.

    Raises:
        OSError: if the kernel refuses.
    """
    no_new_privileges()
    if libc().syscall(_RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a path that does not exist needs no permission
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= _OF_FILES
        rule = _PathBeneath(allowed, descriptor)
        if libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0):
            raise OSError(ctypes.get_errno(), f"landlock_add_rule for {path}")
    finally:
        os.close(descriptor)
