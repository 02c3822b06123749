"""Backbones and stimuli, each loaded once per process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnbench.backbones.backbone import Backbone
    from attnbench.stimuli.adaptation_images import AdaptationSource
    from attnbench.stimuli.episodes import TrackStimuli
    from attnbench.tasks import Track


class ResourceCache:
    """Loads backbones and stimuli on first use. Torch is not imported before that.

    Args:
        data: the data folder, or None for the hub.
        untrained: whether to leave the weights of backbones as initialised.
    """

    def __init__(self, data: Path | None, *, untrained: bool) -> None:
        self._data = data
        self._untrained = untrained
        self._backbones: dict[str, Backbone] = {}
        self._stimuli: dict[tuple[str, str], TrackStimuli] = {}
        self._adaptation: dict[tuple[str, str], AdaptationSource] = {}

    def backbone(self, name: str) -> Backbone:
        """Return the backbone of this name. Raises AttnbenchError if it cannot be loaded."""
        if name not in self._backbones:
            from attnbench.backbones import load

            self._backbones[name] = load(name, untrained=self._untrained, data=self._data)
        return self._backbones[name]

    def stimuli(self, track: Track, backbone: str) -> TrackStimuli:
        """Return the episodes of a track, preprocessed for a backbone.

        Tracks that have the same images to adapt on share their source.

        Args:
            track: the track's definition.
            backbone: the backbone's name.

        Raises:
            AttnbenchError: if the data or the backbone cannot be loaded.
        """
        # Not the JSON, which lacks the folder that paths in a task file are relative to.
        key = repr(track), backbone
        if key not in self._stimuli:
            from attnbench.stimuli.adaptation_images import shared_definition
            from attnbench.stimuli.episodes import TrackStimuli

            network = self.backbone(backbone)
            shared = shared_definition(track), backbone
            stimuli = self._stimuli[key] = TrackStimuli(
                track,
                network.preprocessing,
                network.labels,
                self._data,
                self._adaptation.get(shared),
            )
            self._adaptation.setdefault(shared, stimuli.adaptation)
        return self._stimuli[key]
