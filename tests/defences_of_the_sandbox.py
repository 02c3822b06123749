"""The defences in the fork server and its workers, and the exploits that each of them stops.

Without the defence, the exploits work: `test_defences.py` checks that.
"""

from __future__ import annotations

from tests import weakened_judge
from tests import weakened_sandbox as weakened
from tests.defence import Defence

_PROCESSES = (
    Defence(
        "each request is served by a new process",
        stops=("labels/adaptation_images", "state/backbone", "state/globals", "state/work"),
        sandbox=(weakened.serve_in_threads,),
        reopen=True,
    ),
    Defence(
        "the fork server imports no module that is hidden from workers",
        stops=("labels/shared_import",),
        sandbox=(weakened.share_hidden_modules,),
    ),
    Defence(
        "detectors reach the predicting process as bytes only",
        stops=("clock/thread", "parameters/tensor_attribute"),
        sandbox=(weakened.serve_in_threads, weakened.hand_over_the_object),
    ),
    Defence(
        "each worker has a new folder with a new copy of the submission",
        stops=("parameters/file", "state/own_source"),
        sandbox=(weakened.same_folder_for_all,),
    ),
    Defence(
        "each worker prints into a file of its own",
        stops=("state/printed",),
        sandbox=(weakened.same_output_for_all,),
    ),
    Defence(
        "a worker's folder is removed whatever its permissions and depth",
        stops=("faults/stubborn_folder",),
        sandbox=(weakened.remove_gently,),
        shows="^left behind: 1 folders of workers",
    ),
    Defence(
        "workers are killed, with everything they have started",
        stops=(
            "channel/prints_forever",
            "faults/children",
            "faults/generations",
            "faults/stops_itself",
            "faults/threads",
        ),
        sandbox=(weakened.kill_nothing,),
        shows=r"^left behind: \d+ processes",
        reopen=True,
    ),
    Defence(
        "workers are killed with everything they have started, and Landlock isolates survivors",
        stops=("clock/child", "state/daemon"),
        sandbox=(weakened.kill_nothing, weakened.no_landlock),
        reopen=True,
    ),
    Defence(
        "the submission is imported anew after the rehearsal",
        stops=("clock/remembers_the_rehearsal",),
        sandbox=(weakened.keep_modules_of_the_rehearsal,),
    ),
    Defence(
        "the judge times the adaptation, not the worker",
        stops=("clock/patched_timers", "clock/saving"),
        sandbox=(weakened.time_in_the_worker,),
        judge=weakened_judge.trust_the_time_of_the_worker,
    ),
    Defence(
        "what the detector's classes and functions hold is packed too",
        stops=(
            "parameters/cannot_be_saved",
            "parameters/class_attribute",
            "parameters/closure",
            "parameters/default_argument",
            "parameters/descriptor",
            "parameters/module_global",
        ),
        sandbox=(weakened.no_reachable_state,),
    ),
    Defence(
        "descriptions of exceptions are bounded, and do not depend on the exception's own code",
        stops=("faults/escape_sequences", "faults/unreadable_exception"),
        sandbox=(weakened.naive_failures,),
        shows="^it was refused for another reason: the (worker sent a header|process ended)",
    ),
)

_CONFINEMENT = (
    Defence(
        "Landlock hides files and other processes",
        stops=(
            "channel/pickled_code",
            "labels/files",
            "labels/other_commands",
            "state/files",
            "state/installed_code",
        ),
        sandbox=(weakened.no_landlock,),
    ),
    Defence(
        "Landlock allows signals only to a worker's own processes",
        stops=("clock/stops_the_fork_server",),
        sandbox=(weakened.no_landlock,),
        shows="^the judge raised AttnbenchError: .* has ended or hangs",
    ),
    Defence(
        "seccomp denies sockets, kernel objects and changes to file metadata",
        stops=(
            "labels/datagram",
            "state/file_metadata",
            "state/keyring",
            "state/message_queue",
            "state/shared_memory",
        ),
        sandbox=(weakened.no_seccomp,),
    ),
    Defence(
        "both seccomp and Landlock deny TCP connections",
        stops=("labels/network",),
        sandbox=(weakened.no_seccomp, weakened.no_landlock),
    ),
    Defence(
        "seccomp and, for root, dropped capabilities protect the fork server's scheduling",
        stops=("state/scheduling",),
        sandbox=(weakened.no_seccomp, weakened.keep_capabilities),
    ),
    Defence(
        "Landlock, seccomp and, for root, dropped capabilities protect other processes' memory",
        stops=("labels/memory",),
        sandbox=(weakened.no_landlock, weakened.no_seccomp, weakened.keep_capabilities),
    ),
    Defence(
        "all descriptors but the channel are closed",
        stops=("labels/descriptors",),
        sandbox=(weakened.keep_descriptors,),
    ),
    Defence(
        "the channel is none of the standard streams",
        stops=("channel/closes_streams", "channel/prints"),
        sandbox=(weakened.channel_on_standard_output,),
        shows="^it failed: the (process closed its channel|process ended|worker sent a header)",
    ),
    Defence(
        "the size of files is limited",
        stops=("faults/large_file",),
        sandbox=(weakened.no_file_size_limit,),
    ),
    Defence(
        "memory is limited",
        stops=("faults/memory",),
        sandbox=(weakened.no_memory_limit,),
    ),
)

SANDBOX_DEFENCES = (*_PROCESSES, *_CONFINEMENT)
