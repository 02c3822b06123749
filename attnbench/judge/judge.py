"""The judge: everything that is needed to judge episodes under given conditions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from attnbench.isolation.confinement import Limits, limits_for
from attnbench.judge.conditions import Conditions
from attnbench.judge.resource_cache import ResourceCache
from attnbench.judge.template import Template

if TYPE_CHECKING:
    from attnbench.judge.evaluator import Evaluator

# Workers may use the CPU time of a request that takes a day. Timeouts are far shorter.
_DAY_SECONDS = 86_400.0


class Judge:
    """Judges episodes on any backbone, one backbone at a time. See `open_judge`.

    Attributes:
        conditions: the conditions of all episodes.
        resources: the backbones and stimuli loaded so far.
    """

    def __init__(
        self, conditions: Conditions, resources: ResourceCache, template: Template
    ) -> None:
        self.conditions = conditions
        self.resources = resources
        self._template = template
        self._evaluator: Evaluator | None = None
        self._backbone = ""

    def evaluator(self, backbone: str) -> Evaluator:
        """Return the evaluator for a backbone. An earlier one for another backbone becomes invalid.

        Args:
            backbone: see `attnbench.backbones.load`.

        Raises:
            AttnbenchError: if the backbone cannot be loaded.
        """
        if self._evaluator is None or self._backbone != backbone:
            # Imported here, so that this process and the fork server import torch at the same time.
            import torch

            from attnbench.judge.evaluator import Evaluator

            if self.conditions.threads is not None:
                torch.set_num_threads(self.conditions.threads)
            self._evaluator = Evaluator(
                self.resources.backbone(backbone),
                self._template,
                device=self.conditions.device,
                untrained=self.conditions.untrained,
                source=backbone,
            )
            self._backbone = backbone
        return self._evaluator


@contextlib.contextmanager
def open_judge(
    conditions: Conditions,
    resources: ResourceCache | None = None,
    *,
    limits: Limits | None = None,
) -> Iterator[Judge]:
    """Open a judge. Leaving the context ends every process it started.

    Args:
        conditions: the conditions of all episodes that it judges.
        resources: the backbones and stimuli that this process has already loaded.
        limits: the resource limits of each worker; by default a share of the machine.

    Raises:
        AttnbenchError: if the conditions cannot be met.
    """
    hidden = [*conditions.hidden, *([] if conditions.data is None else [conditions.data])]
    with Template(
        conditions.isolation,
        limits=limits or limits_for(_DAY_SECONDS, conditions.sharing),
        modules=conditions.modules,
        hidden=hidden,
        data=conditions.data,
        backbone_files=conditions.backbone_files,
    ) as template:
        resources = resources or ResourceCache(conditions.data, untrained=conditions.untrained)
        yield Judge(conditions, resources, template)
