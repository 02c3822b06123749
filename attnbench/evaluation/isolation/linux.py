"""The few calls into the kernel and the C library that Python has no function for."""

from __future__ import annotations

import ctypes
import functools
import os

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
_CAPABILITY_VERSION_3 = 0x20080522


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library of this process; `ctypes.get_errno()` says what went wrong in a call."""
    return ctypes.CDLL(None, use_errno=True)


def give_back_freed_memory() -> None:
    """Have the C library return to the system what was freed; another library than glibc keeps it."""
    if hasattr(libc(), "malloc_trim"):
        libc().malloc_trim(0)


def threads_alive() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def become_subreaper() -> None:
    """Orphans among the descendants become children of this process."""
    libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(signal_number: int) -> None:
    """Be sent this signal when the parent ends."""
    libc().prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def no_new_privileges() -> None:
    """No program started from here on gains privileges, by set-user-id for instance."""
    libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def drop_capabilities() -> None:
    """What root may do beyond other users, given up for good; nothing where there is nothing."""
    for capability in range(64):
        if libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; two words each
    libc().capset(ctypes.byref(header), ctypes.byref(nothing))
