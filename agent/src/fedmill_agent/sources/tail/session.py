# SPDX-License-Identifier: Apache-2.0
"""CSV files, followed while something else writes them."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedmill_agent.sources.csv.track import Label
from fedmill_agent.sources.live import Delivered, Found
from fedmill_agent.sources.pace import Pace
from fedmill_agent.sources.position import Position
from fedmill_agent.sources.tail.folder import Folder, Place
from fedmill_agent.sources.tail.options import TailOptions
from fedmill_agent.sources.tail.rows import Batch, RowReader, missing_words, readings, value_of
from fedmill_agent.sources.tail.stretch import Stretch
from fedmill_agent.sources.tail.tracked import Tracked
from fedmill_shared.clock import Clock
from fedmill_shared.errors import SourceError

REST_SECONDS = 5.0
"""Time without a row after which the label of the last ones is told."""


class TailSession:
    """Files that are looked at again and again; nothing of them is ever changed."""

    def __init__(
        self,
        options: TailOptions,
        tags: Sequence[str],
        position: Position[Place],
        clock: Clock,
    ) -> None:
        """Go on where ``position`` says, or begin as the options say.

        Raises:
            SourceError: the folder cannot be read.
        """
        self.counts: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self._options = options
        run_tag = [options.run_tag] if options.run_tag in tags else []
        self._tags = list(dict.fromkeys([*run_tag, *tags]))  # runs are named before their values
        self._position = position
        self._clock = clock
        self._pace = Pace(options.interval_seconds, clock, self.counts)
        self._folder = Folder(
            options.path, bool(options.time_column), clock.monotonic, counts=self.counts
        )
        self._reader = RowReader(options, [*tags, options.label_column], self.counts)
        self._stretch = Stretch()
        self._heard = clock.monotonic()
        self._more = False
        self._begin()

    def read(self, timeout: float) -> Sequence[Delivered]:
        """The next rows, up to a mebibyte of one file, once it is time to look.

        Raises:
            SourceError: the folder or the file cannot be read.
        """
        if not self._position.take():
            self.counts["position not kept"] += 1
        if not self._more and not self._pace.due(timeout):
            return []
        try:
            delivered = self._next()
        except OSError as error:
            raise SourceError(
                f"{self._options.path}: {error.strerror or error}",
                remedy="check the disk or the network folder",
            ) from error
        self._position.reach(self._folder.place())
        return delivered

    def close(self) -> None:
        """Close all files; what was handed over counts as read."""
        self._position.close()
        self._folder.close()

    def _begin(self) -> None:
        self._folder.check()
        place = self._position.load(self._options.path)
        if place is not None:
            self._folder.resume(place)
        elif self._options.start == "end":
            try:
                for tracked in self._folder.skip():
                    self._reader.skip(tracked)
            except (OSError, SourceError):
                self._folder.close()
                raise
        self._position.reach(self._folder.place())

    def _next(self) -> list[Delivered]:
        now_ns = self._clock.now_ns()
        self._more = False
        for tracked in self._folder.pending():
            whole = self._folder.is_finished(tracked)
            before = tracked.mark.offset
            batches = self._reader.take(tracked, whole=whole, now_ns=now_ns)
            self._more = self._more or tracked.mark.offset > before
            if batches:
                self._heard = self._clock.monotonic()
                return [
                    each for batch in batches for each in self._delivered(batch, tracked, now_ns)
                ]
        if self._folder.problem:
            self.problems |= dict.fromkeys(self._tags, self._folder.problem)
        quiet = self._clock.monotonic() - self._heard >= REST_SECONDS
        return list(self._stretch.rest()) if quiet else []

    def _delivered(self, batch: Batch, tracked: Tracked, now_ns: int) -> Iterator[Delivered]:
        for tag in self._tags:
            if tag not in batch.names:
                self.problems[tag] = missing_words(tracked.path, tag, batch.names)
                continue
            self.problems.pop(tag, None)
            for each in readings(batch, tag, self._options.dialect, now_ns):
                self.counts["type"] += (
                    len(each) if each.text and tag != self._options.run_tag else 0
                )
                yield each
        if self._options.label_column in batch.names:
            yield from self._labels(batch)

    def _labels(self, batch: Batch) -> Iterator[Delivered]:
        own = self._options
        at = batch.names.index(own.label_column)
        run_at = batch.names.index(own.run_tag) if own.run_tag in batch.names else -1
        for time_ns, row in zip(batch.times_ns, batch.rows, strict=True):
            run = own.unit or own.name
            if own.run_tag:
                name = self._run_name(row[run_at]) if run_at >= 0 else ""
                if not name:
                    continue
                run = f"{run}/{name}"
            yield from self._stretch.take(run, time_ns, self._label(row[at]))

    def _label(self, cell: str) -> Label:
        if self._options.label_kind == "class":
            return cell.strip() or None
        value, _ = value_of(cell, self._options.dialect)
        return None if math.isnan(value) else value

    def _run_name(self, cell: str) -> str:
        """As the samples of the run are called."""
        value, text = value_of(cell, self._options.dialect)
        return text or ("" if math.isnan(value) else f"{value:.15g}")


def columns_of(options: TailOptions, clock: Clock) -> Iterator[Found]:
    """The columns of the newest file, each with its cell in the last line that was read.

    Raises:
        SourceError: there is no file, it has no header, or cannot be read.
    """
    counts: Counter[str] = Counter()
    folder = Folder(options.path, copies=False, monotonic=clock.monotonic, counts=counts)
    reader = RowReader(options, [], counts)
    try:
        opened = folder.skip()
        if not opened:
            raise SourceError(
                f"source {options.name!r}: there is no file {options.path}", remedy="correct `path`"
            )
        newest = opened[-1]
        batches = reader.take(newest, whole=True, now_ns=clock.now_ns())
        newest.restart()
        names = batches[-1].names if batches else reader.header(newest)
        if not names:
            raise SourceError(
                f"{newest.path}: has no header yet", remedy="wait until it has, or give `columns`"
            )
        last = batches[-1].rows[-1] if batches else [""] * len(names)
        for name, cell in zip(names, last, strict=True):
            kind = "time" if name == options.time_column else _type(cell, options)
            yield Found(name, type=kind, value=cell.strip()[:200], note=Path(newest.path).name)
    finally:
        folder.close()


def _type(cell: str, options: TailOptions) -> str:
    return "text" if value_of(cell, options.dialect)[1] else "number"
