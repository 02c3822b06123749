"""Where episodes are judged: an evaluator with its workers, in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from attnbench.engines.engine import Conditions, Job
from attnbench.evaluation.isolation.confinement import limits_for
from attnbench.evaluation.warm import Template
from attnbench.materials import Materials

if TYPE_CHECKING:
    from attnbench.evaluation.evaluator import Evaluator
    from attnbench.records.store import Measured

_A_DAY = 86_400.0


class Station:
    """Judges jobs in this process, one after the other. A context manager.

    Args:
        conditions: of the run.
        materials: what this process has loaded for the run already.
    """

    def __init__(self, conditions: Conditions, materials: Materials | None = None) -> None:
        self._conditions = conditions
        self._materials = materials or Materials(conditions.data, untrained=conditions.untrained)
        hidden = [*conditions.hidden, *([] if conditions.data is None else [conditions.data])]
        self._template = Template(
            conditions.isolation,
            hidden=hidden,
            data=conditions.data,
            limits=limits_for(_A_DAY, conditions.at_once),
        )
        self._evaluator: Evaluator | None = None
        self._backbone = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._template.__exit__(*ended)

    def judge(self, job: Job) -> Measured:
        """What comes of a job. Raises AttnbenchError where its images or its backbone cannot be had."""
        import pyarrow as pa

        from attnbench.evaluation.environment import describe_environment
        from attnbench.records.store import Measured

        evaluator = self._evaluator_for(job)
        stimuli = self._materials.stimuli(job.track, job.identity.backbone)
        episode = stimuli.episode(job.target, job.identity.seed)
        if job.again is None:
            result, scores = evaluator.judge(job.submission, episode, job.timeout, cold=job.cold)
        else:
            result, scores = evaluator.time_again(
                job.submission, episode, job.timeout, job.again, cold=job.cold
            )
        environment = describe_environment(self._conditions.device, evaluator.confinement)
        table = pa.Table.from_pandas(scores, preserve_index=False)
        return Measured(result, table, environment).contended(self._is_contended)

    @property
    def _is_contended(self) -> bool:
        return self._conditions.device == "cpu" and self._conditions.at_once > 1

    def _evaluator_for(self, job: Job) -> Evaluator:
        """The evaluator on the job's backbone: that of the job before where it is the same."""
        if self._evaluator is None or self._backbone != job.identity.backbone:
            import torch

            from attnbench.evaluation.evaluator import Evaluator

            if self._conditions.threads is not None:
                torch.set_num_threads(self._conditions.threads)
            if self._evaluator is None:
                self._template.import_modules(job.modules)
            self._evaluator = Evaluator(
                self._materials.backbone(job.identity.backbone),
                self._template,
                device=self._conditions.device,
                untrained=self._conditions.untrained,
            )
            self._backbone = job.identity.backbone
        return self._evaluator
