"""`attnbench publish --hub`: the published records and their site on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnbench.commands.leaderboard import build_leaderboard
from attnbench.errors import AttnbenchError
from attnbench.records.store import RecordStore
from attnbench.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class HubPages:
    """Where the leaderboard is on the hub.

    Attributes:
        dataset: the address of the records and tables.
        space: the address of the site.
    """

    dataset: str
    space: str


def publish_on_hub(repository: str, published: Path = Path("published")) -> HubPages:
    """Upload the published records as a dataset, and their site as a static Space.

    Both have the same name. They are created if they do not exist, and files that are no longer part
    of them are removed. The dataset has all results as tables, and the records as they are.

    Args:
        repository: `OWNER/NAME` on the hub.
        published: the folder of published records.

    Raises:
        AttnbenchError: if the name is not valid, there are no records, or the hub cannot be reached
            or refuses. The message says what to do.
    """
    from huggingface_hub import HfApi

    check_name(repository)
    if not published.is_dir():
        raise AttnbenchError(f"there is no folder {published}: publish some records first")
    board = build_leaderboard([published])
    if not board.entries:
        raise AttnbenchError(f"{published} has no records: publish some first")
    api = HfApi(library_name="attnbench", library_version=__version__)
    with tempfile.TemporaryDirectory() as folder:
        dataset, space = Path(folder, "dataset"), Path(folder, "space")
        board.write_tables(dataset)
        copies = RecordStore(dataset / "published")
        for entry in board.entries:
            copies.copy(entry.folder / entry.path, entry.record)
        board.write_site(space)
        card = files("attnbench.commands").joinpath("hub_space.md").read_text("utf-8")
        (space / "README.md").write_text(card.replace("@REPOSITORY@", repository), "utf-8")
        return HubPages(
            _upload(api, repository, "dataset", dataset), _upload(api, repository, "space", space)
        )


def check_name(repository: str) -> None:
    """Check the name of a repository. Raises AttnbenchError if it is not `OWNER/NAME`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise AttnbenchError(f"{repository!r} is not the name of a repository") from None
    if "/" not in repository:
        raise AttnbenchError(f"name the owner of the repository too, as in OWNER/{repository}")


def _upload(api: HfApi, repository: str, kind: Literal["dataset", "space"], folder: Path) -> str:
    """Upload a folder to the hub in place of what is there, and return its address."""
    with _explained(f"{kind} {repository}"):
        url = api.create_repo(
            repository,
            repo_type=kind,
            exist_ok=True,
            space_sdk="static" if kind == "space" else None,
        )
        api.upload_folder(
            repo_id=repository,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"Leaderboard of attnbench {__version__}",
            delete_patterns="*",
        )
        return str(url)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what goes wrong with the hub into an AttnbenchError."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise AttnbenchError(f"cannot upload the {what}: HF_HUB_OFFLINE is set") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        remedy = {
            401: "; run `hf auth login` with a token that may write, or set HF_TOKEN",
            403: "; your token may not write there: choose another owner or token",
        }.get(status or 0, "")
        reason = error.server_message or str(error).splitlines()[0]
        raise AttnbenchError(f"the hub refused the {what}: {reason}{remedy}") from None
    except (OSError, ValueError) as error:
        raise AttnbenchError(f"cannot upload the {what}: {error}") from None
    except Exception as error:
        # The HTTP library, which differs between versions of huggingface_hub, has its own errors.
        if not type(error).__module__.startswith(("httpx", "requests")):
            raise
        raise AttnbenchError(f"cannot upload the {what}: the hub cannot be reached") from None
