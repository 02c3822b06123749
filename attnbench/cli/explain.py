"""`attnbench explain SUBMISSION`: what an adaptation amplifies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options
from attnbench.text import printable

if TYPE_CHECKING:
    from attnbench.commands.explain import Explanation


def explain(
    submission: options.Submission,
    task: options.OneTask = "imagenet-standard",
    target: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ATTNBENCH_TARGET",
            metavar="NAME",
            help="The target; may be repeated, and `all` means all of the task. "
            "(default: the first)",
        ),
    ] = None,
    seed: options.Seed = 0,
    track: options.Track = None,
    backbone: options.TriedBackbone = None,
    data: options.Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_OUT",
            metavar="FILE",
            dir_okay=False,
            help="Also draw the last target to this file (.svg or .png).",
        ),
    ] = None,
) -> None:
    """Show which channels an adaptation amplifies, and where.

    Adapts in this process, as `try` does, and compares the activations that reach the first changed
    stage with those of the untouched network. Only explain code that you trust.
    """
    if out is not None and out.suffix not in (".svg", ".png"):
        raise typer.BadParameter("the file must end in .svg or .png", param_hint="--out")

    from attnbench.commands.explain import explain as explain_one
    from attnbench.commands.open_episode import episode

    names: list[str | None] = [*target] if target else [None]
    if "all" in names:
        opened = episode(task, seed=seed, track=track, backbone=backbone, data=data)
        names = list(opened.stimuli.targets)
    found = []
    for name in names:
        explanation = explain_one(
            submission,
            task=task,
            target=name,
            seed=seed,
            track=track,
            backbone=backbone,
            data=data,
        )
        typer.echo(printable(_describe(explanation)))
        found.append(explanation)
    if len(found) > 1:
        typer.echo(_describe_mean(found))
    if out is not None:
        _draw(found[-1], out)


def _describe(explanation: Explanation) -> str:
    """Return two sentences about one target."""
    r, low, high = explanation.correlation
    count = len(explanation.gains)
    text = (
        f"{explanation.submission}, target {explanation.episode.target}, at the input of "
        f"{explanation.stage}: rank correlation of the gains of {count} channels with their d_a "
        f"{r:+.2f} [{low:+.2f}, {high:+.2f}]."
    )
    if explanation.inside is not None:
        change, activation, area = explanation.inside
        text += (
            f" {change:.0%} of the amplification is inside the object, which has "
            f"{activation:.0%} of the activation and {area:.0%} of the area."
        )
    return text


def _describe_mean(explanations: list[Explanation]) -> str:
    """Return the mean correlation over targets with its interval."""
    import numpy as np

    from attnbench.statistics.intervals import mean_interval

    values = np.array([each.correlation[0] for each in explanations])
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return "No interval over targets: fewer than two have a rank correlation."
    low, high = mean_interval(values)
    text = f"Mean over {len(values)} targets: {values.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
    inside = [each.inside for each in explanations if each.inside is not None]
    if not inside:
        return f"{text}."
    change, activation, area = np.mean(inside, axis=0)
    return (
        f"{text}; inside the object: {change:.0%} of the amplification, {activation:.0%} of the "
        f"activation, {area:.0%} of the area."
    )


def _draw(explanation: Explanation, out: Path) -> None:
    import numpy as np

    from attnbench.leaderboard.explanation_plot import explanation_plot
    from attnbench.leaderboard.plot_style import write_plot
    from attnbench.stimuli.gallery import denormalise

    chosen = explanation.episode
    positives = np.flatnonzero(chosen.present)[: 0 if explanation.change is None else 6]
    pictures = denormalise(chosen.drawn.make(positives), chosen.backbone.preprocessing)
    plot = explanation_plot(
        f"{explanation.submission}: {chosen.target} ({chosen.task}, {chosen.track})",
        explanation.stage,
        explanation.gains,
        explanation.d_a,
        pictures,
        explanation.change,
        chosen.stimuli.masks_of_positives(chosen.target, chosen.seed),
    )
    write_plot(plot, out)
