"""A submission on disk: its manifest, its files and their hash.

The submission's code is imported in workers only, never here or elsewhere in the trusted process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.libraries import imported_modules, modules_of, require_library
from attnbench.manifest import Hyperparameters, Manifest, read_manifest
from attnbench.overrides import Overrides
from attnbench.plugins import entry_point_folders
from attnbench.resources import submissions_folder
from attnbench.text import did_you_mean

MANIFEST = "submission.toml"
SOURCE = "submission.py"
SIZE_LIMIT = 10 * 2**20
FILES_LIMIT = 1000


@dataclass(frozen=True)
class Submission:
    """A submission as it was read from disk. Exactly these files are hashed and run.

    Attributes:
        folder: where it was read from.
        manifest: the contents of `submission.toml`.
        files: the contents of all its files, by their path in the folder.
        sha256: hash of these paths and contents, and of the overrides.
        overrides: the hyperparameters that replaced those of `submission.toml`, or None. `manifest`
            already contains them.
    """

    folder: Path
    manifest: Manifest
    files: Mapping[str, bytes] = field(repr=False)
    sha256: str
    overrides: Overrides | None = None

    @property
    def program(self) -> dict[str, bytes]:
        """Its Python files, the only files of the submission that exist during prediction."""
        return {path: content for path, content in self.files.items() if path.endswith(".py")}

    @property
    def name(self) -> str:
        """The name on the leaderboard."""
        return self.manifest.name

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of attnbench and of its libraries that its files import.

        The fork server imports them once, for all workers.
        """
        sources = self.program.values()
        named = [
            name for library in self.manifest.libraries for name in modules_of(library, sources)
        ]
        return (*imported_modules("attnbench", sources), *named)

    def hyperparameters_for(self, backbone: str) -> Hyperparameters:
        """Return the keyword arguments for `adapt` on a backbone.

        Args:
            backbone: the backbone's name. Its own settings override the general ones.
        """
        own = self.manifest.backbone.get(backbone)
        return self.manifest.hyperparameters | (own.hyperparameters if own else {})

    def declared_for(self, backbone: str) -> int | None:
        """Return the number of parameters that the manifest declares for a backbone, or None.

        Args:
            backbone: the backbone's name. Its own settings override the general ones.
        """
        own = self.manifest.backbone.get(backbone)
        if own is not None and own.declared_parameters is not None:
            return own.declared_parameters
        return self.manifest.declared_parameters


def load_submission(path_or_name: str | Path) -> Submission:
    """Read the submission in a folder, or the shipped or packaged one of that name.

    Args:
        path_or_name: the folder, or the name.

    Raises:
        AttnbenchError: if there is none, or its manifest or files are not valid.
    """
    folder = _find(path_or_name)
    for name in (MANIFEST, SOURCE):
        if not (folder / name).is_file():
            raise AttnbenchError(
                f"{folder} has no {name}: a submission is a folder with {MANIFEST} and {SOURCE}. "
                "`attnbench new NAME` creates one to start from."
            )
    files = _read_files(folder)
    manifest = read_manifest(folder / MANIFEST, files[MANIFEST])
    for library in manifest.libraries:
        try:
            require_library(library)
        except AttnbenchError as error:
            raise AttnbenchError(f"{folder / MANIFEST}: libraries: {error}") from None
    return Submission(folder, manifest, files, _hash(files))


def shipped_submissions() -> list[str]:
    """Return the names of the submissions that attnbench ships, sorted."""
    return sorted(path.parent.name for path in submissions_folder().glob(f"*/{MANIFEST}"))


def _find(path_or_name: str | Path) -> Path:
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.exists():
        raise AttnbenchError(
            f"{path} is a file; name the submission's folder instead: {path.parent}"
        )
    text = str(path_or_name)
    shipped_folder = submissions_folder()
    # `attention`; and `submissions/attention`, as in the documentation, when there is no clone.
    name = path.name if text in (path.name, f"submissions/{path.name}") else ""
    if name and (shipped_folder / name / MANIFEST).is_file():
        return (shipped_folder / name).resolve()
    packaged = entry_point_folders("attnbench.submissions")
    if text in packaged:
        return packaged[text].resolve()
    known = [*shipped_submissions(), *packaged]
    raise AttnbenchError(
        f"no submission {text!r}{did_you_mean(name or text, known, ': ')} (there is no such folder, "
        f"and attnbench and the installed packages have only: {', '.join(known) or 'none'})"
    )


def _read_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of a folder's files, by relative path, sorted."""
    files: dict[str, bytes] = {}
    total = 0
    for path in sorted(_files(folder), key=lambda path: path.as_posix()):
        try:
            path.as_posix().encode()
            total += (folder / path).stat().st_size
            if total > SIZE_LIMIT or len(files) >= FILES_LIMIT:
                raise AttnbenchError(
                    f"{folder} holds more than {SIZE_LIMIT // 2**20} MiB or {FILES_LIMIT:,} files: "
                    "a submission is source code; keep data, results and environments elsewhere"
                )
            files[path.as_posix()] = (folder / path).read_bytes()
        except UnicodeEncodeError:
            raise AttnbenchError(
                f"{folder} has a file whose name is not UTF-8, {path.as_posix()!a}: rename it"
            ) from None
        except OSError as error:
            raise AttnbenchError(f"{folder / path} cannot be read: {error.strerror}") from None
    return files


def _hash(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 (hex) of paths and contents."""
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise AttnbenchError(f"{error.filename} cannot be read: {error.strerror}") from None


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [f for f in folders if f != "__pycache__" and not f.startswith(".")]
        for name in [*folders, *files]:
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(folder):
                raise AttnbenchError(
                    f"{path} is a link out of the submission: copy the file into it"
                )
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder)
