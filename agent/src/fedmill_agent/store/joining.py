# SPDX-License-Identifier: Apache-2.0
"""Which window a label is about: by machine, part or batch and by time, whatever came first.

What comes out follows from the set of labels alone. The order in which they came, how often, and
whether before or after their windows makes no difference.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_agent.store.dataset import LabelRow, Truth, WindowRow, at_ends, join
from fedmill_shared.job import Labels
from fedmill_shared.signals.units import affine

_EARLIEST, _LATEST = -(2**63), 2**63 - 1

Places = NDArray[np.intp]


class Joining(Struct, frozen=True, kw_only=True):
    """How a job joins labels with its windows; the store remembers it for those who read.

    Attributes:
        source: where truth comes from, as ``[labels] from`` of the job.
        tolerance_ns: how far a window may reach beyond its label.
        conflict: what holds where labels contradict each other.
        events: what ends a life; empty: every label.
        unit_ns: ns in one unit of a remaining life.
    """

    source: Literal["source", "forecast", "event"] = "source"
    tolerance_ns: int = 0
    conflict: Literal["newest", "drop"] = "newest"
    events: tuple[str, ...] = ()
    unit_ns: float = 1e9


class TruthRow(NamedTuple):
    """A stored label that holds; ``made_ns`` and the interval may be None."""

    job: str
    id: str
    unit: str
    piece: str
    start_ns: int | None
    end_ns: int | None
    text: str
    start_value: float
    end_value: float
    made_ns: int | None
    rank: bytes
    arrived_ns: int

    @property
    def age(self) -> tuple[int, bytes, str, str]:
        """Grows from old to new, a total order: when it was made, else what it is about ended."""
        known = (self.made_ns, self.end_ns, 0)
        moment = next(each for each in known if each is not None)
        return moment, self.rank, self.job, self.id


class Match(NamedTuple):
    """The windows of one label.

    Attributes:
        places: (k,), their positions.
        excess: int64 (k,), by how much each reaches beyond the label, ns.
    """

    places: Places
    excess: NDArray[np.int64]


def joining_of(labels: Labels) -> Joining:
    """How a job with the section ``labels`` joins.

    Raises:
        SchemaError: the unit of a remaining life is no time.
    """
    source = labels.source
    return Joining(
        source=source,
        tolerance_ns=round(labels.tolerance_seconds * 1e9),
        conflict=labels.conflict,
        events=tuple(labels.events),
        unit_ns=1e9 * affine(labels.unit, "s")[0] if source == "event" else 1e9,
    )


def truth_of(
    windows: list[WindowRow],
    labels: Sequence[LabelRow],
    truths: Sequence[TruthRow],
    joining: Joining,
) -> Truth:
    """Ground truth of ``windows``, sorted by (run, end_ns, start_ns).

    Args:
        windows: those that want one.
        labels: of recordings, in their order; a later one replaces what came before.
        truths: in any order; they go before the labels of recordings.
        joining: what the job wants.
    """
    if joining.source == "forecast":
        targets = np.array([window.target for window in windows], np.float64)  # None becomes NaN
        return Truth(np.full(len(windows), "", np.object_), targets)
    if joining.source == "event":
        from fedmill_agent.store.lives import remaining  # noqa: PLC0415  few jobs need it

        return Truth(
            np.full(len(windows), "", np.object_), remaining(windows, labels, truths, joining)
        )
    truth = join(windows, labels)
    if truths:
        _join_truths(truth, windows, truths, joining)
    return truth


class WindowIndex:
    """Positions of windows, sorted by (run, end_ns, start_ns), by machine and by part."""

    def __init__(self, windows: Sequence[WindowRow]) -> None:
        self.starts = np.array([window.start_ns for window in windows], np.int64)
        self.ends = np.array([window.end_ns for window in windows], np.int64)
        self._units: dict[str, list[int]] = {}
        self._pieces: dict[str, list[int]] = {}
        self._windows = windows
        for position, window in enumerate(windows):
            self._units.setdefault(window.unit, []).append(position)
            self._pieces.setdefault(window.run, []).append(position)
            inside = window.run.removeprefix(f"{window.unit}/")
            if inside != window.run:
                self._pieces.setdefault(inside, []).append(position)
        self._sorted: dict[tuple[str, str], tuple[Places, NDArray[np.int64]]] = {}

    def of(self, unit: str, piece: str) -> tuple[Places, NDArray[np.int64]]:
        """Windows (k,) of a machine, or of a part or batch in it, and their ends, in that order."""
        if (unit, piece) not in self._sorted:
            found = self._pieces.get(piece, []) if piece else self._units.get(unit, [])
            if piece and unit:
                found = [place for place in found if self._windows[place].unit == unit]
            places = np.array(found, np.intp)
            order = np.argsort(self.ends[places], kind="stable")
            self._sorted[unit, piece] = places[order], self.ends[places[order]]
        return self._sorted[unit, piece]

    def match(self, truth: TruthRow, tolerance_ns: int) -> Match:
        """The windows that ``truth`` is about.

        A class must cover the whole window and a number its end, both but for the tolerance.
        """
        places, ends = self.of(truth.unit, truth.piece)
        if truth.start_ns is None or truth.end_ns is None:
            return Match(places, np.zeros(len(places), np.int64))
        start_ns = max(truth.start_ns - tolerance_ns, _EARLIEST)
        end_ns = min(truth.end_ns + tolerance_ns, _LATEST)
        places = places[
            np.searchsorted(ends, start_ns, "left") : np.searchsorted(ends, end_ns, "right")
        ]
        if truth.text:
            places = places[self.starts[places] >= start_ns]
        first = self.starts[places] if truth.text else self.ends[places]
        ends = self.ends[places]
        before = np.maximum(first, truth.start_ns) - first
        return Match(places, np.maximum(before, ends - np.minimum(ends, truth.end_ns)))


def matches(
    windows: Sequence[WindowRow], truths: Sequence[TruthRow], tolerance_ns: int
) -> Iterator[tuple[TruthRow, Match]]:
    """Each label with its windows, the oldest label first."""
    index = WindowIndex(windows)
    for truth in sorted(truths, key=lambda each: each.age):
        yield truth, index.match(truth, tolerance_ns)


def _join_truths(
    truth: Truth, windows: list[WindowRow], truths: Sequence[TruthRow], joining: Joining
) -> None:
    """Of the labels of a window those hold that fit it best, and of these the newest."""
    ends = np.array([window.end_ns for window in windows], np.int64)
    nearest = {kind: np.full(len(windows), _LATEST, np.int64) for kind in ("text", "number")}
    torn = {kind: np.zeros(len(windows), np.bool_) for kind in ("text", "number")}
    for each, match in matches(windows, truths, joining.tolerance_ns):
        kind = "text" if each.text else "number"
        fits = match.excess <= nearest[kind][match.places]
        places, excess = match.places[fits], match.excess[fits]
        equal = excess == nearest[kind][places]
        if each.text:
            says = np.full(len(places), each.text, np.object_)
            differs = truth.texts[places] != says
            truth.texts[places] = says
        else:
            numbers = _at(ends[places], each)
            differs = truth.numbers[places] != numbers
            truth.numbers[places] = numbers
        torn[kind][places] = equal & (torn[kind][places] | differs)
        nearest[kind][places] = excess
    truth.conflicting[:] = torn["text"] | torn["number"]
    if joining.conflict == "drop":
        truth.texts[torn["text"]] = ""
        truth.numbers[torn["number"]] = np.nan


def _at(ends: NDArray[np.int64], truth: TruthRow) -> NDArray[np.float64]:
    if truth.start_ns is None or truth.end_ns is None:
        return np.full(len(ends), truth.end_value)
    row = LabelRow("", truth.start_ns, truth.end_ns, "", truth.start_value, truth.end_value)
    return at_ends(np.clip(ends, truth.start_ns, truth.end_ns), row)
