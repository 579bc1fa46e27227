# SPDX-License-Identifier: Apache-2.0
"""Files of the state folder that are damaged anywhere: told or set aside, never an exception."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from fedmill_agent.labels.book import LabelBook, read_book
from fedmill_agent.labels.record import LabelRecord
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.sources.live import Readings
from fedmill_agent.store import samples_file
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.samples import Keep, SampleStore
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError
from fedmill_shared.signals.windows import Window

CASES = 60
PAGE = 4096
SECOND = 10**9


def readings(clock: ManualClock, count: int) -> Readings:
    """Noise at 1 kHz."""
    times = clock.now_ns() + np.arange(count) * 1_000_000
    values = np.random.default_rng(count).normal(size=count)
    return Readings("a", times, values, np.full(count, 192, np.uint16), int(times[-1]), "batch 7")


def window(number: int) -> Window:
    """Eight samples of one of three runs."""
    values = np.full((1, 8), number, np.float32)
    start_ns = number * SECOND
    return Window(
        run=f"r{number % 3}",
        unit="u",
        index=number,
        start_ns=start_ns,
        end_ns=start_ns + 8 * SECOND,
        values=values,
        good_share=1.0,
    )


def records(count: int, made_ns: int = 0) -> list[LabelRecord]:
    """Labels of one machine."""
    first = LabelRecord("", "", "u", "", 1, 2, "good", 0.0, 0.0, 0, False, 0)
    return [structs.replace(first, id=f"i{n}", made_ns=made_ns + n) for n in range(count)]


def samples(path: Path, clock: ManualClock) -> None:
    """Record for a while, give up what is old, read all."""
    with SampleStore(path, Keep(300_000, 10.0), clock) as store:
        for _ in range(4):
            store.append([readings(clock, 3000)])
            with suppress(StoreError):  # a read has found the damage; the next one sets it aside
                store.commit()
                store.recorded()
                store.span()
                assert sum(map(len, store.read())) >= 3000
                list(store.read(merged=True))
            clock.advance(61)
        assert store.commit() == 0
        assert store.pending == 0


def windows(path: Path, clock: ManualClock) -> None:
    """All that a daemon and its trainer do with windows."""
    with WindowStore(path, clock=clock, max_bytes=20_000, max_age_seconds=1e9) as store:
        first = random.Random(clock.now_ns()).randrange(1000, 2000)
        for number in range(first, first + 3):
            for use in (
                lambda: store.load("train"),
                lambda: store.label_report(0),
                lambda: store.begin_backfill("s", "u"),
                lambda: store.decide("unit", "u", lambda _: "train"),
                lambda n=number: store.add([window(n)], "train"),
                lambda: store.add_predictions([Prediction("q", 1, "v", np.ones(2, "<f4"), 1)]),
                lambda: store.add_labels([LabelInterval("r1", 0, 60 * SECOND, "worn")]),
                store.predictions,
                lambda: store.labels_position,
            ):
                with suppress(StoreError):
                    use()


def book(path: Path, clock: ManualClock) -> None:
    """What comes is kept, whatever becomes of what was there."""
    with LabelBook(path, clock, most=500) as store:
        store.since(0, "")
        store.take(records(310, 10**6))
        told = {entry.record.id for entry in store.since(0, "")[0]}
        assert {each.id for each in records(310)} - told == set()
        read_book(path, 50)


def fill(folder: Path) -> dict[str, Path]:
    """A file of each kind, whole."""
    clock = ManualClock()
    with SampleStore(folder / "samples", Keep(2_000_000, 1e9), clock) as recording:
        for _ in range(40):
            recording.append([readings(clock, 300)])
            recording.commit()
            clock.advance(1)
    with WindowStore(folder / "windows", clock=clock, max_bytes=10**6, max_age_seconds=1e9) as kept:
        kept.add([window(n) for n in range(200)], "train")
        kept.add_labels([LabelInterval("r1", 0, 50 * SECOND, "good")])
    with LabelBook(folder / "book", clock, most=500) as labels:
        labels.take(records(300))
    return {path.name: path for path in folder.iterdir()}


def spoil(data: bytearray, chance: random.Random) -> None:
    """A byte, many bytes, a page, or the end; not the layout's number, which is another matter."""
    match chance.randrange(4):
        case 0:
            data[chance.randrange(PAGE, len(data))] ^= chance.randrange(1, 256)
        case 1:
            for _ in range(200):
                data[chance.randrange(100, len(data))] = chance.randrange(256)
        case 2:
            first = chance.randrange(len(data) // PAGE) * PAGE
            data[first : first + PAGE] = chance.randbytes(PAGE)
        case 3:
            del data[chance.randrange(len(data)) :]


@pytest.mark.parametrize("use", [samples, windows, book])
@pytest.mark.parametrize("checked", [True, False])
def test_damage_anywhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[Path, ManualClock], None],
    *,
    checked: bool,
) -> None:
    """Nothing but errors of ours, and what comes is taken; also in a file too large for a check."""
    if not checked:
        monkeypatch.setattr(samples_file, "_CHECKED_PAGES", 0)
    (tmp_path / "whole").mkdir()
    whole = fill(tmp_path / "whole")[use.__name__].read_bytes()
    chance = random.Random(7 + checked)
    for case in range(CASES):
        folder = tmp_path / str(case)
        folder.mkdir()
        data = bytearray(whole)
        spoil(data, chance)
        (folder / "f").write_bytes(data)
        use(folder / "f", ManualClock())


def test_what_sqlite_cannot_say(tmp_path: Path) -> None:
    """A statement of the schema that is no UTF-8: Python cannot even read the error."""
    path = fill(tmp_path)["windows"]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"CREATE TABLE windows", b"CREATE T\xffBLE windows"))
    with WindowStore(path, clock=ManualClock(), max_bytes=10**6, max_age_seconds=1e9) as store:
        assert store.set_aside is not None


def test_a_wrong_letter_costs_one_window(tmp_path: Path) -> None:
    """The others of its store are learned from as before."""
    path = fill(tmp_path)["windows"]
    database = sqlite3.connect(path)
    database.execute("UPDATE windows SET run = CAST(x'7230ff' AS TEXT) WHERE id = 5")
    database.commit()
    database.close()
    with WindowStore(path, clock=ManualClock(), max_bytes=10**6, max_age_seconds=1e9) as store:
        assert store.set_aside is None
        assert sum(store.counts().values()) == 200
        assert len(store.load("train")) == 13
