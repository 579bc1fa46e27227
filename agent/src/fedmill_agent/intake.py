# SPDX-License-Identifier: Apache-2.0
"""From what a job's sources deliver to windows that are scored and stored.

source -> unit conversion -> quality -> window -> score, and -> store with its labels.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmill_agent.config import AgentConfig
from fedmill_agent.cutter import Cutter, cutter_for
from fedmill_agent.inference.backlog import Backlog
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.sources.backfill import Backfill
from fedmill_agent.sources.base import (
    Event,
    LabelInterval,
    SourceOptions,
    Split,
    at_once,
)
from fedmill_agent.sources.runner import SourceEnded, SourceEvent
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.splits import SplitPolicy, StoredSplit
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.errors import DataError, FedmillError
from fedmill_shared.job import Job
from fedmill_shared.log import Logger
from fedmill_shared.signals.windows import Window

if TYPE_CHECKING:
    from fedmill_agent.labels.desk import LabelDesk
    from fedmill_agent.labels.forecast import Forecaster
    from fedmill_agent.labels.record import LabelRecord

LONGEST_TEXT = 200
MOST_TEXTS = 1000
"""Different refused labels that are told apart."""


@dataclass(slots=True)
class _Feed:
    options: SourceOptions
    cutter: Cutter
    forecaster: "Forecaster | None"
    ended: bool = False
    error: FedmillError | None = None


class Intake:
    """Owns the windowers of one job's sources and writes to its store.

    Attributes:
        newest: the last prediction, None before the first.
        refused_labels: labels that the job cannot use, and how often each came.
    """

    def __init__(
        self, job: Job, config: AgentConfig, store: WindowStore, scorer: Scorer, log: Logger
    ) -> None:
        """Map every source to the job.

        Raises:
            SchemaError: a source does not fit.
        """
        self._job = job
        self._store = store
        self._backlog = Backlog(scorer, config.inference, scorer.clock, log)
        self._most = config.inference.batch
        self.newest: Prediction | None = None
        self._waiting: list[tuple[_Feed, list[Window]]] = []
        self._log = log
        window_ns = round(1e9 * job.window.length / job.rate_hz)
        self._policy = SplitPolicy(store, job.evaluation, window_ns=window_ns)
        self._feeds: dict[str, _Feed] = {}
        for source in config.sources:
            self.take_up(source)
        self.refused_labels: Counter[str] = Counter()
        self.collecting = 0
        drift = job.drift
        # A label may come long after its window was kept, and after a restart.
        self._collects = bool(drift.watch) and "collect" in (*drift.on_warning, *drift.on_alarm)

    def take_up(self, source: SourceOptions) -> None:
        """Expect events of ``source`` from now on.

        Raises:
            SchemaError: it does not fit the job.
        """
        cutter = cutter_for(self._job, source)
        self._feeds[source.name] = _Feed(source, cutter, cutter.watch(self._job))

    def drop(self, source: str) -> None:
        """Expect nothing of ``source`` any more; what is wrong with it no longer counts."""
        self._feeds.pop(source, None)

    def tags(self, source: str) -> list[str]:
        """What to ask ``source`` for."""
        return self._feeds[source].cutter.tags

    def backfill(self, source: str) -> Backfill | None:
        """What is wanted of the recording of a live ``source``, of whose windows the job learns.

        None where the job has all of it, or windows that came before anything was recorded.

        Raises:
            StoreError: the store cannot be read or written.
        """
        options = self._feeds[source].options
        unit = getattr(options, "unit", "") or source
        if options.split == "live":
            return None
        since_ns = self._store.begin_backfill(source, unit)
        if since_ns is None:
            return None
        return Backfill(since_ns, lambda: self._store.end_backfill(source))

    @property
    def bad_windows(self) -> int:
        """Windows in which too much is wrong: they were neither scored nor stored."""
        return sum(feed.cutter.bad for feed in self._feeds.values())

    @property
    def skipped_windows(self) -> int:
        """Windows that waited too long for their turn: they were not scored."""
        return self._backlog.skipped

    @property
    def faults(self) -> Counter[str]:
        """What made how many windows unusable, as ``signal: fault``."""
        found = Counter[str]()
        for feed in self._feeds.values():
            found += feed.cutter.faults
        return found

    @property
    def replaying(self) -> bool:
        """Whether a source that replays as fast as it can has not come to its end."""
        return any(at_once(feed.options) and not feed.ended for feed in self._feeds.values())

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

    def follow(self, desk: "LabelDesk") -> None:
        """Take over what is new at ``desk``, in one step with how far that goes.

        Raises:
            StoreError: the labels cannot be read or kept; they are taken over later.
        """
        known = self._store.labels_position
        if desk.newest in (0, known):
            return
        from fedmill_agent.labels.suited import refusal  # noqa: PLC0415  many agents get no labels

        entries, position = desk.since(known, self._job.name)
        reasons = [refusal(self._job, entry.record) for entry in entries]
        self._store.add_truths(entries, [bool(reason) for reason in reasons], position=position)
        for entry, reason in zip(entries, reasons, strict=True):
            if reason:
                self._refuse(entry.record, reason)

    def _refuse(self, record: "LabelRecord", reason: str) -> None:
        text = self._counted(record.text)
        if not self.refused_labels[text]:
            # a label for all jobs is nobody's mistake where another job knows what it means
            log = self._log.error if record.job else self._log.warning
            remedy = "correct the label, or name the job that it is for"
            log("label.refused", label=record.id, reason=reason, remedy=remedy)
        self.refused_labels[text] += 1

    def _counted(self, text: str) -> str:
        """What a refused label counts as: a source may tell a new text with every row."""
        text = text[:LONGEST_TEXT]
        few = len(self.refused_labels) < MOST_TEXTS
        return text if few or text in self.refused_labels else ""

    def accept(
        self,
        event: SourceEvent | SourceEnded,
        *,
        handed: float | None = None,
        more: bool = False,
    ) -> None:
        """Take in what a source delivered; data that no window can be made of is logged.

        Where ``more`` is about to be delivered, its windows may wait for others, until ``settle``.

        Args:
            event: what it delivered.
            handed: when, in seconds of the monotonic clock; None: nobody knows.
            more: whether other events wait.

        Raises:
            StoreError: the windows cannot be kept.
            ModelError: the windows cannot be scored.
        """
        feed = self._feeds[event.source]
        if isinstance(event, SourceEnded):
            self.settle()
            feed.ended = True
            if event.error is not None:
                self._fail(feed, event.error)
            return
        try:
            self._deliver(feed, event.event, handed)
        except DataError as error:
            self._fail(feed, error)
        if not more:
            self.settle()

    def collect(self, windows: int) -> None:
        """Keep this many of the next windows for training, of sources that only score too."""
        self.collecting = max(self.collecting, windows)

    def settle(self) -> None:
        """Score and store the windows that wait.

        Raises:
            StoreError: the windows cannot be kept.
            ModelError: the windows cannot be scored.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        said = self._backlog.score()
        self.newest = said[-1] if said else self.newest
        self._store.add_predictions(said)
        parts: dict[StoredSplit, list[Window]] = {}
        for feed, windows in waiting:
            for split, members in self._divided(feed.options.split, windows).items():
                parts.setdefault(split, []).extend(members)
        for split, members in parts.items():
            self._store.add(members, split)
        for feed in {feed.options.name: feed for feed, _ in waiting}.values():
            if feed.forecaster is not None:
                self._store.set_targets(feed.forecaster.taken())

    def _deliver(self, feed: _Feed, event: Event, handed: float | None) -> None:
        if isinstance(event, LabelInterval):
            self._label(feed, event)
            return
        for good in feed.cutter.batches(event):
            if good:
                self._waiting.append((feed, good))
                self._wait(feed.options, good, handed)
            if len(self._backlog) >= self._most:
                self.settle()
        if feed.forecaster is not None and not self._waiting:
            self._store.set_targets(feed.forecaster.taken())

    def _wait(self, options: SourceOptions, windows: list[Window], handed: float | None) -> None:
        """Have ``windows`` wait for their turn."""
        recording = at_once(options)
        history = recording and options.split != "live"
        self._backlog.add(windows, None if recording else handed, history=history)

    def _fail(self, feed: _Feed, error: FedmillError) -> None:
        if feed.error is None or str(feed.error) != str(error):
            self._log.error("source.failed", source=feed.options.name, error=str(error))
        feed.error = error

    def _divided(self, split: Split, windows: list[Window]) -> dict[StoredSplit, list[Window]]:
        if split == "live":
            wanted, self.collecting = self.collecting, max(0, self.collecting - len(windows))
            return {"train": windows[:wanted]} if wanted else {}
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
        if feed.forecaster is not None or not self._job.needs_labels:
            return  # the stream itself is the truth
        if self._job.job.task == "classification" and label.text not in classes:
            text = self._counted(label.text)
            if not self.refused_labels[text]:
                self._log.error(
                    "label.refused",
                    source=feed.options.name,
                    label=label.text[:LONGEST_TEXT],
                    allowed=",".join(classes),
                    remedy="correct the label at its source, or add the class to the job",
                )
            self.refused_labels[text] += 1
            return
        if feed.options.split != "live" or self._collects:
            self._store.add_labels([label])
