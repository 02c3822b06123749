"""A seccomp filter: system calls that a worker has no use for fail with "operation not permitted".

They are the ways by which one process leaves something for another (System V shared memory and queues,
the kernel's key rings), reaches into another (ptrace, its memory, its descriptors, its limits, its
processors), the network, and what only an administrator does. Owners, permissions, times and attributes
of files would be a note to the next worker as well, and Landlock does not guard them; but as ordinary
code sets them, for the copy of a file say, such a call succeeds and does nothing. See seccomp(2) and
linux/filter.h.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from collections.abc import Sequence
from errno import EPERM

from attnbench.evaluation.isolation.linux import libc, no_new_privileges

# Numbers of system calls on x86_64 and aarch64, from the kernel's tables.
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
# Only with this as their first argument: a socket of AF_UNIX; this process, not another.
_ALLOWED_FOR = {
    "prlimit64": ((302, 261), 0),
    "sched_setaffinity": ((203, 122), 0),
    "socket": ((41, 198), 1),
}
# They succeed and do nothing. (The older ones are not there on aarch64.)
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
# FS_IOC_SETFLAGS, its 32-bit form, FS_IOC_SETVERSION, FS_IOC_FSSETXATTR: more attributes of files.
_IGNORED_IOCTLS = (0x40086602, 0x40046602, 0x40087602, 0x401C5820)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
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
    """Put the filter over this process and its children, for good. False where there is none."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    code = b"".join(struct.pack("=HBBI", *each) for each in program(platform.machine()))
    buffer = ctypes.create_string_buffer(code, len(code))
    compiled = _Program(len(code) // 8, ctypes.addressof(buffer))
    no_new_privileges()
    return not libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(compiled), 0, 0)


def program(machine: str) -> Sequence[Instruction]:
    """The filter for `x86_64` or `aarch64`, as (operation, jump if true, jump if false, value)."""
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
    for either, allowed in _ALLOWED_FOR.values():
        code += [
            (_EQUAL, 0, 4, either[column]),
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
