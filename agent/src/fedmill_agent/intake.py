# SPDX-License-Identifier: Apache-2.0
"""From what a job's sources deliver to windows that are scored and stored.

source -> unit conversion -> quality -> window -> score, and -> store with its labels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.config import AgentConfig
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.sources.base import (
    Event,
    LabelInterval,
    RunEnded,
    Samples,
    SourceOptions,
    Split,
)
from fedmill_agent.sources.runner import SourceEnded, SourceEvent
from fedmill_agent.store.splits import SplitPolicy, StoredSplit
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.errors import DataError, FedmillError, SchemaError
from fedmill_shared.job import Job, Signal
from fedmill_shared.log import Logger
from fedmill_shared.signals.quality import mend, usable
from fedmill_shared.signals.units import affine
from fedmill_shared.signals.windows import Window, Windower


@dataclass(frozen=True, slots=True)
class Mapping:
    """How one source feeds the job: its tags and the conversion of each to the job's unit."""

    tags: list[str]
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]

    def convert(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """``values`` (signals, samples) from the source's units to the job's."""
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is bad, not an error
            return (values * self.factor + self.offset).astype(np.float32)


def map_source(job: str, signals: Sequence[Signal], source: SourceOptions) -> Mapping:
    """Tags and unit conversions of ``source`` for the ``signals`` of the job called ``job``.

    Raises:
        SchemaError: a unit is unknown or cannot be converted, or the source maps a signal that
            the job does not have.
    """
    names = [signal.name for signal in signals]
    for signal in {*source.tags, *source.units} - set(names):
        raise SchemaError(
            f"source {source.name!r} maps signal {signal!r}, which job {job!r} does not have",
            remedy=f"signals of the job: {', '.join(names)}",
        )
    pairs = [_conversion(source, signal) for signal in signals]
    return Mapping(
        [source.tags.get(s.name) or s.tag or s.name for s in signals],
        np.array([factor for factor, _ in pairs])[:, None],
        np.array([offset for _, offset in pairs])[:, None],
    )


def _conversion(source: SourceOptions, signal: Signal) -> tuple[float, float]:
    try:
        return affine(source.units.get(signal.name, signal.unit), signal.unit)
    except SchemaError as error:
        raise SchemaError(
            f"source {source.name!r}: signal {signal.name!r}: {error.message}",
            remedy=error.remedy,
        ) from error


@dataclass(slots=True)
class _Feed:
    options: SourceOptions
    mapping: Mapping
    windower: Windower
    ended: bool = False
    error: FedmillError | None = None


class Intake:
    """Owns the windowers of one job's sources and writes to its store."""

    def __init__(
        self, job: Job, config: AgentConfig, store: WindowStore, scorer: Scorer, log: Logger
    ) -> None:
        """Map every source to the job.

        Raises:
            SchemaError: a source does not fit.
        """
        self._job = job
        self._store = store
        self._scorer = scorer
        self._log = log
        window_ns = round(1e9 * job.window.length / job.signals[0].rate_hz)
        self._policy = SplitPolicy(store, job.evaluation, window_ns=window_ns)
        self._feeds = {
            source.name: _Feed(source, map_source(job.name, job.signals, source), self._windower())
            for source in config.sources
        }
        self.bad_windows = 0
        self.refused_labels: Counter[str] = Counter()

    def tags(self, source: str) -> list[str]:
        """What to ask ``source`` for."""
        return self._feeds[source].mapping.tags

    @property
    def replaying(self) -> bool:
        """Whether a source that replays as fast as it can has not come to its end."""
        return any(
            feed.options.speed == 0 and not feed.options.repeat and not feed.ended
            for feed in self._feeds.values()
        )

    @property
    def exhausted(self) -> bool:
        """Whether no source can bring another training window."""
        return all(
            feed.ended or feed.options.split not in ("auto", "train")
            for feed in self._feeds.values()
        )

    @property
    def complained(self) -> bool:
        """Whether something that a source delivered, or failed to, is an error in the log."""
        return bool(self.refused_labels) or any(feed.error for feed in self._feeds.values())

    def failure(self) -> FedmillError | None:
        """Why no source works, if none does."""
        errors = [feed.error for feed in self._feeds.values() if feed.error is not None]
        if not self._feeds:
            return DataError(
                "the configuration has no [[sources]]", remedy="add one to read sensor data"
            )
        return errors[0] if len(errors) == len(self._feeds) else None

    def accept(self, event: SourceEvent | SourceEnded) -> None:
        """Take in what a source delivered; data that no window can be made of is logged.

        Raises:
            StoreError: the windows cannot be kept.
            ModelError: the windows cannot be scored.
        """
        feed = self._feeds[event.source]
        if isinstance(event, SourceEnded):
            feed.ended = True
            if event.error is not None:
                self._fail(feed, event.error)
            return
        try:
            self._deliver(feed, event.event)
        except DataError as error:
            self._fail(feed, error)

    def _deliver(self, feed: _Feed, event: Event) -> None:
        match event:
            case Samples() as samples:
                self._take(feed, self._cut(feed, samples))
            case RunEnded(run):
                self._take(feed, feed.windower.end(run))
            case LabelInterval() as label:
                self._label(feed, label)

    def _fail(self, feed: _Feed, error: FedmillError) -> None:
        if feed.error is None or str(feed.error) != str(error):
            self._log.error("source.failed", source=feed.options.name, error=str(error))
        feed.error = error

    def _windower(self) -> Windower:
        return Windower(self._job.window.length, self._job.stride, self._job.window.pad)

    def _cut(self, feed: _Feed, samples: Samples) -> list[Window]:
        values = feed.mapping.convert(samples.values)
        return feed.windower.push(
            samples.run, samples.unit, samples.start_ns, samples.period_ns, values
        )

    def _take(self, feed: _Feed, windows: list[Window]) -> None:
        good = [window for window in map(mend, windows) if usable(window)]
        self.bad_windows += len(windows) - len(good)
        if not good:
            return
        self._store.add_predictions(self._scorer.score(good))
        for split, members in self._divided(feed.options.split, good).items():
            self._store.add(members, split)

    def _divided(self, split: Split, windows: list[Window]) -> dict[StoredSplit, list[Window]]:
        if split == "live":
            return {}
        if split != "auto":
            return {split: windows}
        parts: dict[StoredSplit, list[Window]] = {}
        for window in windows:
            chosen = self._policy.split_of(window)
            if chosen is not None:
                parts.setdefault(chosen, []).append(window)
        return parts

    def _label(self, feed: _Feed, label: LabelInterval) -> None:
        classes = self._job.labels.classes
        if self._job.job.task == "classification" and label.text not in classes:
            if not self.refused_labels[label.text]:
                self._log.error(
                    "label.refused",
                    source=feed.options.name,
                    label=label.text,
                    allowed=",".join(classes),
                    remedy="correct the label at its source, or add the class to the job",
                )
            self.refused_labels[label.text] += 1
            return
        if feed.options.split != "live":
            self._store.add_labels([label])
