# SPDX-License-Identifier: Apache-2.0
"""Copies the coordinator's database whole: after a kill its newest rows lie in a log beside it.

A copy with older tables than the database has now stays: it is the one that a way back needs.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path


def _opened(path: str) -> sqlite3.Connection:
    """A database that is there."""
    return sqlite3.connect(f"{Path(path).as_uri()}?mode=rw", uri=True)


def _tables(path: str) -> int:
    """Version of the tables in a database; none can be read: the highest."""
    try:
        with closing(_opened(path)) as store:
            return int(store.execute("select max(version) from schema_version").fetchone()[0])
    except sqlite3.Error:
        return sys.maxsize


def main(database: str, copy: str) -> None:
    """Write `copy`, unless there is one that must stay, and say which of both it was."""
    if _tables(copy) < _tables(database):
        print("older tables are kept already")
        return
    Path(f"{copy}.new").unlink(missing_ok=True)
    with closing(_opened(database)) as store, closing(sqlite3.connect(f"{copy}.new")) as target:
        store.backup(target)
    Path(f"{copy}.new").replace(copy)
    print("copied")


if __name__ == "__main__":
    main(*sys.argv[1:])
