"""`attnbench leaderboard`: build the leaderboard from records, as a page, a site, plots and tables.

The page is made from published records. Site, plots and tables can show one's own records beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.files import write_file
from attnbench.leaderboard.entries import Entry, read_entries
from attnbench.leaderboard.markdown import markdown_of
from attnbench.leaderboard.order import order_correlations
from attnbench.leaderboard.people_settings import PeopleOfSettings, people_of_settings
from attnbench.leaderboard.staleness import count_stale
from attnbench.leaderboard.standings import Standings, standings_of
from attnbench.vocabulary import PUBLISHED_FOLDER


@dataclass(frozen=True)
class Leaderboard:
    """A leaderboard, computed from records.

    Attributes:
        entries: the records that could be read.
        problems: why other records could not be read.
        boards: the standings of each track, and kind of targets.
        people: people beside the methods, where there are trials; see `people_of_settings`.
        page: the contents of `leaderboard.md`, a deterministic function of the published records.
        listed: the number of records that the page is made from.
    """

    entries: list[Entry]
    problems: list[str]
    boards: Sequence[Standings]
    people: PeopleOfSettings
    page: bytes
    listed: int

    def write_page(self, path: Path) -> None:
        """Write the page. Raises AttnbenchError if it cannot be written."""
        try:
            write_file(path, self.page)
        except OSError as error:
            raise AttnbenchError(f"{path} cannot be written: {error.strerror}") from None

    def is_up_to_date(self, path: Path) -> bool:
        """Return whether a file exists and has the same bytes as the page."""
        return path.is_file() and path.read_bytes() == self.page

    def write_site(self, folder: Path) -> int:
        """Build the static site in a folder. Return the number of files."""
        from attnbench.leaderboard.site.builder import write_site

        return write_site(folder, self.entries, self.boards, self.people)

    def write_plots(self, folder: Path) -> int:
        """Write all plots as SVG and PNG. Return the number of files."""
        from attnbench.leaderboard.exports import write_files
        from attnbench.leaderboard.plot_files import plot_files

        return write_files(folder, plot_files(self.entries, self.boards))

    def write_tables(self, folder: Path) -> int:
        """Write all results as CSV and Parquet. Return the number of files."""
        from attnbench.leaderboard.exports import export_files, write_files

        return write_files(folder, export_files(self.entries, self.boards))


def build_leaderboard(folders: Sequence[Path], data: Path | None = None) -> Leaderboard:
    """Compute the leaderboard of some folders of records.

    Args:
        folders: the folders, all of which exist. If one is named `published`, the page is made
            from its records only, else from all. Of records with the same identity, that of the
            first folder is used.
        data: a data folder with people's trials, which the site shows. They are not needed for the
            page.
    """
    entries, problems = read_entries(folders)
    boards = _standings(entries)
    listed, listed_boards = entries, boards
    if any(folder.name == PUBLISHED_FOLDER for folder in folders):
        listed = [entry for entry in entries if not entry.is_own]
        listed_boards = boards if len(listed) == len(entries) else _standings(listed)
    records = [entry.record for entry in listed]
    newest = max((record.created for record in records), default="")
    page = markdown_of(listed_boards, newest, stale=count_stale(records)).encode()
    people = people_of_settings(entries, data) if data is not None else {}
    return Leaderboard(entries, problems, boards, people, page, len(listed))


def _standings(entries: Sequence[Entry]) -> list[Standings]:
    badges = {entry.record.identity: entry.badge for entry in entries}
    records = [entry.record for entry in entries]
    return standings_of(records, badges, order_correlations(entries))
