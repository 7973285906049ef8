"""Refuse system calls that measuring a submission does not need, by a filter that cannot be removed.

The rest of the sandbox lists allowed access; this lists refused calls: programs, other processes, sockets, and file
operations that Landlock does not check. https://docs.kernel.org/userspace-api/seccomp_filter.html

Ways to signal another process, besides kill and its relatives, and where they end:
- the owner of a descriptor gets SIGIO or another signal (F_SETOWN, F_SETSIG, O_ASYNC, leases, F_NOTIFY): COMMANDS
- the owner of a socket or terminal, likewise, and keys typed into a terminal: ioctl allows HARMLESS_IOCTLS alone
- a process descriptor (pidfd_open, CLONE_PIDFD, /proc/PID): no call that takes one is allowed
- a message queue (mq_notify), and shared memory or semaphores that are removed: the calls of both families are refused
- timer_create with SIGEV_THREAD_ID: the kernel accepts threads of the caller's own process only, so it is allowed
- the scheduler's cookie (PR_SCHED_CORE), and a parent that ends without taking its child along (PR_SET_PDEATHSIG)
"""

import ctypes
import os
import platform
import struct
from typing import Any

# call: number on x86_64, number on aarch64 (None: it does not exist)
REFUSED = {
    # other programs, other processes
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "setrlimit": (160, 164),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # sockets; io_uring could open them without passing this filter
    "socket": (41, 198),
    "socketpair": (53, 199),
    "io_uring_setup": (425, 425),
    # not checked by Landlock: mode, owner, times, attributes of files
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    # memory shared with other processes or hidden
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "memfd_create": (319, 279),  # memory that no limit counts
    "memfd_secret": (447, 447),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184),
    "mq_getsetattr": (245, 185),
    # rarely used interfaces of the kernel
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
ONLY_SELF = {"kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261)}  # allowed only on the process itself
# refused commands of fcntl, by its second argument; these numbers are the same on both machines
COMMANDS = {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15, "F_SETLEASE": 1024, "F_NOTIFY": 1026}
TERMINAL = {"TCGETS": 0x5401, "TCGETS2": 0x802C542A, "TIOCGWINSZ": 0x5413}  # is it one, and how wide
HARMLESS_IOCTLS = TERMINAL | {"FIONREAD": 0x541B, "FIONBIO": 0x5421, "FIONCLEX": 0x5450, "FIOCLEX": 0x5451}
OPTIONS = {"PR_SET_PDEATHSIG": 1, "PR_SCHED_CORE": 62}  # refused, prctl's first argument
FCNTL, IOCTL, PRCTL = (72, 25), (16, 29), (157, 167)
F_SETFL, O_ASYNC = 4, 0x2000
CLONE, CLONE3 = (56, 220), 435
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # (column above, the kernel's number)
LOAD, EQUAL, AT_LEAST, SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of the filter
ALLOW, END, REFUSE, UNKNOWN = 0x7FFF0000, 0x80000000, 0x50000 | 1, 0x50000 | 38  # EPERM, ENOSYS
CLONE_THREAD, PR_SET_SECCOMP = 0x10000, 22


Steps = list[tuple[int, int, int, int]]  # (instruction, steps to skip if it holds, if not, value)


def by_argument(number: int, position: int, steps: Steps) -> Steps:
    """For this call: load the argument at `position` (its lower half, as the kernel reads an int), then `steps`."""
    return [(EQUAL, 0, 1 + len(steps), number), (LOAD, 0, 0, 16 + 8 * position), *steps]


def refuse_commands(column: int) -> Steps:
    """Steps for calls of which only some commands are refused."""
    refused = [step for value in COMMANDS.values() for step in ((EQUAL, 0, 1, value), (RETURN, 0, 0, REFUSE))]
    # terminals send the signals of O_ASYNC to the program in the foreground
    flags = [(EQUAL, 0, 3, F_SETFL), (LOAD, 0, 0, 32), (SET, 0, 1, O_ASYNC), (RETURN, 0, 0, REFUSE)]
    steps = by_argument(FCNTL[column], 1, [*refused, *flags, (RETURN, 0, 0, ALLOW)])
    allowed = [step for value in HARMLESS_IOCTLS.values() for step in ((EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW))]
    steps += by_argument(IOCTL[column], 1, [*allowed, (RETURN, 0, 0, REFUSE)])
    refused = [step for value in OPTIONS.values() for step in ((EQUAL, 0, 1, value), (RETURN, 0, 0, REFUSE))]
    return steps + by_argument(PRCTL[column], 0, [*refused, (RETURN, 0, 0, ALLOW)])


def refuse_calls(libc: Any) -> list[str]:
    """Install a seccomp filter: no programs, no sockets, no access to other processes. Threads are allowed."""
    column, machine = MACHINES.get(platform.machine(), (0, 0))
    if not machine:
        return []
    steps: Steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, machine), (RETURN, 0, 0, END), (LOAD, 0, 0, 0)]
    steps += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, REFUSE)]  # x86-64's second table of calls (x32)
    for numbers in REFUSED.values():
        if (number := numbers[column]) is not None:
            steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    # the filter cannot read clone3's flags: the caller falls back on clone
    steps += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, UNKNOWN)]
    steps += by_argument(CLONE[column], 0, [(SET, 1, 0, CLONE_THREAD), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)])
    for numbers in ONLY_SELF.values():
        own = [(EQUAL, 2, 0, os.getpid()), (EQUAL, 1, 0, 0), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
        steps += by_argument(numbers[column], 0, own)
    steps += refuse_commands(column)
    steps.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code)))
    installed = libc.prctl(PR_SET_SECCOMP, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) == 0
    return ["no network", "no calls to others"] if installed else []
