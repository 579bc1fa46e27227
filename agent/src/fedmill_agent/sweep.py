# SPDX-License-Identifier: Apache-2.0
"""Has the serving version say something of stored windows, a few at a time beside other work.

That is done with the session that serves: a second one, in a thread of its own, would cost a
gateway more memory than all that is learned by it. So a sweep goes on once a second, and never
holds the daemon's loop for longer than ``BUDGET_SECONDS`` and one portion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.store.reader import WindowReader
from fedmill_agent.store.splits import StoredSplit
from fedmill_shared.clock import Clock
from fedmill_shared.errors import FedmillError

SPLIT: StoredSplit = "validation"
"""The windows that nothing was trained on."""
BUDGET_SECONDS = 0.03
LOOK_SECONDS = 10.0
"""How often it is looked whether there are windows enough."""
AGAIN_SECONDS = 600.0
"""How often a version is looked at again because the windows have changed."""

Values = NDArray[np.float32]
Run = Callable[[Values], Values]
"""Outputs (n, outputs) of the serving version for windows (n, signals, length)."""


class Numbered(Protocol):
    """Stored windows, without their values."""

    @property
    def ids(self) -> Sequence[int]:
        """What the store calls them."""


Chosen = TypeVar("Chosen", bound=Numbered)


@dataclass(frozen=True, slots=True, eq=False)
class Said(Generic[Chosen]):
    """What a version said of stored windows.

    Attributes:
        version: digest of its weights.
        generation: of the windows in the store.
        windows: that were chosen.
        places: those of them (n,) that were still there, ascending.
        outputs: float32 (n, outputs) for these.
    """

    version: str
    generation: int
    windows: Chosen
    places: list[int]
    outputs: Values


@dataclass(slots=True, eq=False)
class _Pass(Generic[Chosen]):
    """A sweep that is going on."""

    version: str
    generation: int
    windows: Chosen
    done: int = 0
    ids: list[int] = field(default_factory=list)
    outputs: list[Values] = field(default_factory=list)


class Sweep(Generic[Chosen]):
    """Owns when the validation windows of one job are swept, and how far that is."""

    def __init__(
        self,
        store: WindowReader,
        serving: Callable[[], str],
        run: Run,
        *,
        known: Callable[[str], int | None],
        choose: Callable[[], Chosen | None],
        learn: Callable[[Said[Chosen]], bool],
        clock: Clock,
    ) -> None:
        """Sweep for ``serving``, the version that ``run`` runs, unless enough is ``known`` of it.

        Args:
            store: has the windows.
            serving: digest of the version's weights; empty where none serves.
            run: asks it.
            known: by which generation of the windows a version is known; None: it is not.
            choose: the windows that it is to be asked about; None: there are too few.
            learn: takes what it said; False where that was not enough to learn anything.
            clock: tells the time.
        """
        self._store = store
        self._serving = serving
        self._run = run
        self._known = known
        self._choose = choose
        self._learn = learn
        self._clock = clock
        self._pass: _Pass[Chosen] | None = None
        self._looked = ""
        self._look_due = 0.0

    def tick(self) -> None:
        """Look about once a second whether something is to be learned, and do a little of it.

        Raises:
            FedmillError: store or model fail; it is tried again much later.
        """
        version = self._serving()
        if self._pass is not None and self._pass.version != version:
            self._pass = None
        if not version:
            return
        try:
            if self._pass is None:
                self._pass = self._begin(version)
            if self._pass is not None:
                self._go_on(self._pass)
        except FedmillError:
            self._pass, self._look_due = None, self._clock.monotonic() + AGAIN_SECONDS
            raise

    def _begin(self, version: str) -> _Pass[Chosen] | None:
        """A sweep if the version is not known, or not by the windows that there are now."""
        now = self._clock.monotonic()
        if version == self._looked and now < self._look_due:
            return None
        known, fresh = self._known(version), version != self._looked
        wait = LOOK_SECONDS if known is None else AGAIN_SECONDS
        self._looked, self._look_due = version, now + wait
        generation = self._store.generation(SPLIT)
        if known is not None and (fresh or known == generation):
            return None  # what has changed since before a restart is looked at a little later
        windows = self._choose()
        return None if windows is None else _Pass(version, generation, windows)

    def _go_on(self, current: _Pass[Chosen]) -> None:
        until = self._clock.monotonic() + BUDGET_SECONDS
        ids, portion = current.windows.ids, self._store.portion
        while current.done < len(ids):
            there, values = self._store.values(ids[current.done : current.done + portion])
            if there:
                current.ids += there
                current.outputs.append(self._run(values))
            current.done += portion
            if self._clock.monotonic() >= until and current.done < len(ids):
                return
        self._pass = None
        self._finish(current)

    def _finish(self, current: _Pass[Chosen]) -> None:
        if not current.ids:
            return
        places = {each: place for place, each in enumerate(current.windows.ids)}
        said = Said(
            current.version,
            current.generation,
            current.windows,
            [places[each] for each in current.ids],
            np.concatenate(current.outputs),
        )
        if self._learn(said):
            self._look_due = self._clock.monotonic() + AGAIN_SECONDS
