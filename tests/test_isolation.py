"""What a worker is confined to, where the kernel and the machine allow it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.wire.shared_images import mapped, places, shared, watched
from attnbench.isolation import landlock, seccomp, visible_paths
from attnbench.isolation.scratch import Scratch, remove

needs_landlock = pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")


def in_a_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked process; the number of the OSError it ended with, 0 if none."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            action()
            code = 0
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_landlock
def test_landlock_allows_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    for name in ("open", "own", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    def attempt(action: Callable[[], object]) -> int:
        def confined() -> None:
            ruleset = landlock.prepare([tmp_path / "open"], [tmp_path / "own"], listable=[tmp_path])
            assert ruleset is not None
            landlock.enforce(ruleset)
            action()

        return in_a_child(confined)

    assert attempt(lambda: (tmp_path / "open" / "file").read_text()) == 0
    assert attempt(lambda: (tmp_path / "own" / "new").write_text("x")) == 0
    assert attempt(lambda: os.listdir(tmp_path)) == 0
    assert attempt(lambda: (tmp_path / "open" / "new").write_text("x")) == 13
    assert attempt(lambda: (tmp_path / "secret" / "file").read_text()) == 13
    assert attempt(lambda: (tmp_path / "secret" / "file").unlink()) == 13


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or sys.platform != "linux",
    reason="no system calls known for this machine",
)
def test_the_filter_refuses_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    import resource
    import socket

    def attempt(action: Callable[[], object]) -> int:
        def confined() -> None:
            assert seccomp.restrict()
            action()

        return in_a_child(confined)

    assert attempt(lambda: socket.socketpair()) == 0
    assert attempt(lambda: socket.socket(socket.AF_UNIX)) == 0
    assert attempt(lambda: socket.socket(socket.AF_INET)) == 1
    assert attempt(lambda: resource.prlimit(0, resource.RLIMIT_NOFILE)) == 0
    assert attempt(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)) == 1
    everywhere = os.sched_getaffinity(0)
    assert attempt(lambda: os.sched_setaffinity(0, everywhere)) == 0
    assert attempt(lambda: os.sched_setaffinity(os.getpid(), everywhere)) == 1
    assert attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, 1)) == 1

    # What would be a note on a file is taken for done, and is not.
    path = tmp_path / "file"
    path.write_text("x")
    before = path.stat()
    assert attempt(lambda: os.utime(path, (1, 1))) == 0
    assert attempt(lambda: path.chmod(0o777)) == 0
    assert attempt(lambda: os.setxattr(path, "user.note", b"x")) == 0
    assert (path.stat(), os.listxattr(path)) == (before, [])
    assert attempt(lambda: shutil.copy2(path, tmp_path / "copy")) == 0
    assert (tmp_path / "copy").read_text() == "x"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_a_program_that_ends(machine: str) -> None:
    """Jumps are forward and stay inside, and the last instruction is a return: as the kernel asks."""
    code = seccomp.program(machine)
    for position, (_, if_true, if_false, _) in enumerate(code):
        assert position + 1 + max(if_true, if_false) < len(code) or code[position][0] == 0x06
    assert code[-1][0] == 0x06


def test_data_among_programs_is_cut_out(tmp_path: Path) -> None:
    for path in ("lib/a", "lib/b/data", "lib/b/code", "other"):
        (tmp_path / path).mkdir(parents=True)
    hidden = [(tmp_path / "lib/b/data").resolve()]
    whole, split = visible_paths.whole_and_split([tmp_path / "lib", tmp_path / "other"], hidden)
    assert set(whole) == {tmp_path / p for p in ("lib/a", "lib/b/code", "other")}
    assert set(split) == {tmp_path / "lib", tmp_path / "lib/b"}


def test_a_clone_is_in_reach_by_its_packages_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "records").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    folders = visible_paths.program_folders()
    assert tmp_path / "package" in folders
    assert not any(path in folders for path in (tmp_path, tmp_path / "records"))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 40)), min_size=1, max_size=3))
def test_images_handed_over_are_the_same_and_a_copy(shapes: list[tuple[int, int]]) -> None:
    import numpy as np

    sides = [np.random.default_rng(0).random((*shape, 3), dtype=np.float32) for shape in shapes]
    with shared(sides) as descriptor:
        for _ in range(2):  # what one reader does to its images does not reach the next
            found = mapped(os.dup(descriptor), [side.shape for side in sides])
            for one, other in zip(sides, found, strict=True):
                np.testing.assert_array_equal(one, other)
                other[...] = -1


def test_places_are_seen_as_they_are_filled_and_their_file_cannot_be_cut_short() -> None:
    import numpy as np

    shapes = [(2, 3, 5, 5), (4, 3, 5, 5)]
    with places(shapes) as (descriptor, filled):
        seen = watched(os.dup(descriptor), shapes)
        for value in (1.0, 2.0):  # over and over
            for place in filled:
                place[...] = value
            assert all(np.all(each == value) for each in seen)
        seen[0][...] = -1  # a detector that works in place
        filled[0][...] = 3.0
        assert np.all(seen[0] == 3.0) and np.all(seen[1] == 2.0)
        for size in (0, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)


def test_what_a_killed_process_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if (pid := os.fork()) == 0:
        Scratch().new_folder().joinpath("file").write_text("left")
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with Scratch() as first, Scratch() as second:  # neither takes the other's for left behind
        assert {path.name for path in tmp_path.iterdir()} == {first.folder.name, second.folder.name}
    assert not list(tmp_path.iterdir())


def test_removing_follows_no_link_and_minds_no_permission(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    folder = tmp_path / "folder"
    (folder / "shut" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to(kept)
    (folder / "shut").chmod(0)
    remove(folder)
    assert not folder.exists() and kept.exists()
