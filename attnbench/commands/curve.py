"""`attnbench curve`: sensitivity against the number of images, or against a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.commands.evaluate import run_evaluation
from attnbench.errors import AttnbenchError
from attnbench.overrides import Value
from attnbench.records.learning_curves import NO_BUDGET, Curve, curves_of
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.submission import Submission, load_submission

if TYPE_CHECKING:
    from attnbench.runs.curve_plans import Size
    from attnbench.runs.events import Event

DEFAULT_TASK = "imagenet-standard"
# The folder of the records of curves, in the folder of records. No other command reads it.
CURVES = "curves"
DECLARED = "declared"


def curve(
    submissions: str | Path | Sequence[str | Path],
    *,
    images: Sequence[Size] | None = None,
    budget: str | Sequence[Value] | None = None,
    tasks: str | Path | Sequence[str | Path] = DEFAULT_TASK,
    records: Path = Path("records"),
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> list[Curve]:
    """Adapt on nested subsets of each episode's images, or with several budgets, and score d_a.

    Every detector is tested on the images that it adapted on, too. The records are kept in the folder
    `curves` in the folder of records, and reused like others.

    Args:
        submissions: folders, or names of shipped submissions.
        images: the numbers of positives to adapt on, or "all"; negatives are in proportion. By default
            the powers of two and all, or only all if there is a budget.
        budget: the values of the hyperparameter that a submission declares as its budget; "declared"
            for the values that it declares, too. Then submissions without a budget are single points
            beside those with one.
        tasks: names of tasks, or paths of task files.
        records: the folder of records.
        on_event: called with each event of the run.
        options: `track`, `backbone`, `device`, `seeds`, `engine`, `workers`, `address`,
            `isolation`, `timeout`, `fresh`, `data`, as for `attnbench.evaluate`.

    Returns:
        A curve for each submission, task and backbone. If both images and budgets vary, a curve along
        the number of images for each budget.

    Raises:
        AttnbenchError: if something cannot be run at all, a submission declares no budget, or no point
            of a curve could be measured.
    """
    listed = [submissions] if isinstance(submissions, str | Path) else list(submissions)
    sizes: Sequence[Size] = () if images is None else images
    along_budget = budget is not None and (images is None or len(images) == 1)
    if along_budget and images is None:
        sizes = ["all"]
    # A method without a budget is a point among the curves of others, but no curve.
    points = along_budget and budget == DECLARED and any(map(_has_budget, listed))
    found: list[Record] = []
    parameters: dict[str, str] = {}
    for names in [listed] if budget is None else [[name] for name in listed]:
        settings: dict[str, list[Value]] = {}
        if budget is not None:
            submission = load_submission(names[0])
            if _has_budget(names[0]) or not points:
                settings = _settings(submission, budget)
            if along_budget:
                parameters[submission.name] = next(iter(settings), NO_BUDGET)
        evaluation = run_evaluation(
            names,
            settings=settings,
            sizes=sizes,
            tasks=tasks,
            records=records / CURVES,
            on_event=on_event,
            **options,
        )
        store = RecordStore(records / CURVES)
        found += [store.read(Path(str(row["record"]))) for row in evaluation.rows if row["record"]]
    return curves_of(found, parameters)


def _has_budget(submission: str | Path) -> bool:
    return load_submission(submission).manifest.budget is not None


def _settings(submission: Submission, values: str | Sequence[Value]) -> dict[str, list[Value]]:
    """Return the values of a submission's budget, by the name of its hyperparameter."""
    budget = submission.manifest.budget
    if budget is None:
        raise AttnbenchError(
            f"{submission.name} declares no budget: leave out --budget, or write in its "
            'submission.toml, for example, [budget] with parameter = "steps" and '
            "values = [1, 2, 4, 8]"
        )
    return {budget.parameter: list(budget.values if values == DECLARED else values)}
