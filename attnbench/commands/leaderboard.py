"""`attnbench leaderboard`: build the leaderboard from records, as a page, a site, plots and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.entries import Entry, read_entries, require_folder
from attnbench.leaderboard.markdown import markdown_of
from attnbench.leaderboard.staleness import count_stale
from attnbench.leaderboard.standings import Standings, standings_by_track


@dataclass(frozen=True)
class Leaderboard:
    """A leaderboard, computed from the records of a folder.

    Attributes:
        entries: the records that could be read.
        problems: why other records could not be read.
        tracks: the standings of each track.
        page: the contents of `leaderboard.md`, a deterministic function of the records.
    """

    entries: list[Entry]
    problems: list[str]
    tracks: Mapping[str, Standings]
    page: bytes

    def write_page(self, path: Path) -> None:
        """Write the page. Raises AttnbenchError if it cannot be written."""
        try:
            path.write_bytes(self.page)
        except OSError as error:
            raise AttnbenchError(f"{path} cannot be written: {error.strerror}") from None

    def is_up_to_date(self, path: Path) -> bool:
        """Return whether a file exists and has the same bytes as the page."""
        return path.is_file() and path.read_bytes() == self.page

    def write_site(self, folder: Path) -> int:
        """Build the static site in a folder. Return the number of files."""
        from attnbench.leaderboard.site.builder import write_site

        return write_site(folder, self.entries, self.tracks)

    def write_plots(self, folder: Path) -> int:
        """Write all plots as SVG and PNG. Return the number of files."""
        from attnbench.leaderboard.exports import write_files
        from attnbench.leaderboard.plot_files import plot_files

        return write_files(folder, plot_files(self.entries, self.tracks))

    def write_tables(self, folder: Path) -> int:
        """Write all results as CSV and Parquet. Return the number of files."""
        from attnbench.leaderboard.exports import export_files, write_files

        return write_files(folder, export_files(self.entries, self.tracks))


def build_leaderboard(records: Path) -> Leaderboard:
    """Compute the leaderboard of a records folder.

    Args:
        records: the folder.

    Raises:
        AttnbenchError: if there is no such folder.
    """
    require_folder(records)
    entries, problems = read_entries(records)
    badges = {entry.record.identity: entry.badge for entry in entries}
    own_records = [entry.record for entry in entries]
    tracks = standings_by_track(own_records, badges)
    newest = max((record.created for record in own_records), default="")
    page = markdown_of(tracks, newest, stale=count_stale(own_records)).encode()
    return Leaderboard(entries, problems, tracks, page)
