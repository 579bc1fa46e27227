# SPDX-License-Identifier: Apache-2.0
"""What comes of windows: predictions and alarms on disk, and how far they have been published."""

import sqlite3
from collections.abc import Sequence

from fedmill_agent.store import alarms, bounds, cursors, predictions
from fedmill_agent.store.cursors import Published
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.writer import ROW_BYTES, StoreWriter


class OutcomeStore(StoreWriter):
    """Writes predictions, alarms, and the places up to which others have them.

    Every method raises StoreError if the file cannot be read or written.
    """

    def add_predictions(self, said: Sequence[Prediction]) -> None:
        """Store what the model said in one transaction; the newest ones are kept."""
        if said:
            self._write(lambda database: self._add_predictions(database, said))

    def add_alarm(self, name: str, state: str, at_ns: int, record: str) -> int:
        """Store that the alarm ``name`` is in ``state`` since ``at_ns``; the id of the row.

        ``record`` is a JSON object with all that is said of it; it is published as it is. Rows are
        only added, one for each turn of an alarm, and the oldest are given up.

        Raises:
            DataError: the record has more than 4096 bytes.
        """
        most = self._most(alarms.LONGEST_RECORD)
        return self._write(
            lambda database: alarms.insert(database, name, state, at_ns, record=record, most=most)
        )

    def begin_publishing(self, table: Published, *, everything: bool = False) -> None:
        """Remember from now on how far ``table`` has been published; what is known stays.

        It begins behind what is there, or before ``everything``.
        """
        self._write(lambda database: cursors.begin(database, table, everything=everything))

    def end_publishing(self, table: Published) -> None:
        """Forget how far ``table`` has been published."""
        if self._read(lambda database: cursors.place(database, table)) is not None:
            self._write(lambda database: cursors.end(database, table))

    def published(self, table: Published, to: int, *, lost: int = 0) -> None:
        """All rows of ``table`` up to ``to`` are told, but for ``lost`` that nobody will hear."""

        def work(database: sqlite3.Connection) -> None:
            cursors.move(database, table, to)
            cursors.lose(database, table, lost)

        self._write(work)

    def _add_predictions(self, database: sqlite3.Connection, said: Sequence[Prediction]) -> None:
        last = bounds.last_prediction(database)
        predictions.insert(database, said)
        row_bytes = predictions.row_bytes(said, ROW_BYTES)
        room = self._rules.predictions_max_bytes or self._max_bytes // 8
        bounds.hold_predictions(
            database,
            self._rules,
            most=room // row_bytes,
            last=last,
            row_bytes=row_bytes,
            now_ns=self._clock.now_ns(),
        )
