"""Listing folders safely: hidden files are ignored, and symlinks that lead out are refused."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.stimuli.stores import writable

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
# Pictures that are not read. They are counted, so that nobody misses them unawares.
_OTHER_PICTURE_SUFFIXES = {
    ".gif",
    ".heic",
    ".heif",
    ".avif",
    ".jp2",
    ".jxl",
    ".dng",
    ".svg",
    ".psd",
}
# Left behind by operating systems and archives. Names that begin with a dot are ignored too.
_CLUTTER = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN")


@dataclass(frozen=True)
class Listing:
    """What a folder contains, sorted by name.

    Attributes:
        path: the folder.
        folders: the names of its folders.
        files: the names of its files.
    """

    path: Path
    folders: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def pictures(self) -> list[str]:
        """The names of the picture files."""
        return [name for name in self.files if name.lower().endswith(PICTURE_SUFFIXES)]

    def with_suffix(self, suffix: str) -> list[Path]:
        """Return the files whose names end in a suffix."""
        return [self.path / name for name in self.files if name.lower().endswith(suffix)]

    def inside(self, name: str, root: Path) -> Listing:
        """Return the listing of one of its folders; `root` as for `list_folder`."""
        return list_folder(self.path / name, root)


def list_folder(folder: Path, root: Path) -> Listing:
    """List a folder.

    Args:
        folder: the folder.
        root: the data set's folder, which no symlink may lead out of. Workers cannot see the data
            set's folder, so that they cannot look up labels; they could see what lies elsewhere.

    Raises:
        AttnbenchError: if the folder cannot be listed, or has a symlink that is refused.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise AttnbenchError(f"cannot list {folder}: {error.strerror}") from None
    folders, files = [], []
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _CLUTTER:
            continue
        if entry.is_symlink():
            _check_symlink(Path(entry.path), root)
        if entry.is_dir():
            folders.append(entry.name)
        elif entry.is_file():
            files.append(entry.name)
    return Listing(folder, tuple(folders), tuple(files))


def _check_symlink(link: Path, root: Path) -> None:
    """Refuse a symlink that is broken, leads out of the data, or leads to a folder.

    A symlink to a folder inside the data would show its pictures twice, or for ever.
    """
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        raise AttnbenchError(
            f"the symlink {writable(str(link))} leads nowhere; remove it"
        ) from None
    if not target.is_relative_to(root.resolve()):
        raise AttnbenchError(
            f"the symlink {writable(str(link))} leads out of {root}, to {writable(str(target))}; "
            "replace it with a copy, or name the folder it leads to"
        )
    if target.is_dir():
        raise AttnbenchError(
            f"{writable(str(link))} is a symlink to a folder of the same data; remove it"
        )


def walk(folder: Path, root: Path, other: Counter[str], prefix: str = "") -> Iterator[str]:
    """Yield the picture files in a folder and below it, as paths relative to it.

    Args:
        folder: the folder.
        root: as for `list_folder`.
        other: counts the pictures that cannot be read, by suffix.
        prefix: what the paths begin with.
    """
    listing = list_folder(folder, root)
    yield from (prefix + name for name in listing.pictures)
    other.update(
        suffix
        for name in listing.files
        if (suffix := os.path.splitext(name)[1].lower()) in _OTHER_PICTURE_SUFFIXES
    )
    for name in listing.folders:
        yield from walk(folder / name, root, other, f"{prefix}{name}/")
