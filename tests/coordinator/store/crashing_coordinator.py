# SPDX-License-Identifier: Apache-2.0
"""A coordinator that dies: ``python crashing_coordinator.py MODE DATABASE``.

``rounds`` runs rounds until it is killed and prints a line after each call that returned.
``close`` forks children that close round 1 and die by SIGKILL before the first, second, third ...
statement or commit, until one comes to its end; it prints what each of them left behind.
"""

import itertools
import os
import signal
import sys
from pathlib import Path

from msgspec import structs
from sqlalchemy import event

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import JobRecord, RoundRecord, UpdateRecord, VersionRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.files import sha256

AGENTS = ("press-1", "press-2", "press-3")


def name(text: str) -> str:
    """The SHA-256 that stands for ``text``."""
    return sha256(text.encode())


def version(number: int) -> VersionRecord:
    """The version that round ``number`` makes."""
    return VersionRecord(
        job="bearings",
        number=number,
        version=name(f"version {number}"),
        base=name(f"version {number - 1}") if number else None,
        weights=name(f"weights {number}"),
        delta=None,
        canary_outputs=b"",
        round=number,
        created_ns=number,
    )


def begin(store: Store) -> None:
    """The job and its first version."""
    text = name("[job]")
    store.add_job(
        JobRecord(
            name="bearings",
            text="[job]",
            sha256=text,
            state="running",
            created_ns=0,
            updated_ns=0,
        )
    )
    store.add_version(version(0))


def open_round(store: Store, number: int) -> None:
    """A round on the version before."""
    store.open_round(
        RoundRecord(
            job="bearings",
            round=number,
            base=name(f"version {number - 1}"),
            state="open",
            opened_ns=number,
            deadline_ns=number + 60,
        )
    )


def add_update(store: Store, number: int, agent: str) -> None:
    """An update of ``agent`` for round ``number``."""
    frame = name(f"{agent} {number}")
    store.add_update(
        UpdateRecord(
            job="bearings",
            round=number,
            agent=agent,
            base=name(f"version {number - 1}"),
            blob=frame,
            sha256=frame,
            examples=1,
            loss=0.5,
            wire_bytes=1,
            seconds=1.0,
            received_ns=number,
        )
    )


def close_round(store: Store, number: int) -> None:
    """The end of round ``number``, without the last agent."""
    opened = store.round("bearings", number)
    assert opened is not None
    waiting = store.pending("bearings")
    values = {field: getattr(opened, field) for field in opened.__struct_fields__}
    ended = {"state": "closed", "closed_ns": number + 30, "included": list(AGENTS[:2])}
    store.close_round(
        RoundRecord(**{**values, **ended}),
        version(number),
        included=waiting[:2],
        discarded=[structs.replace(update, state="late") for update in waiting[2:]],
        rule_state=b"%d" % number,
        downlink_residual=name(f"residual {number}"),
        job_state="running",
    )


def run_rounds(store: Store) -> None:
    """Round after round, telling each call that returned."""
    begin(store)
    for number in itertools.count(1):
        open_round(store, number)
        print("open", number, flush=True)
        for agent in AGENTS:
            add_update(store, number, agent)
            print(agent, number, flush=True)
        close_round(store, number)
        print("close", number, flush=True)


def die_closing(store: SqlStore, step: int) -> None:
    """Close round 1, but die before the ``step``-th statement or commit."""
    engine = store._database._opened()
    steps = itertools.count(1)

    def die(*_: object) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    store.jobs()
    event.listen(engine, "before_cursor_execute", die)
    event.listen(engine, "commit", die)
    close_round(store, 1)


def main() -> None:
    """Run the mode that the command line names."""
    mode, path = sys.argv[1], Path(sys.argv[2])
    if mode == "rounds":
        run_rounds(SqlStore.in_file(path))
        return
    with SqlStore.in_file(path) as store:
        begin(store)
        open_round(store, 1)
        for agent in AGENTS:
            add_update(store, 1, agent)
    # One child for each step: the imports are paid once.
    for step in itertools.count(1):
        child = os.fork()
        if child == 0:
            die_closing(SqlStore.in_file(path), step)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with SqlStore.in_file(path) as store:
            print(status, *told(store), flush=True)
        if status == 0:
            return


def told(store: Store) -> list[object]:
    """What the close changes: round, updates, versions, aliases and rule."""
    job, current = store.job("bearings"), store.round("bearings", 1)
    assert job is not None
    assert current is not None
    return [
        current.state,
        ",".join(update.state for update in store.updates("bearings", 1)),
        len(store.versions("bearings")),
        len(store.aliases("bearings")),
        job.rule_state.decode() or "-",
        len(store.live_blobs()),
    ]


if __name__ == "__main__":
    main()
