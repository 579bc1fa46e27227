# SPDX-License-Identifier: Apache-2.0
"""From readings to chunks that are short in time, and back to readings in the order of time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.sources.live import Readings
from fedmill_agent.store.samples_codec import MOST_SAMPLES, Chunk, Whole

GAP_NS = 60 * 10**9
"""Samples that are farther apart than this come into different chunks."""
SPAN_NS = 3600 * 10**9
"""Longest time that one chunk covers."""
MOST_WAITING = 1 << 18
"""Samples that are held back at most until their turn in time; more may come out of order."""
_AFTER_ALL = np.iinfo(np.int64).max


def chunks_of(batches: Sequence[Readings], numbers: Mapping[str, int]) -> Iterator[Chunk]:
    """All samples of ``batches``, each in one chunk; ``numbers`` are those of their tags.

    What came together stays together, unless it is too many samples, or they lie too far apart:
    what a device delivers late does not make one chunk of today and last week.
    """
    pieces = _Pieces(
        np.array([numbers[each.tag] for each in batches], np.int64),
        np.array([each.arrived_ns for each in batches], np.int64),
        [each.text for each in batches],
    )
    counts = np.array([len(each.times_ns) for each in batches], np.int64)
    times = np.concatenate([each.times_ns for each in batches]).astype(np.int64, copy=False)
    quality = np.concatenate([each.quality for each in batches]).astype(np.int64)
    values = np.concatenate([each.values for each in batches]).astype(np.float64, copy=False)
    if len(times) <= MOST_SAMPLES and int(times.max()) - int(times.min()) <= GAP_NS:
        everything = np.arange(len(batches))
        yield pieces.chunk(everything, counts, times, quality, values)
        return
    piece = np.repeat(np.arange(len(batches)), counts)
    for chosen in _stretches(times):
        which, number = np.unique(piece[chosen], return_counts=True)
        yield pieces.chunk(which, number, times[chosen], quality[chosen], values[chosen])


@dataclass(frozen=True, slots=True)
class _Pieces:
    tags: Whole
    arrived_ns: Whole
    texts: list[str]

    def chunk(
        self,
        which: Whole,
        counts: Whole,
        times: Whole,
        quality: Whole,
        values: NDArray[np.float64],
    ) -> Chunk:
        texts = {n: self.texts[piece] for n, piece in enumerate(which.tolist())}
        return Chunk(
            tags=self.tags[which],
            counts=counts,
            arrived_ns=self.arrived_ns[which],
            texts={n: text for n, text in texts.items() if text},
            times_ns=times,
            quality=quality,
            values=values,
        )


def _stretches(times: Whole) -> Iterator[NDArray[np.intp]]:
    """Positions of samples that are close in time, each group in the order of arrival."""
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    steps = np.diff(ordered).view(np.uint64)  # modulo 2^64, so that none is too large
    cuts = np.append(np.flatnonzero(steps > GAP_NS) + 1, len(times))
    place = 0
    while place < len(times):
        cut = int(cuts[np.searchsorted(cuts, place, "right")])
        last = min(int(ordered[place]) + SPAN_NS, int(_AFTER_ALL))
        end = min(cut, place + MOST_SAMPLES, int(np.searchsorted(ordered, last, "right")))
        yield np.sort(order[place:end])
        place = end


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """Samples whose turn has not come; a row of each array is one sample."""

    times: Whole
    tags: Whole
    arrived: Whole
    texts: Whole
    quality: Whole
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Waiting":
        """Those chosen."""
        return Waiting(*(getattr(self, each.name)[chosen] for each in fields(self)))

    @staticmethod
    def joined(parts: Sequence["Waiting"]) -> "Waiting":
        """One after the other."""
        columns = zip(*(tuple(getattr(p, f.name) for f in fields(p)) for p in parts), strict=True)
        return Waiting(*(np.concatenate(column) for column in columns))


class Sorter:
    """Puts samples of chunks into the order of time; owns those whose turn has not come."""

    def __init__(self, names: Mapping[int, str], step_ns: int, *, merged: bool) -> None:
        """``names`` are those of the tags that are wanted, by their numbers."""
        self._names = names
        self._wanted = np.array(sorted(names), np.int64)
        self._step_ns = step_ns
        self._merged = merged
        self._texts = {"": 0}
        whole = np.empty(0, np.int64)
        self._waiting = Waiting(whole, whole, whole, whole, whole, np.empty(0))

    def take(self, chunks: Iterable[Chunk], since_ns: int, until_ns: int) -> None:
        """Have the samples of ``chunks`` from ``since_ns`` to before ``until_ns`` wait."""
        parts = [self._waiting]
        for chunk in chunks:
            piece = np.repeat(np.arange(len(chunk.tags)), chunk.counts)
            texts = np.zeros(len(chunk.tags), np.int64)
            for position, text in chunk.texts.items():
                texts[position] = self._texts.setdefault(text, len(self._texts))
            all_ = Waiting(
                chunk.times_ns,
                chunk.tags[piece],
                chunk.arrived_ns[piece],
                texts[piece],
                chunk.quality,
                chunk.values,
            )
            inside = (all_.times >= since_ns) & (all_.times < until_ns)
            parts.append(all_.where(inside & np.isin(all_.tags, self._wanted)))
        self._waiting = Waiting.joined(parts)

    def due(self, horizon_ns: int) -> Iterator[Readings]:
        """Readings of all whole steps before ``horizon_ns``: nothing will come before that."""
        times = self._waiting.times
        ready = times < horizon_ns // self._step_ns * self._step_ns
        if len(times) - int(ready.sum()) > MOST_WAITING:
            ready = times < horizon_ns
        if len(times) - int(ready.sum()) > MOST_WAITING:
            middle = len(times) // 2
            ready = times <= np.partition(times, middle)[middle]
        yield from self._give(ready)

    def rest(self) -> Iterator[Readings]:
        """Readings of all that still wait."""
        yield from self._give(np.ones(len(self._waiting), np.bool_))

    def _give(self, ready: NDArray[np.bool_]) -> Iterator[Readings]:
        out, self._waiting = self._waiting.where(ready), self._waiting.where(~ready)
        texts, self._texts = list(self._texts), self._forget()
        if not len(out):
            return
        out = out.where(np.lexsort((out.arrived, out.times, out.tags, out.times // self._step_ns)))
        steps = out.times // self._step_ns
        columns = (steps, out.tags, out.texts, *(() if self._merged else (out.arrived,)))
        changes = np.any([np.diff(column) != 0 for column in columns], axis=0)
        starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
        ends = np.append(starts[1:], len(out))
        for n in np.lexsort((out.times[starts], steps[starts])).tolist():
            part = slice(int(starts[n]), int(ends[n]))
            yield Readings(
                self._names[int(out.tags[part.start])],
                out.times[part],
                out.values[part],
                out.quality[part].astype(np.uint16),
                int(out.arrived[part].max()),
                texts[int(out.texts[part.start])],
            )

    def _forget(self) -> dict[str, int]:
        """The texts of what waits, and no others, numbered anew."""
        kept, numbers = np.unique(np.append(0, self._waiting.texts), return_inverse=True)
        self._waiting.texts[:] = numbers[1:]
        texts = list(self._texts)
        return {texts[n]: place for place, n in enumerate(kept.tolist())}
