# SPDX-License-Identifier: Apache-2.0
"""Why a window is far from the principal components: each signal's part of T2 or Q, exactly.

No other window is needed to compare with, and the model is not asked again.
"""

from collections.abc import Callable, Sequence

from fedmill_agent.explaining.explanation import UNEXPLAINED, Cause, Explanation
from fedmill_agent.explaining.words import WORTH_TELLING, sentence
from fedmill_shared.job import Job
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.monitoring.inputs import contributions
from fedmill_shared.monitoring.version import Vector
from fedmill_shared.signals.windows import Window

MOST_CAUSES = 3


class ComponentsExplainer:
    """Explains by the version that serves."""

    def __init__(self, job: Job, model: Callable[[], tuple[Manifest, Vector] | None]) -> None:
        """``model`` gives layout and weights (size,) of that version; None before the first."""
        self._job = job
        self._model = model

    def note(self, window: Window) -> None:
        """What is usual is in the model already."""

    def explain(self, window: Window, _classes: Sequence[str]) -> Explanation:
        """Which signals the score of ``window`` comes from; it has no classes.

        Raises:
            StoreError: the version cannot be read.
            ModelError: it has no principal components.
        """
        model = self._model()
        if model is None:
            return UNEXPLAINED
        manifest, vector = model
        [parts] = contributions(self._job, manifest, vector, window.values[None])
        explained = sum(share for _, share in parts)
        causes = tuple(Cause(name, share) for name, share in parts if share >= WORTH_TELLING)
        told = causes[:MOST_CAUSES]
        return Explanation(sentence(told, explained or 1.0), told)
