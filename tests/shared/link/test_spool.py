# SPDX-License-Identifier: Apache-2.0
import errno
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.files import sha256
from fedmill_shared.link import spool as module
from fedmill_shared.link.blocks import (
    BLOB_LIMIT,
    BLOCK_SIZE,
    Block,
    block_count,
    blocks_of,
    parse_block,
)
from fedmill_shared.link.spool import Spool

SIZES = [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE + 7]
FOUR = SIZES[-1]
HEADER, RECORD = 16, 12


def _blob(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def _blocks(blob: bytes, *indices: int) -> list[Block]:
    """Some blocks of ``blob``, or all."""
    return [parse_block(wire) for wire in blocks_of(blob, indices or None)]


def _expecting(folder: Path, blob: bytes) -> tuple[Spool, str]:
    spool, name = Spool(folder), sha256(blob)
    spool.expect(name, len(blob))
    return spool, name


def _half(folder: Path, blob: bytes, *indices: int) -> str:
    """What a process leaves that was killed after these blocks had come."""
    spool, name = _expecting(folder, blob)
    for block in _blocks(blob, *indices):
        spool.add(block)
    return name


def _files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


class TestArrival:
    @pytest.mark.parametrize("size", SIZES)
    def test_any_size(self, tmp_path: Path, size: int) -> None:
        """The last of its blocks makes a blob whole; its bytes are then read or moved."""
        blob = _blob(size)
        spool, name = _expecting(tmp_path, blob)
        *first, last = _blocks(blob)
        assert [spool.add(block) for block in first] == [False] * len(first)
        assert spool.add(last) is True
        assert spool.missing(name) == []
        assert spool.path(name).read_bytes() == blob
        assert spool.read(name) == blob
        assert _files(tmp_path) == []

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(size=st.sampled_from(SIZES), seed=st.integers(0, 1 << 32))
    def test_any_order_with_repeats(self, tmp_path: Path, size: int, seed: int) -> None:
        """MQTT may repeat and several senders may mix: the blob is whole once, and right."""
        blob, generator = _blob(size, seed), random.Random(seed)
        blocks = _blocks(blob)
        arriving = blocks + generator.choices(blocks, k=3)
        generator.shuffle(arriving)
        spool, name = _expecting(tmp_path, blob)
        assert [spool.add(block) for block in arriving].count(True) == 1
        assert spool.read(name) == blob
        assert not any(spool.add(block) for block in arriving)

    def test_missing_are_listed_until_they_come(self, tmp_path: Path) -> None:
        """What a receiver asks for again, as many as it wants; and how much is there."""
        blob = _blob(FOUR)
        spool, name = _expecting(tmp_path, blob)
        assert spool.missing(name) == [0, 1, 2, 3]
        assert spool.missing(name, limit=2) == [0, 1]
        assert spool.arrived(name) == 0
        for block in _blocks(blob, 3, 0, 3):
            assert spool.add(block) is False
        assert spool.missing(name, limit=8) == [1, 2]
        assert spool.arrived(name) == BLOCK_SIZE + 7

    def test_expecting_again_keeps_what_came(self, tmp_path: Path) -> None:
        """An offer is repeated after a reconnection; also one that is whole stays so."""
        blob = _blob(2 * BLOCK_SIZE)
        spool, name = _expecting(tmp_path, blob)
        spool.add(_blocks(blob, 0)[0])
        spool.expect(name, len(blob))
        assert spool.add(_blocks(blob, 1)[0]) is True
        spool.expect(name, len(blob))
        assert spool.read(name) == blob

    def test_expecting_another_size_starts_afresh(self, tmp_path: Path) -> None:
        """Blocks of a larger blob of that name must not fill the places of the smaller one's."""
        blob = _blob(3 * BLOCK_SIZE)
        name = _half(tmp_path, blob, 0, 2)
        for spool in (Spool(tmp_path), _expecting(tmp_path, blob)[0]):
            spool.expect(name, BLOCK_SIZE + 1)
            assert spool.missing(name) == [0, 1]
            assert _files(tmp_path) == []
            _half(tmp_path, blob, 0, 2)

    def test_only_the_expected_is_kept(self, tmp_path: Path) -> None:
        """Strangers' blocks, forgotten blobs and blocks of another size write nothing."""
        blob = _blob(7)
        [block] = _blocks(blob)
        spool, name = _expecting(tmp_path, blob)
        assert spool.expects(name)
        spool.forget(name)
        spool.forget("never heard of")
        assert not spool.expects(name)
        assert spool.add(block) is False
        spool.expect(name, 8)
        assert spool.add(block) is False
        assert _files(tmp_path) == []

    @pytest.mark.parametrize("size", [-1, BLOB_LIMIT + 1])
    def test_impossible_sizes_are_refused(self, tmp_path: Path, size: int) -> None:
        """Before a byte of it arrives."""
        with pytest.raises(FrameError, match=f"blob of {size} bytes exceeds"):
            Spool(tmp_path).expect("0" * 64, size)

    @pytest.mark.parametrize("name", ["", "../" + "0" * 61, "0" * 63 + "\n", "A" * 64, "0" * 65])
    def test_names_stay_in_the_folder(self, tmp_path: Path, name: str) -> None:
        """Only 64 lower-case hexadecimal digits become a file."""
        with pytest.raises(FrameError, match="is not the name of a blob"):
            Spool(tmp_path).expect(name, 1)

    def test_whole_but_wrong_is_dropped(self, tmp_path: Path) -> None:
        """Blocks that pass their checksums but are not the named blob; it can be sent again."""
        blob, other = _blob(FOUR), _blob(FOUR, seed=1)
        spool, name = _expecting(tmp_path, blob)
        *first, last = [
            Block(name, block.index, block.total, block.size, block.payload)
            for block in _blocks(other)
        ]
        for block in first:
            spool.add(block)
        with pytest.raises(FrameError, match=f"blob {name[:12]} arrived damaged"):
            spool.add(last)
        assert spool.missing(name) == [0, 1, 2, 3]
        assert _files(tmp_path) == []
        assert [spool.add(block) for block in _blocks(blob)] == [False, False, False, True]
        assert spool.read(name) == blob

    def test_memory_is_one_block(self, tmp_path: Path) -> None:
        """Forty blocks come and are checked; less than four are ever in memory."""
        blob = _blob(40 * BLOCK_SIZE)
        spool, _ = _expecting(tmp_path, blob)
        wires = list(blocks_of(blob))
        tracemalloc.start()
        try:
            assert sum(spool.add(parse_block(wire)) for wire in wires) == 1
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * BLOCK_SIZE

    def test_no_file_stays_open(self, tmp_path: Path) -> None:
        """A thousand agents may send at once."""
        before = len(list(Path("/proc/self/fd").iterdir()))
        spools = [_expecting(tmp_path / str(n), _blob(FOUR, n)) for n in range(9)]
        for n, (spool, _) in enumerate(spools):
            spool.add(_blocks(_blob(FOUR, n), 0)[0])
        assert len(list(Path("/proc/self/fd").iterdir())) == before


class TestWhole:
    def test_take_moves_it(self, tmp_path: Path) -> None:
        """The very file, not a copy; nothing stays behind, and it is forgotten."""
        blob = _blob(FOUR)
        spool, name = _expecting(tmp_path / "spool", blob)
        for block in _blocks(blob):
            spool.add(block)
        number = spool.path(name).stat().st_ino
        spool.take(name, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == blob
        assert (tmp_path / "target").stat().st_ino == number
        assert not spool.expects(name)
        assert _files(tmp_path / "spool") == []

    def test_what_is_not_whole_cannot_be_had(self, tmp_path: Path) -> None:
        """Neither a half nor a stranger."""
        blob = _blob(FOUR)
        spool, name = _expecting(tmp_path, blob)
        spool.add(_blocks(blob, 0)[0])
        for ask in (spool.path, spool.read, lambda b: spool.take(b, tmp_path / "target")):
            for each in (name, "0" * 64):
                with pytest.raises(StoreError, match="is not whole"):
                    ask(each)

    def test_whole_is_durable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One sync of the part when it is whole, and one of the folder it is moved to; no other."""
        blob = _blob(FOUR)
        synced: list[str] = []

        def note(handle: int) -> None:
            synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)

        monkeypatch.setattr(os, "fsync", note)
        spool, name = _expecting(tmp_path / "spool", blob)
        for block in _blocks(blob):
            spool.add(block)
        assert synced == [f"{name}.part"]
        (tmp_path / "shelf").mkdir()
        spool.take(name, tmp_path / "shelf" / "target")
        assert synced[1:] == ["shelf"]

    def test_one_block_needs_no_index(self, tmp_path: Path) -> None:
        """Most blobs are that small: one file is written and moved, as without a spool."""
        spool, name = _expecting(tmp_path, b"small")
        assert _files(tmp_path) == []
        assert spool.add(_blocks(b"small")[0])
        assert _files(tmp_path) == [".part"]
        assert spool.read(name) == b"small"

    def test_keep_forgets_all_others(self, tmp_path: Path) -> None:
        """Those in work, and the halves that an earlier process left."""
        old, new, other = (_blob(FOUR, seed) for seed in range(3))
        _half(tmp_path, old, 0)
        kept, gone = _half(tmp_path, new, 1), _half(tmp_path, other, 2)
        spool = Spool(tmp_path)
        for name in (kept, gone):
            spool.expect(name, FOUR)
        spool.keep({kept})
        assert {path.stem for path in tmp_path.iterdir()} == {kept}
        assert (spool.expects(kept), spool.expects(gone)) == (True, False)
        assert spool.missing(kept) == [0, 2, 3]
        spool.keep([])
        assert _files(tmp_path) == []


class TestPlaces:
    """The check beside whoever takes the blocks."""

    def test_a_blob_is_settled_once_all_is_there(self, tmp_path: Path) -> None:
        """Where it was wanted, and what is forgotten then leaves nothing."""
        blob, target = _blob(FOUR), tmp_path / "target"
        spool, name = _expecting(tmp_path, blob)
        assert [spool.place(block) for block in _blocks(blob)] == [False, False, False, True]
        assert not spool.place(_blocks(blob)[0])
        spool.settle(name, target)
        spool.forget(name)
        assert target.read_bytes() == blob
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [target]

    def test_one_that_is_another_leaves_its_pieces_to_restart(self, tmp_path: Path) -> None:
        """None of them counts afterwards, and the right ones do."""
        blob, target = _blob(FOUR), tmp_path / "target"
        spool, name = _expecting(tmp_path, blob)
        *others, last = _blocks(blob)
        spoilt = replace(last, payload=bytes(len(last.payload)))
        assert [spool.place(block) for block in (*others, spoilt)][-1]
        with pytest.raises(FrameError, match="arrived damaged"):
            spool.settle(name, target)
        assert not target.exists()
        spool.restart(name)
        assert spool.missing(name) == [0, 1, 2, 3]
        assert [spool.add(block) for block in _blocks(blob)][-1]

    def test_one_that_cannot_be_moved_takes_its_last_block_again(self, tmp_path: Path) -> None:
        """Nothing else of it is asked for."""
        blob = _blob(FOUR)
        spool, name = _expecting(tmp_path, blob)
        for block in _blocks(blob):
            spool.place(block)
        with pytest.raises(StoreError, match="No such file"):
            spool.settle(name, tmp_path / "missing" / "target")
        spool.reopen(name)
        assert spool.missing(name) == [3]
        assert spool.place(_blocks(blob)[3])
        spool.settle(name, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == blob


class TestRestart:
    def test_goes_on_where_it_was(self, tmp_path: Path) -> None:
        """Nothing is expected at first; then only what had not come is missing."""
        blob = _blob(FOUR)
        name = _half(tmp_path, blob, 3, 1)
        spool = Spool(tmp_path)
        assert not spool.expects(name)
        spool.expect(name, FOUR)
        assert spool.missing(name) == [0, 2]
        assert [spool.add(block) for block in _blocks(blob, 1, 2, 0)] == [False, False, True]
        assert spool.read(name) == blob

    @pytest.mark.parametrize("size", SIZES)
    def test_whole_but_not_taken(self, tmp_path: Path, size: int) -> None:
        """It lacks one block again, so that it becomes whole, and is checked, in one place."""
        blob = _blob(size)
        name = _half(tmp_path, blob)
        spool = Spool(tmp_path)
        spool.expect(name, size)
        [index] = spool.missing(name)
        assert spool.add(_blocks(blob, index)[0]) is True
        assert spool.read(name) == blob

    def test_killed_between_move_and_clean_up(self, tmp_path: Path) -> None:
        """An index whose part has gone is a blob of which nothing has come."""
        blob = _blob(FOUR)
        name = _half(tmp_path, blob, 0, 1)
        (tmp_path / f"{name}.part").unlink()
        spool = Spool(tmp_path)
        spool.expect(name, FOUR)
        assert spool.missing(name) == [0, 1, 2, 3]
        assert _files(tmp_path) == []

    def test_index_is_as_documented(self, tmp_path: Path) -> None:
        """Header, then 12 bytes for each block but the one that makes it whole."""
        blob = _blob(FOUR)
        name = _half(tmp_path, blob, 2, 0)
        data = (tmp_path / f"{name}.index").read_bytes()
        assert data[:12].hex() == "464d53310700060000000000"
        assert data[HEADER : HEADER + 4] == (2).to_bytes(4, "little")
        assert len(data) == HEADER + 2 * RECORD

    @pytest.mark.parametrize("cut", range(1, RECORD))
    def test_a_torn_record_is_cut_off(self, tmp_path: Path, cut: int) -> None:
        """Records that follow it are still found by the next restart."""
        blob = _blob(FOUR)
        name = _half(tmp_path, blob, 0, 1)
        os.truncate(tmp_path / f"{name}.index", HEADER + 2 * RECORD - cut)
        _half(tmp_path, blob, 3)
        spool = Spool(tmp_path)
        spool.expect(name, FOUR)
        assert spool.missing(name) == [1, 2]

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_no_damage_gives_a_wrong_blob(self, tmp_path: Path, data: st.DataObject) -> None:
        """Whatever a power cut left of both files, what is still asked for makes it whole."""
        blob = _blob(FOUR)
        Spool(tmp_path).keep([])
        indices = data.draw(st.lists(st.integers(0, 3), min_size=1, unique=True))
        name = _half(tmp_path, blob, *indices)
        for path in (tmp_path / f"{name}.index", tmp_path / f"{name}.part"):
            if path.exists():
                path.write_bytes(data.draw(_damaged(path.read_bytes())))
        spool = Spool(tmp_path)
        spool.expect(name, FOUR)
        here = set(range(4)) - set(spool.missing(name))
        assert here <= set(indices)
        for index in here:
            place = slice(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE)
            assert (tmp_path / f"{name}.part").read_bytes()[place] == blob[place]
        assert [spool.add(b) for b in _blocks(blob, *spool.missing(name))][-1] is True
        assert spool.read(name) == blob
        assert _files(tmp_path) == []

    def test_kill_in_the_middle(self, tmp_path: Path) -> None:
        """A process that is killed between two blocks has lost none of those before."""
        blob = _blob(40 * BLOCK_SIZE)
        code = (
            "import sys, random\n"
            "from pathlib import Path\n"
            "from fedmill_shared.files import sha256\n"
            "from fedmill_shared.link.blocks import blocks_of, parse_block\n"
            "from fedmill_shared.link.spool import Spool\n"
            f"blob = random.Random(0).randbytes({len(blob)})\n"
            "spool = Spool(Path(sys.argv[1]))\n"
            "spool.expect(sha256(blob), len(blob))\n"
            "for n, wire in enumerate(blocks_of(blob, range(39))):\n"
            "    spool.add(parse_block(wire))\n"
            "    print(n, flush=True)\n"
            "sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line == "20\n":
                    process.send_signal(signal.SIGKILL)
        spool, name = _expecting(tmp_path, blob)
        missing = spool.missing(name)
        assert missing == list(range(missing[0], 40))
        assert missing[0] >= 21
        assert [spool.add(block) for block in _blocks(blob, *missing)][-1] is True
        assert spool.read(name) == blob


def _damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """``content`` as it is, cut, with a flipped bit, with a hole, or with more behind it."""
    place = st.integers(0, max(0, len(content) - 1))

    def flip(where: int) -> bytes:
        return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]

    def hole(where: int) -> bytes:
        return content[:where] + bytes(len(content) - where)

    kinds = [st.just(content), place.map(lambda n: content[:n]), place.map(hole)]
    if content:
        kinds.append(place.map(flip))
    return st.one_of(*kinds, st.binary(max_size=30).map(content.__add__))


class TestFaults:
    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The block is not counted; once there is room again it is taken."""
        blob = _blob(FOUR)
        spool, name = _expecting(tmp_path, blob)
        first, *rest = _blocks(blob)

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(Spool, "_write", full)
            with pytest.raises(StoreError, match=f"{name}.part: .* No space left .*free space"):
                spool.add(first)
        assert spool.missing(name) == [0, 1, 2, 3]
        assert [spool.add(block) for block in (first, *rest)][-1] is True

    @pytest.mark.parametrize("failing", ["fsync", "file_digest"])
    def test_failing_at_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        """A blob that could not be read back or synced is not whole; the last block mends it."""
        spool, name = _expecting(tmp_path, b"small")
        [block] = _blocks(b"small")

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(os if failing == "fsync" else module.hashlib, failing, fail)
            with pytest.raises(StoreError, match="Input/output error"):
                spool.add(block)
        assert spool.missing(name) == [0]
        assert spool.add(block) is True

    @pytest.mark.parametrize(
        "call",
        [
            lambda spool, name: spool.forget(name),
            lambda spool, name: spool.keep([]),
            lambda spool, name: spool.expect(name, 1),
            lambda spool, name: Spool(spool._folder).expect(name, FOUR),
        ],
        ids=["forget", "keep", "other size", "restart"],
    )
    def test_files_that_are_folders(
        self, tmp_path: Path, call: Callable[[Spool, str], object]
    ) -> None:
        """What cannot be opened or removed is told in words."""
        blob = _blob(FOUR)
        spool, name = _expecting(tmp_path, blob)
        (tmp_path / f"{name}.index").mkdir()
        with pytest.raises(StoreError, match="cannot be read or written"):
            call(spool, name)

    def test_target_that_cannot_be_written(self, tmp_path: Path) -> None:
        """The blob stays whole, and can be taken elsewhere."""
        spool, name = _expecting(tmp_path, b"small")
        spool.add(_blocks(b"small")[0])
        with pytest.raises(StoreError, match="gone"):
            spool.take(name, tmp_path / "gone" / "target")
        assert spool.read(name) == b"small"


def test_counts() -> None:
    """The sizes above are those around the borders of blocks."""
    assert [block_count(size) for size in SIZES] == [1, 1, 1, 1, 2, 2, 4]
