# SPDX-License-Identifier: Apache-2.0
"""Features of stored windows, a few windows at a time, and each only once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.store.portions import Labelled
from fedmill_agent.store.reader import WindowReader
from fedmill_shared.onnx_features import with_features
from fedmill_shared.onnx_session import OnnxSession

MOST_LISTED = 200_000
"""Stored windows that are looked through, evenly over all."""

Rows = dict[int, NDArray[np.float32]]


class FeatureReader:
    """Owns the features (width,) of windows of one store; for one thread at a time."""

    def __init__(self, path: Path) -> None:
        """``path`` is the store's, which another thread may write."""
        self._path = path
        self._rows: Rows = {}
        self._backbone = ""

    def windows(self) -> Labelled:
        """All training windows, with what is known of them.

        Raises:
            StoreError: the store cannot be read.
        """
        if not self._path.exists():
            return Labelled([], [], np.empty(0))
        with WindowReader(self._path) as reader:
            # A reconstruction wants no truth, and so gets all of them.
            return reader.labelled_windows("train", task="reconstruction", most=MOST_LISTED)

    def rows(self, ids: Sequence[int], session: OnnxSession, backbone: str) -> Rows:
        """Features of those windows ``ids`` that are still there; all others are forgotten.

        ``backbone`` names what makes them.

        Raises:
            StoreError: the store cannot be read.
            ModelError: the model cannot be run, or tells no features.
        """
        known = self._rows if backbone == self._backbone else {}
        rows = {each: known[each] for each in ids if each in known}
        missing = [each for each in ids if each not in rows]
        if missing:
            with WindowReader(self._path) as reader:
                for there, values in reader.portions(missing):
                    rows.update(zip(there, with_features(session, values)[1], strict=True))
        self._rows, self._backbone = rows, backbone
        return {each: rows[each] for each in ids if each in rows}
