"""System calls and C library functions for which Python has no function of its own."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
_LINE_BUFFERED = 1  # _IOLBF of setvbuf(3)
_CAPABILITY_VERSION_3 = 0x20080522


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


@functools.cache
def libc() -> ctypes.CDLL:
    """Return the C library of this process. `ctypes.get_errno()` is the error of the last call."""
    return ctypes.CDLL(None, use_errno=True)


def return_freed_memory() -> None:
    """Return freed memory to the system. With a C library other than glibc, do nothing."""
    if hasattr(libc(), "malloc_trim"):
        libc().malloc_trim(0)


def buffer_c_output_by_line() -> None:
    """Have the C library write each line to standard output as soon as it ends.

    By default it does so on a terminal only. With a C library other than glibc, do nothing.
    """
    with contextlib.suppress(ValueError):  # no such variable
        stream = ctypes.c_void_p.in_dll(libc(), "stdout")
        libc().setvbuf(stream, None, _LINE_BUFFERED, ctypes.c_size_t(0))


def count_threads() -> int:
    """Return the number of threads of this process."""
    return len(os.listdir("/proc/self/task"))


def become_subreaper() -> None:
    """Make orphaned descendants become children of this process."""
    libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    libc().prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def no_new_privileges() -> None:
    """Prevent programs started from now on from gaining privileges, for example by set-user-ID."""
    libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def drop_capabilities() -> None:
    """Give up all capabilities of root, permanently. For other users, do nothing."""
    for capability in range(64):
        if libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # the kernel has no further capabilities, or this user has none to drop
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    empty = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; two words each
    libc().capset(ctypes.byref(header), ctypes.byref(empty))
