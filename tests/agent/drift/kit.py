# SPDX-License-Identifier: Apache-2.0
"""Streams whose nature is known, a job that is watched, and parts that only write down."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.agent.kit import Journal

from fedmill_agent.background import Background
from fedmill_agent.drift.actions import Acting
from fedmill_agent.drift.detector import Array, Detector
from fedmill_agent.drift.signals import Submit
from fedmill_agent.drift.watch import Watch
from fedmill_agent.inference.scored import Scored
from fedmill_agent.store.splits import StoredSplit
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job
from fedmill_shared.messages import Wish
from fedmill_shared.models.manifest import Manifest, Tensor
from fedmill_shared.signals.windows import Window

SIGNALS, LENGTH, WIDTH = 2, 8, 4
SECOND = 10**9
JOB = """\
[job]
name = "press"
[[signals]]
name = "force"
unit = "kN"
rate_hz = 8.0
[[signals]]
name = "stroke"
unit = "mm"
rate_hz = 8.0
[window]
length = 8
[labels]
classes = ["good", "worn"]
[model]
architecture = "mlp"
"""
MANIFEST = Manifest(
    (
        Tensor("standardise.mean", (1, SIGNALS), 0, "buffer"),
        Tensor("standardise.inverse_scale", (1, SIGNALS), SIGNALS, "buffer"),
        Tensor("head.weight", (2, WIDTH), 2 * SIGNALS, "head"),
    )
)


def a_watched_job(lines: str, *, job: str = JOB) -> Job:
    """The job with a section ``[drift]``."""
    return decode_job(f"{job}[drift]\n{lines}\n", "job.toml")


def autoregressive(
    generator: np.random.Generator, count: int, columns: int, memory: float
) -> Array:
    """AR(1) with mean 0 and variance 1, (count, columns)."""
    news = generator.normal(size=(count, columns)) * np.sqrt(1.0 - memory**2)
    rows = np.empty((count, columns))
    row = generator.normal(size=columns)
    for place, new in enumerate(news):
        row = memory * row + new
        rows[place] = row
    return rows


def statistics(detector: Detector, rows: Array) -> list[float]:
    """All readings of a detector over ``rows``."""
    state, found = detector.init(), []
    for row in rows:
        state, reading = detector.step(state, row)
        found += [] if reading is None else [reading.statistic]
    return found


def alarms(readings: Sequence[float], warn: float, alarm: float) -> int:
    """How often a chart would alarm: again only once it has been quiet."""
    count, high = 0, False
    for reading in readings:
        if not high and reading > alarm:
            count, high = count + 1, True
        elif reading <= warn:
            high = False
    return count


def windows(
    values: NDArray[np.float32], *, first: int = 0, run: str = "shift", unit: str = "press-1"
) -> list[Window]:
    """Windows of ``values`` (n, signals, length), a second apart, from the number ``first`` on."""
    return [
        Window(
            run=run,
            unit=unit,
            start_ns=(first + place) * SECOND,
            end_ns=(first + place) * SECOND + SECOND - SECOND // LENGTH,
            values=each,
            good_share=1.0,
            index=first + place,
        )
        for place, each in enumerate(values)
    ]


def steady(
    seed: int, count: int, *, shift: float = 0.0, spread: float = 1.0
) -> NDArray[np.float32]:
    """Windows (n, signals, length) of force 100 +- 5 kN and stroke 20 +- 2 mm; each has a level.

    ``shift`` moves them by so many deviations.
    """
    generator = np.random.default_rng(seed)
    level = generator.normal(shift, spread, (count, SIGNALS, 1))
    noise = generator.normal(0.0, 0.3, (count, SIGNALS, LENGTH))
    middle, scale = np.array([100.0, 20.0]), np.array([5.0, 2.0])
    made = middle[:, None] + scale[:, None] * (level + noise)
    return made.astype(np.float32)


def standard() -> NDArray[np.float32]:
    """Weights of a model that standardises such windows and reads two classes off their mean."""
    mean, inverse = [100.0, 20.0], [1 / 5.0, 1 / 2.0]
    head = [1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0]
    return np.array([*mean, *inverse, *head], np.float32)


@dataclass
class Plant:
    """Everything around a watch: a model that can be changed, and what was asked of the parts."""

    job: Job
    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    log: Journal = field(default_factory=Journal)
    vector: NDArray[np.float32] = field(default_factory=standard)
    version: str = "a" * 64
    telling: bool = True
    wishes: list[Wish] = field(default_factory=list)
    proposed: list[tuple[str, NDArray[np.float32], str]] = field(default_factory=list)
    rolled_back: list[dict[str, float]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    own: NDArray[np.float32] | None = None
    busy: bool = False
    left: int = 0
    submit: Submit = field(default_factory=lambda: Background().submit)
    seen: int = 0

    def __post_init__(self) -> None:
        """An empty store."""
        self.store = WindowStore(
            self.folder / "windows.sqlite", clock=self.clock, max_bytes=10**8, max_age_seconds=1e9
        )

    def close(self) -> None:
        """Nothing is open any more."""
        self.store.close()

    def look(
        self, values: Sequence[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Logits of two classes, and features, of windows."""
        mean, inverse = self.vector[:2, None], self.vector[2:4, None]
        white = (np.stack(values) - mean) * inverse
        features = np.concatenate((white.mean(2), white.std(2)), 1).astype(np.float32)
        outputs = features @ self.vector[4:].reshape(2, WIDTH).T
        return outputs.astype(np.float32), features if self.telling else None

    def scored(self, values: NDArray[np.float32], *, run: str = "shift") -> Scored:
        """What is observed of ``values`` (n, signals, length), the next windows of a run."""
        outputs, features = self.look(values)
        made = windows(values, first=self.seen, run=run)
        self.seen += len(values)
        return Scored(made, outputs, features, self.version, self.clock.now_ns())

    def add(self, values: NDArray[np.float32], split: StoredSplit, *, first: int = 0) -> None:
        """Store windows."""
        self.store.add(windows(values, first=first, run=f"{split}-{first}"), split)

    def acting(self) -> Acting:
        """Parts that write down what they are asked."""
        return Acting(
            wish=self.wishes.append,
            propose=self._propose,
            roll_back=self._roll_back,
            keep=self.kept.append,
            left=lambda: self.left,
            model=lambda: (MANIFEST, self.vector),
            own=lambda: self.own,
        )

    def watch(self) -> Watch:
        """A watch as it is after a start."""
        log: Any = self.log
        return Watch(
            self.job,
            self.folder,
            self.store,
            self.look,
            self.acting(),
            clock=self.clock,
            log=log,
            submit=self.submit,
        )

    def settle(self, watch: Watch) -> None:
        """Have it learn all that it can learn now."""
        for _ in range(3):
            self.clock.advance(1.0)
            watch.tick()

    def _propose(self, origin: str, vector: NDArray[np.float32], reason: str) -> bool:
        if not self.busy:
            self.proposed.append((origin, vector, reason))
        return not self.busy

    def _roll_back(self, reason: str, evidence: dict[str, float]) -> bool:
        assert reason
        if not self.busy:
            self.rolled_back.append(evidence)
        return not self.busy


def pieces(values: NDArray[np.float32], size: int) -> Iterator[NDArray[np.float32]]:
    """``values`` (n, ...) a few at a time."""
    for first in range(0, len(values), size):
        yield values[first : first + size]
