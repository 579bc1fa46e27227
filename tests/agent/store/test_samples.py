# SPDX-License-Identifier: Apache-2.0
"""A recording of raw samples: what comes back, in which order, and what goes to make room."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.small_disk import MIB, SmallDisk, small_disk

from fedmill_agent.config import StoreSection
from fedmill_agent.places import sampled_sources, samples_file
from fedmill_agent.sources.live import BAD, GOOD, STALE, Readings
from fedmill_agent.store import samples, samples_chunks
from fedmill_agent.store.ring import Discard, file_bytes, used_bytes
from fedmill_agent.store.samples import Keep, SampleStore, recording
from fedmill_agent.store.samples_reader import SampleReader
from fedmill_agent.store.samples_ring import MOST_AGED
from fedmill_agent.store.space import Level
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import DataError, StoreError

NOW = 1_700_000_000_000_000_000
SECOND = 10**9
DAY = 86400.0
FAST = 5000


def readings(
    tag: str,
    times: Sequence[int],
    *,
    values: Sequence[float] | None = None,
    quality: int = GOOD,
    arrived: int = NOW,
    text: str = "",
) -> Readings:
    """Readings of one tag; a value is its time unless told otherwise."""
    return Readings(
        tag,
        np.array(times, np.int64),
        np.array(times if values is None else values, np.float64),
        np.full(len(times), quality, np.uint16),
        arrived,
        text,
    )


def second(n: int, *tags: str, rate: int = 10) -> list[Readings]:
    """Second ``n`` of some tags, ``v`` unless others are named."""
    times = [n * SECOND + i * (SECOND // rate) for i in range(rate)]
    return [readings(tag, times, arrived=NOW + n) for tag in tags or ("v",)]


def keep(max_bytes: int = 1 << 26, discard: Discard = "oldest", level: Level = "ample") -> Keep:
    """A week."""
    return Keep(max_bytes, 7 * DAY, discard, lambda: level)


def open_store(
    path: Path, kept: Keep | None = None, clock: ManualClock | None = None, **fields: int
) -> SampleStore:
    """The recording at ``path``."""
    return SampleStore(path, kept or keep(), clock or ManualClock(), **fields)


def fill(store: SampleStore, first: int, last: int, rate: int = FAST) -> None:
    """Record seconds ``first`` up to ``last`` of a fast signal of noise, 40 kB each."""
    generator = np.random.default_rng(first)
    for n in range(first, last):
        [batch] = second(n, rate=rate)
        store.append([readings("v", batch.times_ns.tolist(), values=generator.normal(size=rate))])
        store.commit()


def seconds(store: SampleReader) -> list[int]:
    """The seconds of which something is there."""
    found = {int(time) // SECOND for batch in store.read(merged=True) for time in batch.times_ns}
    return sorted(found)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    """An empty recording."""
    with open_store(tmp_path / "samples" / "v.sqlite") as opened:
        yield opened


class TestRead:
    def test_everything_comes_back(self, store: SampleStore) -> None:
        """Times, values to the bit, quality, arrival and text, as they came together."""
        values = [np.nan, -0.0, 1e-320, np.inf]
        given_ = [
            readings("a", [1, 2, 3, 4], values=values, quality=BAD, arrived=11),
            readings("part", [2], values=[np.nan], arrived=12, text="B-17"),
            readings("a", [5], quality=STALE, arrived=13),
        ]
        store.append(given_)
        assert store.commit() == 6
        found = list(store.read())
        assert [(r.tag, r.arrived_ns, r.text) for r in found] == [
            ("a", 11, ""),
            ("part", 12, "B-17"),
            ("a", 13, ""),
        ]
        assert found[0].values.tobytes() == np.array(values).tobytes()
        assert [r.quality.tolist() for r in found] == [[BAD] * 4, [GOOD], [STALE]]
        assert [r.times_ns.tolist() for r in found] == [[1, 2, 3, 4], [2], [5]]
        assert {r.quality.dtype for r in found} == {np.dtype(np.uint16)}

    def test_only_what_was_asked_for(self, store: SampleStore) -> None:
        """Some tags, from a time on, to before another one."""
        for n in range(20):
            store.append(second(n, "a", "b", "c"))
            store.commit()
        found = list(store.read(["a", "c", "none"], 5 * SECOND, 7 * SECOND))
        assert [r.tag for r in found] == ["a", "c"] * 2
        times = np.concatenate([r.times_ns for r in found if r.tag == "a"])
        assert times.tolist() == [5 * SECOND + n * SECOND // 10 for n in range(20)]
        assert list(store.read([])) == []
        assert list(store.read(None, 20 * SECOND)) == []

    def test_what_is_not_committed_is_not_read(self, store: SampleStore) -> None:
        """It waits in memory."""
        store.append(second(0))
        assert (store.pending, list(store.read()), store.span()) == (10, [], None)
        store.commit()
        assert (store.pending, store.counts()) == (0, {"v": 10})
        assert store.span() == (0, 9 * SECOND // 10)

    def test_late_samples_take_their_place(self, store: SampleStore) -> None:
        """Hours that a device delivers after a pause, and a clock that jumps, are put in order."""
        late = [n * SECOND for n in range(0, 3 * 3600, 7)]
        store.append(second(5 * 3600))
        store.commit()
        store.append([readings("v", late), *second(5 * 3600 + 1)])
        store.commit()
        store.append([*second(2, "w"), *second(5 * 3600 + 2)])
        store.commit()
        times = [int(t) for r in store.read(["v"]) for t in r.times_ns]
        assert times == sorted(times)
        assert len(times) == len(late) + 30
        [early] = store.read(["w"])
        assert early.times_ns[0] == 2 * SECOND
        assert store.span() == (0, (5 * 3600 + 2) * SECOND + 9 * SECOND // 10)

    def test_no_tag_runs_ahead(self, store: SampleStore) -> None:
        """However long the pieces are: never more than a step, and each step by first time."""
        for n in range(0, 30, 10):
            long = [n * SECOND + i * SECOND // 2 for i in range(20)]
            store.append([readings(tag, long) for tag in ("a", "b")])
            store.commit()
        for step in (1, 5):
            firsts = [
                (int(r.times_ns[0]) // (step * SECOND), r.tag)
                for r in store.read(step_ns=step * SECOND, merged=True)
            ]
            assert firsts == [(n, tag) for n in range(30 // step) for tag in ("a", "b")]

    def test_merged(self, store: SampleStore) -> None:
        """All of a step at once, with the last arrival; texts that differ stay apart."""
        for n in range(6):
            text = "A" if n < 4 else "B"
            store.append([readings("v", [n], arrived=n), readings("part", [n], text=text)])
            store.commit()
        found = {
            (r.tag, r.text): (r.times_ns.tolist(), r.arrived_ns) for r in store.read(merged=True)
        }
        assert found == {
            ("v", ""): ([0, 1, 2, 3, 4, 5], 5),
            ("part", "A"): ([0, 1, 2, 3], NOW),
            ("part", "B"): ([4, 5], NOW),
        }

    @settings(max_examples=60)
    @given(st.data())
    def test_any_order_of_arrival(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        """Against a plain sort: the same samples, each tag in order, whatever the commits."""
        times = st.integers(0, 200).map(lambda n: n * 37 * SECOND)
        near = st.integers(0, 50)
        batch = st.tuples(
            st.sampled_from("abc"),
            st.lists(st.one_of(times, near), min_size=1, max_size=8),
            st.booleans(),
        )
        given_ = data.draw(st.lists(batch, min_size=1, max_size=12))
        since, until = sorted(data.draw(st.tuples(times, times)))
        merged = data.draw(st.booleans())
        expected = []
        with open_store(tmp_path_factory.mktemp("any") / "s") as store:
            for number, (tag, moments, ends) in enumerate(given_):
                store.append(
                    [readings(tag, moments, values=[number] * len(moments), arrived=number)]
                )
                expected += [(tag, time, number) for time in moments if since <= time < until]
                if ends:
                    store.commit()
            store.commit()
            found = list(store.read(None, since, until, merged=merged))
        samples = [
            (r.tag, int(time), int(value))
            for r in found
            for time, value in zip(r.times_ns, r.values, strict=True)
        ]
        assert sorted(samples) == sorted(expected)
        for tag in "abc":
            own = [(time, value) for name, time, value in samples if name == tag]
            assert own == sorted(own)
        firsts = [int(r.times_ns[0]) // SECOND for r in found]
        assert firsts == sorted(firsts)

    def test_a_clock_that_stands_still_fills_no_memory(
        self, store: SampleStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A million samples of one moment come in pieces, in the order of arrival."""
        monkeypatch.setattr(samples_chunks, "MOST_WAITING", 5000)
        for n in range(40):
            store.append([readings("v", [7] * 3000, values=[n] * 3000, arrived=n)])
            store.commit()
        found = list(store.read())
        assert sum(map(len, found)) == 120_000
        assert max(map(len, found)) < 80_000
        assert [r.values[0] for r in found] == list(range(40))

    def test_another_process_may_read(self, store: SampleStore) -> None:
        """Meanwhile it sees what is committed, and cannot write."""
        store.append(second(0))
        store.commit()
        with SampleReader(store._path) as reader:
            assert reader.counts() == {"v": 10}
            store.append(second(1))
            store.commit()
            assert [len(r) for r in reader.read()] == [10, 10]
            recorded = reader.recorded()
            assert (recorded.counts, recorded.discarded) == ({"v": 20}, 0)
            assert recorded.bytes > 4096

    def test_no_recording(self, tmp_path: Path) -> None:
        """The file is named."""
        with pytest.raises(StoreError, match=r"none\.sqlite"):
            SampleReader(tmp_path / "none.sqlite")


class TestCommit:
    def test_what_is_acknowledged_is_counted(self, store: SampleStore) -> None:
        """A commit of nothing is nothing; empty readings are none."""
        assert store.commit() == 0
        store.append([readings("v", [])])
        assert store.commit() == 0
        store.append(second(0, "a", "b"))
        store.append(second(1, "a"))
        assert (store.commit(), store.acknowledged) == (30, 30)
        assert store.counts() == {"a": 20, "b": 10}

    def test_readings_that_are_not_whole(self, store: SampleStore) -> None:
        """Fewer values than times: told with the tag, and nothing is half."""
        batch = readings("v", [1, 2])
        broken = Readings("w", batch.times_ns, batch.values[:1], batch.quality, NOW)
        with pytest.raises(DataError, match="tag 'w': 2 times, 1 values"):
            store.append([batch, broken])
        assert store.commit() == 2

    def test_half_characters(self, store: SampleStore) -> None:
        """A text with one (a lone surrogate) can still be written."""
        store.append([replace(readings("v", [1]), text="P-\ud8001")])
        assert store.commit() == 1
        assert [each.text for each in store.read()] == ["P-?1"]

    def test_what_can_never_be_written(
        self, store: SampleStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is counted as lost, and does not stand in the way of what comes."""
        with monkeypatch.context() as broken:
            broken.setattr(samples, "chunks_of", lambda *_: 1 // 0)
            store.append(second(0))
            with pytest.raises(ZeroDivisionError):
                store.commit()
        assert (store.pending, store.discarded) == (0, 10)
        store.append(second(1))
        assert (store.commit(), store.discarded) == (10, 10)

    def test_closing_commits(self, tmp_path: Path) -> None:
        """Nothing that was taken is left in memory."""
        with open_store(tmp_path / "s") as store:
            store.append(second(0))
        with open_store(tmp_path / "s") as store:
            assert store.counts() == {"v": 10}

    def test_a_full_memory_is_written_at_once(self, tmp_path: Path) -> None:
        """Without a call of commit nothing grows beyond its bound."""
        with open_store(tmp_path / "s", buffer_bytes=10_000) as store:
            for n in range(100):
                store.append(second(n, rate=50))
                assert store.pending <= 10_000 / 18
            assert store.counts()["v"] + store.pending == 5000
            store.append(second(100, rate=2000))  # more than fits at once
            store.commit()
            assert store.acknowledged == 7000

    def test_threads(self, store: SampleStore) -> None:
        """Three sources of threads append, one commits, one reads: nothing is lost or doubled."""
        done = threading.Event()

        def append(tag: str) -> None:
            for n in range(100):
                store.append(second(n, tag))

        def commit() -> None:
            while not done.wait(0.001):
                store.commit()
                assert all(len(r) for r in store.read())

        owner = threading.Thread(target=commit)
        owner.start()
        threads = [threading.Thread(target=append, args=(tag,)) for tag in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        owner.join()
        store.commit()
        assert store.counts() == {"a": 1000, "b": 1000, "c": 1000}
        assert store.acknowledged == 3000

    def test_a_hundred_reloads_lose_nothing(self, tmp_path: Path) -> None:
        """Opened a hundred times, each with other bounds that suffice: all is there."""
        for n in range(100):
            discard: Discard = ("oldest", "thin", "newest")[n % 3]
            with open_store(tmp_path / "s", keep((1 << 24) + n, discard)) as store:
                store.append(second(n, f"tag {n % 7}"))
                assert store.discarded == 0
        with open_store(tmp_path / "s") as store:
            assert sum(store.counts().values()) == 1000
            assert seconds(store) == list(range(100))


class TestBytes:
    def test_the_file_stops_growing(self, tmp_path: Path) -> None:
        """The newest seconds stay, and every sample is either there or counted as discarded."""
        path, limit = tmp_path / "s", 2_000_000
        with open_store(path, keep(limit)) as store:
            for n in range(0, 160, 10):
                fill(store, n, n + 10)
                assert used_bytes(store._database) <= limit
            kept = seconds(store)
            assert kept == list(range(160 - len(kept), 160))
            assert 35 < len(kept) < 50
            assert store.counts()["v"] == len(kept) * FAST
            assert store.discarded == (160 - len(kept)) * FAST
            assert store.acknowledged == 160 * FAST
        assert path.stat().st_size <= limit + 65536

    def test_newest(self, tmp_path: Path) -> None:
        """What comes is refused, counted, and not acknowledged."""
        with open_store(tmp_path / "s", keep(2_000_000, "newest")) as store:
            fill(store, 0, 60)
            kept = seconds(store)
            assert kept == list(range(len(kept)))
            assert 35 < len(kept) < 50
            assert store.acknowledged == len(kept) * FAST
            assert store.discarded == (60 - len(kept)) * FAST

    def test_thin(self, tmp_path: Path) -> None:
        """Whole seconds go, every second one of the older half: the past reaches far back."""
        with open_store(tmp_path / "s", keep(2_000_000, "thin")) as store:
            fill(store, 0, 200)
            kept = seconds(store)
            assert used_bytes(store._database) <= 2_000_000
            assert kept[0] < 20
            assert kept[-15:] == list(range(185, 200))
            assert {len(r) for r in store.read(merged=True)} == {FAST}
            assert store.discarded == (200 - len(kept)) * FAST

    def test_many_tags_that_come_and_go(self, tmp_path: Path) -> None:
        """Tags of which nothing is left are forgotten too."""
        with open_store(tmp_path / "s", keep(1_000_000)) as store:
            for n in range(400):
                store.append(second(n, *(f"tag {n} {i}" for i in range(20)), rate=40))
                store.commit()
            counts = store.counts()
            assert sum(counts.values()) + store.discarded == 400 * 800
            assert len(counts) < 6000
            query = "SELECT count(*) FROM tags"
            assert store._database.execute(query).fetchone()[0] == len(counts)
            assert set(counts) == {r.tag for r in store.read(merged=True)}

    def test_a_lower_bound_makes_the_file_shorter(self, tmp_path: Path) -> None:
        """After a change of the configuration the disk gets its space back, step by step."""
        path = tmp_path / "s"
        with open_store(path) as store:
            fill(store, 0, 200)
        assert path.stat().st_size > 7_000_000
        with open_store(path, keep(2_000_000)) as store:
            for n in range(200, 215):
                fill(store, n, n + 1)
            assert seconds(store)[-1] == 214
        assert path.stat().st_size < 3_100_000


class TestAge:
    def test_samples_leave_a_week_after_they_came(self, tmp_path: Path) -> None:
        """Age is time in the store: what a device measured long ago is not old on arrival."""
        clock = ManualClock()
        with open_store(tmp_path / "s", clock=clock) as store:
            store.append(second(0))
            store.commit()
            clock.advance(4 * DAY)
            store.append(second(1))
            store.commit()
            clock.advance(3 * DAY + 1)
            store.append(second(2))
            store.commit()
            assert seconds(store) == [1, 2]
            assert store.discarded == 10

    def test_also_where_nothing_comes(self, tmp_path: Path) -> None:
        """A source that is switched off leaves nothing behind after a week."""
        clock = ManualClock()
        with open_store(tmp_path / "s", clock=clock) as store:
            store.append(second(0))
            store.commit()
            clock.advance(8 * DAY)
            assert store.commit() == 0
            assert (store.span(), store.counts()) == (None, {})

    def test_a_wrong_clock_wipes_nothing(self, tmp_path: Path) -> None:
        """A year ahead for one second costs a few minutes of samples, not all."""
        clock = ManualClock()
        with open_store(tmp_path / "s", clock=clock) as store:
            for n in range(MOST_AGED + 50):
                store.append(second(n, rate=1))
                store.commit()
            clock.advance(365 * DAY)
            store.append(second(1000))
            store.commit()
            assert len(seconds(store)) == 51


class TestLevel:
    @pytest.mark.parametrize("discard", ["oldest", "thin"])
    def test_a_low_disk_gets_space_back(self, tmp_path: Path, discard: Discard) -> None:
        """A sixteenth at a time, down to a megabyte; what comes is still recorded."""
        level: list[Level] = ["ample"]
        kept = Keep(1 << 26, DAY, discard, lambda: level[0])
        with open_store(tmp_path / "s", kept) as store:
            fill(store, 0, 200)
            before = file_bytes(store._database)
            level[0] = "low"
            fill(store, 200, 210)
            assert file_bytes(store._database) < 0.7 * before
            assert seconds(store)[-1] == 209
            fill(store, 210, 260)
            assert used_bytes(store._database) <= 1_100_000
            level[0] = "ample"
            fill(store, 260, 300)
            assert seconds(store)[-20:] == list(range(280, 300))
            found = sum(store.counts().values())
            assert found + store.discarded == 300 * FAST

    def test_a_low_disk_refuses_with_newest(self, tmp_path: Path) -> None:
        """What is there stays."""
        level: list[Level] = ["ample"]
        kept = Keep(1 << 26, DAY, "newest", lambda: level[0])
        with open_store(tmp_path / "s", kept) as store:
            fill(store, 0, 40)
            level[0] = "low"
            fill(store, 40, 50)
            level[0] = "ample"
            fill(store, 50, 52)
            assert seconds(store) == [*range(40), 50, 51]
            assert store.discarded == 10 * FAST

    def test_a_scarce_disk_takes_nothing(self, tmp_path: Path) -> None:
        """It is counted."""
        with open_store(tmp_path / "s", keep(level="scarce")) as store:
            fill(store, 0, 3)
            assert (store.acknowledged, store.counts()) == (0, {})
            assert store.discarded == 3 * FAST


class TestDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[SmallDisk]:
        """A file system of 4 MiB."""
        with small_disk(tmp_path / "disk", 4 * MIB) as disk:
            yield disk

    def test_a_full_disk_loses_nothing_that_fits_in_memory(self, disk: SmallDisk) -> None:
        """Commits fail and say so; with room again all is written, in order, once."""
        with open_store(disk.folder / "s") as store:
            fill(store, 0, 5, 1000)
            disk.fill()
            for n in range(5, 25):
                store.append(second(n, rate=1000))
                with pytest.raises(StoreError, match="free some space"):
                    store.commit()
            assert store.pending == 20_000
            disk.empty()
            assert store.commit() == 20_000
            assert store.acknowledged == 25_000
            assert seconds(store) == list(range(25))

    @pytest.mark.parametrize(("discard", "left"), [("oldest", 99), ("newest", 1)])
    def test_a_full_memory_too(self, disk: SmallDisk, discard: Discard, left: int) -> None:
        """Then something must go: the oldest in memory, or what comes; it is counted."""
        with open_store(disk.folder / "s", keep(discard=discard), buffer_bytes=50_000) as store:
            fill(store, 0, 1, 1000)
            disk.fill()
            for n in range(1, 100):
                store.append(second(n, rate=100))
            assert store.pending <= 50_000 / 18
            disk.empty()
            store.commit()
            assert left in seconds(store)
            assert sum(store.counts().values()) + store.discarded == 1000 + 9900
            assert store.discarded > 5000


class TestPlaces:
    @pytest.mark.parametrize(
        "name", ["line-3", "Halle 2/Presse", "..", ".", "a" * 300, "ä" * 80, "x%2Fy", "tab\tend"]
    )
    def test_any_name_is_a_file_in_the_folder(self, tmp_path: Path, name: str) -> None:
        """It can be made there, and two names are two files."""
        path = samples_file(str(tmp_path), name)
        assert path.parent == tmp_path / "samples"
        open_store(path).close()
        [(shown, found)] = sampled_sources(str(tmp_path)).items()
        assert found == path
        assert shown == name or len(name) > 60
        assert samples_file(str(tmp_path), name + "b") != path

    def test_as_the_configuration_wants_it(self, tmp_path: Path) -> None:
        """With its bounds; 0 bytes is no recording."""
        clock = ManualClock()

        def made(section: StoreSection) -> SampleStore | None:
            return recording(section, str(tmp_path), "line", clock)

        assert made(StoreSection(samples_max_bytes=0)) is None
        assert not (tmp_path / "samples").exists()
        section = StoreSection(
            samples_max_bytes=3_000_000, samples_max_age_days=2.0, discard="thin"
        )
        store = made(section)
        assert store is not None
        with store:
            kept = store._keep
            assert (kept.max_bytes, kept.max_age_seconds, kept.discard) == (
                3_000_000,
                2 * DAY,
                "thin",
            )
