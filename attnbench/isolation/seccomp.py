"""A seccomp filter: system calls that a worker does not need fail with "operation not permitted".

The filter denies calls that could

- leave state for a later process: System V shared memory and message queues, kernel key rings;
- reach into another process: ptrace, its memory, descriptors, limits, CPU affinity and priority;
- open a network connection;
- administer the machine.

A worker could also leave state in the owners, permissions, times and attributes of files, which
Landlock does not protect. But ordinary code sets them, for instance when it copies a file. So calls
that set them succeed and do nothing. See seccomp(2) and linux/filter.h.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from collections.abc import Sequence
from errno import EPERM

from attnbench.isolation.linux import libc, no_new_privileges

# System call numbers on x86_64 and aarch64, from the kernel's tables.
_DENIED = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "semget": (64, 190),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "swapon": (167, 224),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
# Allowed only with this first argument: AF_UNIX for `socket`, 0 (this process) for the other calls.
_ALLOWED_FOR = {
    "prlimit64": ((302, 261), 0),
    "sched_setaffinity": ((203, 122), 0),
    "socket": ((41, 198), 1),
}
# These succeed and do nothing. aarch64 does not have the older ones.
_IGNORED = {
    "chmod": (90,),
    "chown": (92,),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "file_setattr": (469, 469),
    "fremovexattr": (199, 16),
    "fsetxattr": (190, 7),
    "futimesat": (261,),
    "lchown": (94,),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "removexattr": (197, 14),
    "removexattrat": (466, 466),
    "setxattr": (188, 5),
    "setxattrat": (463, 463),
    "utime": (132,),
    "utimensat": (280, 88),
    "utimes": (235,),
}
_IOCTL = (16, 29)
# FS_IOC_SETFLAGS, its 32-bit form, FS_IOC_SETVERSION, FS_IOC_FSSETXATTR: file attributes as well.
_IGNORED_IOCTLS = (0x40086602, 0x40046602, 0x40087602, 0x401C5820)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# On x86_64, the same calls exist a second time from this number on (the x32 ABI).
_X32_CALLS = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
# Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_ALLOW, _REFUSE, _IGNORE, _KILL = 0x7FFF0000, 0x00050000 | EPERM, 0x00050000, 0x80000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

Instruction = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def restrict() -> bool:
    """Apply the filter to this process and its children, permanently.

    Returns:
        False if there is no filter for this machine, or the kernel refuses it.
    """
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    code = b"".join(
        struct.pack("=HBBI", *instruction) for instruction in filter_program(platform.machine())
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    compiled = _Program(len(code) // 8, ctypes.addressof(buffer))
    no_new_privileges()
    return not libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(compiled), 0, 0)


def filter_program(machine: str) -> Sequence[Instruction]:
    """Return the BPF program of the filter.

    An instruction is (operation, jump if true, jump if false, value). A jump is the number of
    instructions to skip.

    Args:
        machine: `x86_64` or `aarch64`.
    """
    column, audit = _ARCHITECTURES[machine]
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32_CALLS),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for numbers in _DENIED.values():
        code += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _REFUSE)]
    for known in _IGNORED.values():
        for number in known[column : column + 1]:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _IGNORE)]
    for pair, allowed in _ALLOWED_FOR.values():
        code += [
            (_EQUAL, 0, 4, pair[column]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_EQUAL, 1, 0, allowed),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    code += [(_EQUAL, 1, 0, _IOCTL[column]), (_RETURN, 0, 0, _ALLOW)]
    code += [(_LOAD, 0, 0, _SECOND_ARGUMENT)]
    for request in _IGNORED_IOCTLS:
        code += [(_EQUAL, 0, 1, request), (_RETURN, 0, 0, _IGNORE)]
    return [*code, (_RETURN, 0, 0, _ALLOW)]
