# SPDX-License-Identifier: Apache-2.0
"""Remaining useful life from maintenance events: what ended tells how long it still had to go.

Every event ends a life and begins the next. A window counts down to the first event after it,
linearly in time (Heimes, "Recurrent neural networks for remaining useful life estimation", PHM
2008, who also caps what is far from its end). What has not ended yet is censored: nobody knows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.store.dataset import LabelRow, WindowRow
from fedmill_agent.store.joining import Joining, Places, TruthRow, WindowIndex

_Events = list[tuple[int, int]]
_Whose = tuple[str, str, str]


def remaining(
    windows: Sequence[WindowRow],
    labels: Sequence[LabelRow],
    truths: Sequence[TruthRow],
    joining: Joining,
) -> NDArray[np.float64]:
    """Life (n,) from each window's end to the next event, in units of the job; NaN if unknown.

    An event of a machine ends the life of the machine, one of a part or of a recording that of the
    part or recording. Where both are known, what comes first counts. A window that an event falls
    into belongs to no life.
    """
    index = WindowIndex(windows)
    events: dict[_Whose, _Events] = {}
    for truth in truths:
        if truth.start_ns is not None and truth.end_ns is not None and _ends(truth.text, joining):
            whose = truth.unit, truth.piece, ""
            events.setdefault(whose, []).append((truth.start_ns, truth.end_ns))
    for label in labels:
        if _ends(label.text, joining):
            events.setdefault(("", "", label.run), []).append((label.start_ns, label.end_ns))
    runs = _runs(windows) if labels else {}
    lives = np.full(len(windows), np.inf)
    for (unit, piece, run), known in events.items():
        places = runs.get(run, np.empty(0, np.intp)) if run else index.of(unit, piece)[0]
        _count_down(lives, index, places, known, joining.unit_ns)
    return np.where(np.isfinite(lives), lives, np.nan)


def _ends(text: str, joining: Joining) -> bool:
    return not joining.events or text in joining.events


def _runs(windows: Sequence[WindowRow]) -> dict[str, Places]:
    found: dict[str, list[int]] = {}
    for position, window in enumerate(windows):
        found.setdefault(window.run, []).append(position)
    return {run: np.array(places, np.intp) for run, places in found.items()}


def _count_down(
    lives: NDArray[np.float64], index: WindowIndex, places: Places, events: _Events, unit_ns: float
) -> None:
    """Shorten ``lives`` at ``places`` to the next event; NaN where a window lies in one."""
    events.sort()
    begins = np.array([begin for begin, _ in events], np.int64)
    last_end = np.maximum.accumulate(np.array([end for _, end in events], np.int64))
    starts, ends = index.starts[places], index.ends[places]
    coming = np.searchsorted(begins, ends, "left")
    known = coming < len(begins)
    left = np.full(len(places), np.inf)
    life = begins[coming[known]] - ends[known]
    # What is more than 292 years long has gone round.
    far = begins[coming[known]].astype(np.float64) - ends[known]
    left[known] = np.where(life >= 0, life, far) / unit_ns
    gone = coming > 0
    inside = np.zeros(len(places), np.bool_)
    inside[gone] = last_end[coming[gone] - 1] > starts[gone]
    left[inside] = np.nan
    lives[places] = np.minimum(lives[places], left)  # NaN stays
