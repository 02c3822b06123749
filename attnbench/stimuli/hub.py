"""Data sets of the Hugging Face hub, downloaded or from the cache of `datasets`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from attnbench.stimuli import splits
from attnbench.stimuli.layouts import Contents
from attnbench.stimuli.tables import Columns, explained, read_tables
from attnbench.tasks import HubSource

_TIMEOUT_SECONDS = 10


def load_from_hub(definition: HubSource, columns: Columns) -> Contents:
    """Load the whole splits that a task names, or names slices of.

    Args:
        definition: the source in the task.
        columns: the names of the columns.

    Raises:
        AttnbenchError: if the data set is neither cached nor can be downloaded.
    """
    names = list(dict.fromkeys(name for name, _ in splits.parse(definition.split)))
    locations = [f"{definition.hub}, split {name}" for name in names]
    remedy = (
        f"if this machine is offline, pass --data DIR with a folder `{definition.folder}` in it"
    )
    with explained("; ".join(locations), remedy), _offline_if_unreachable(definition.hub):
        import datasets

        tables = [
            datasets.load_dataset(
                definition.hub, definition.config, split=name, revision=definition.revision
            )
            for name in names
        ]
        sources = [
            (definition.hub, location, len(table))
            for location, table in zip(locations, tables, strict=True)
        ]
        return read_tables(tables, names, sources, columns, may_read_paths=True)


@contextlib.contextmanager
def _offline_if_unreachable(repository: str) -> Iterator[None]:
    """Let `datasets` look only into its cache if the hub cannot be reached.

    It would retry for most of a minute, and print each try. One request without retries says as much.
    """
    import datasets
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    try:
        try:
            HfApi().dataset_info(repository, timeout=_TIMEOUT_SECONDS)
        except (HfHubHTTPError, OfflineModeIsEnabled):
            pass  # the hub answers, if only that one must log in; or nobody wants to ask it
        except Exception:  # of the HTTP library, which differs between versions
            datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
