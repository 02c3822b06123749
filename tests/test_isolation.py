"""The confinement of workers: Landlock, seccomp, visible paths, shared images, scratch folders."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attnbench
from attnbench.isolation import landlock, seccomp, visible_paths
from attnbench.isolation.scratch import Scratch, remove, remove_abandoned
from attnbench.wire.shared_images import buffers, map_private, map_shared, published

needs_landlock = pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")


def errno_in_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked process. Return the errno of the OSError it raised, or 0."""
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
def test_landlock_allows_the_named_paths_and_nothing_else(tmp_path: Path) -> None:
    for name in ("open", "own", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    def attempt(action: Callable[[], object]) -> int:
        def confined() -> None:
            ruleset = landlock.prepare([tmp_path / "open"], [tmp_path / "own"], listable=[tmp_path])
            assert ruleset is not None
            landlock.enforce(ruleset)
            action()

        return errno_in_child(confined)

    assert attempt(lambda: (tmp_path / "open" / "file").read_text()) == 0
    assert attempt(lambda: (tmp_path / "own" / "new").write_text("x")) == 0
    assert attempt(lambda: os.listdir(tmp_path)) == 0
    assert attempt(lambda: (tmp_path / "open" / "new").write_text("x")) == 13
    assert attempt(lambda: (tmp_path / "secret" / "file").read_text()) == 13
    assert attempt(lambda: (tmp_path / "secret" / "file").unlink()) == 13


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or sys.platform != "linux",
    reason="the system call numbers of this machine are not known",
)
def test_seccomp_filter_denies_the_named_calls_and_nothing_else(tmp_path: Path) -> None:
    import resource
    import socket

    def attempt(action: Callable[[], object]) -> int:
        def confined() -> None:
            assert seccomp.restrict()
            action()

        return errno_in_child(confined)

    assert attempt(lambda: socket.socketpair()) == 0
    assert attempt(lambda: socket.socket(socket.AF_UNIX)) == 0
    assert attempt(lambda: socket.socket(socket.AF_INET)) == 1
    assert attempt(lambda: resource.prlimit(0, resource.RLIMIT_NOFILE)) == 0
    assert attempt(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)) == 1
    cores = os.sched_getaffinity(0)
    assert attempt(lambda: os.sched_setaffinity(0, cores)) == 0
    assert attempt(lambda: os.sched_setaffinity(os.getpid(), cores)) == 1
    assert attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, 1)) == 1

    # Calls that could leave a note on a file succeed and do nothing.
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
def test_seccomp_filter_is_a_valid_program(machine: str) -> None:
    """The kernel requires jumps to stay inside the program, and a return at its end."""
    code = seccomp.filter_program(machine)
    for position, (_, if_true, if_false, _) in enumerate(code):
        assert position + 1 + max(if_true, if_false) < len(code) or code[position][0] == 0x06
    assert code[-1][0] == 0x06


def test_hidden_folders_are_cut_out_of_visible_ones(tmp_path: Path) -> None:
    for path in ("lib/a", "lib/b/data", "lib/b/code", "other"):
        (tmp_path / path).mkdir(parents=True)
    hidden = [(tmp_path / "lib/b/data").resolve()]
    whole, split = visible_paths.whole_and_split([tmp_path / "lib", tmp_path / "other"], hidden)
    assert set(whole) == {tmp_path / path for path in ("lib/a", "lib/b/code", "other")}
    assert set(split) == {tmp_path / "lib", tmp_path / "lib/b"}


def test_only_the_packages_of_a_clone_are_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "records").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    folders = visible_paths.program_folders()
    assert tmp_path / "package" in folders
    assert not any(path in folders for path in (tmp_path, tmp_path / "records"))


def test_trusted_packages_and_data_are_hidden(tmp_path: Path) -> None:
    package = Path(attnbench.__file__).parent.resolve()
    hidden = visible_paths.hidden_folders([tmp_path, tmp_path / "not-there"])
    trusted = ("cli", "commands", "engines", "judge", "leaderboard", "records", "runs", "stimuli")
    assert {package / name for name in trusted} < set(hidden)
    assert package / "backbones" / "weights" in hidden
    assert tmp_path.resolve() in hidden and tmp_path / "not-there" not in hidden
    assert all(path.exists() for path in hidden)
    # A new package must be added either to the hidden ones or here.
    visible = {"adaptation", "backbones", "isolation", "sandbox", "statistics", "wire"}
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    assert packages == {*trusted, *visible}


@pytest.mark.parametrize("name", ["attnbench.no_such_package", "attnbench.errors"])
def test_trusted_package_that_is_missing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A renamed package must not become visible: that needs a change of HIDDEN_PACKAGES."""
    packages = (*visible_paths.HIDDEN_PACKAGES, name)
    monkeypatch.setattr(visible_paths, "HIDDEN_PACKAGES", packages)
    with pytest.raises(RuntimeError, match=f"cannot hide {name} from workers"):
        visible_paths.hidden_folders()


def test_hidden_folder_that_is_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visible_paths, "tasks_folder", lambda: tmp_path / "tasks")
    with pytest.raises(RuntimeError, match=r"cannot hide .*tasks from workers: there is no such"):
        visible_paths.hidden_folders()


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 40)), min_size=1, max_size=3))
def test_published_images_arrive_unchanged_as_private_copies(shapes: list[tuple[int, int]]) -> None:
    sent = [np.random.default_rng(0).random((*shape, 3), dtype=np.float32) for shape in shapes]
    with published(sent) as descriptor:
        for _ in range(2):  # a reader that overwrites its images does not affect the next reader
            received = map_private(os.dup(descriptor), [images.shape for images in sent])
            for expected, images in zip(sent, received, strict=True):
                np.testing.assert_array_equal(expected, images)
                images[...] = -1


def test_buffers_are_shared_and_cannot_be_resized() -> None:
    shapes = [(2, 3, 5, 5), (4, 3, 5, 5)]
    with buffers(shapes) as (descriptor, written):
        seen = map_shared(os.dup(descriptor), shapes)
        for value in (1.0, 2.0):  # they are filled again and again
            for buffer in written:
                buffer[...] = value
            assert all(np.all(images == value) for images in seen)
        seen[0][...] = -1  # a detector that works in place
        written[0][...] = 3.0
        assert np.all(seen[0] == 3.0) and np.all(seen[1] == 2.0)
        for size in (0, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that this process uses for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def start_owner(temporary_folder: Path) -> subprocess.Popen[str]:
    """Start a process that owns a scratch folder with a file in it until it is ended."""
    code = (
        "import time\n"
        "from attnbench.isolation.scratch import Scratch\n"
        "with Scratch() as scratch:\n"
        "    scratch.new_folder().joinpath('file').write_text('left')\n"
        "    print(scratch.folder.name, flush=True)\n"
        "    time.sleep(600)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(temporary_folder)},
        stdout=subprocess.PIPE,
        text=True,
    )


def folders_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def test_scratch_folder_of_a_killed_process_is_removed(temporary_folder: Path) -> None:
    owner = start_owner(temporary_folder)
    assert owner.stdout is not None
    name = owner.stdout.readline().strip()
    remove_abandoned()
    assert folders_in(temporary_folder) == {name}  # its owner is alive
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert folders_in(temporary_folder) == {name}
    with Scratch() as first, Scratch() as second:  # neither removes the folder of the other
        assert folders_in(temporary_folder) == {first.folder.name, second.folder.name}
    assert not list(temporary_folder.iterdir())


def test_removal_that_was_interrupted_is_completed_by_the_next_process(
    temporary_folder: Path,
) -> None:
    owner = start_owner(temporary_folder)
    assert owner.stdout is not None
    name = owner.stdout.readline().strip()
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    # The contents go first, then the folder. A process may be killed after either step.
    for path in temporary_folder.joinpath(name).iterdir():
        remove(path)
    remove_abandoned()
    assert not list(temporary_folder.iterdir())


def test_other_folders_of_a_similar_name_are_kept(temporary_folder: Path) -> None:
    (temporary_folder / "attnbench-notes").mkdir()
    remove_abandoned()
    assert folders_in(temporary_folder) == {"attnbench-notes"}


def test_fork_of_the_owner_does_not_release_a_scratch_folder(temporary_folder: Path) -> None:
    with Scratch() as scratch:
        assert errno_in_child(scratch.new_folder) == 0
        check = "from attnbench.isolation.scratch import remove_abandoned; remove_abandoned()"
        environment = os.environ | {"TMPDIR": str(temporary_folder)}
        subprocess.run([sys.executable, "-c", check], env=environment, check=True)
        assert scratch.folder.is_dir()


def test_removal_follows_no_links_and_overrides_permissions(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    folder = tmp_path / "folder"
    (folder / "shut" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to(kept)
    (folder / "shut").chmod(0)
    remove(folder)
    assert not folder.exists() and kept.exists()
