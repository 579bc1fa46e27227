# SPDX-License-Identifier: Apache-2.0
import errno
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fedmill_agent.residual import REMEMBERED, Residual, ResidualState, read_residual
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.feedback import carry, compensate
from fedmill_shared.codec.frame import FrameHeader, decode_frame, encode_frame
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256
from fedmill_shared.link.outbox import Parcel
from fedmill_shared.messages import UpdateOffer

SIZE = 40
LAYOUT = "a" * 16
NOTHING = np.zeros(SIZE, np.float32)


def raw(round_: int, size: int = SIZE) -> np.ndarray:
    """What training gives in a round."""
    return np.random.default_rng(round_).normal(0, 1, size).astype(np.float32)


def parcel_of(
    delta: np.ndarray, round_: int, *, layout: str = LAYOUT, codec: str = "int8"
) -> tuple[Parcel, np.ndarray]:
    """An update that carries a compensated delta, and what the coordinator decodes."""
    header = FrameHeader(content="delta", round=round_, schema=layout, base="b" * 16, examples=1)
    frame = encode_frame(CODECS[codec], delta, header, np.random.default_rng(round_))
    _, decoded = decode_frame(frame, elements=delta.size)
    offer = UpdateOffer(
        job="press",
        round=round_,
        base="c" * 64,
        sha256=sha256(frame),
        size=len(frame),
        examples=1,
        loss=0.0,
        seconds=0.0,
    )
    left = b"" if codec == "fp32" else carry(delta, decoded).tobytes()
    return Parcel(offer, frame, left), decoded


def held(folder: Path, size: int = SIZE) -> np.ndarray:
    """The residual that the next training would add."""
    path = Residual(folder).path(LAYOUT)
    return read_residual(Path(path), size) if path else np.zeros(size, np.float32)


class TestLength:
    """The job sends other parts of the model since it was changed: the layout is the same."""

    def test_an_update_of_another_length_is_not_added_back(self, tmp_path: Path) -> None:
        """Nor is it an error: it is settled, and the residual is what it was."""
        old, _ = parcel_of(raw(1), 1)
        new, _ = parcel_of(raw(2, SIZE - 8), 2)
        residual = Residual(tmp_path)
        residual.sent(old)
        residual.sent(new)
        residual.settle(old, included=False)
        assert held(tmp_path, SIZE - 8).tobytes() == new.carry
        residual.settle(new, included=False)
        assert np.abs(held(tmp_path, SIZE - 8) - raw(2, SIZE - 8)).max() < 1e-6

    def test_a_training_of_another_length_starts_from_zeros(self, tmp_path: Path) -> None:
        """What was dropped belongs to elements that do not travel any more."""
        old, _ = parcel_of(raw(1), 1)
        Residual(tmp_path).sent(old)
        assert not held(tmp_path, SIZE - 8).any()


class TestClear:
    def test_starts_from_zeros_once(self, tmp_path: Path) -> None:
        """Told again, also by another process, it leaves alone what came since."""
        unfit, _ = parcel_of(raw(1), 1)
        newer, _ = parcel_of(raw(2), 2)
        residual = Residual(tmp_path)
        residual.sent(unfit)
        residual.clear(unfit.offer.sha256)
        assert not np.any(held(tmp_path))
        residual.sent(newer)
        for each in (residual, Residual(tmp_path)):
            each.clear(unfit.offer.sha256)
            assert held(tmp_path).tobytes() == newer.carry

    def test_without_a_residual_there_is_nothing_to_clear(self, tmp_path: Path) -> None:
        """As with a codec that drops nothing."""
        residual = Residual(tmp_path)
        residual.clear("a" * 64)
        assert residual.path(LAYOUT) == ""


class TestFate:
    def test_included_leaves_what_the_codec_dropped(self, tmp_path: Path) -> None:
        """The carry of the update is the residual."""
        delta = raw(1)
        parcel, decoded = parcel_of(delta, 1)
        residual = Residual(tmp_path)
        residual.sent(parcel)
        residual.settle(parcel, included=True)
        assert held(tmp_path).tobytes() == (delta - decoded).tobytes()

    def test_not_included_gives_the_compensated_delta_back(self, tmp_path: Path) -> None:
        """What was dropped and what was sent are together what was to be sent, to rounding."""
        before = raw(9) / 100
        compensated = compensate(raw(1), before)
        parcel, decoded = parcel_of(compensated, 1)
        residual = Residual(tmp_path)
        residual.sent(parcel)
        residual.settle(parcel, included=False)
        exact = np.frombuffer(parcel.carry, "<f4") + decoded
        assert held(tmp_path).tobytes() == exact.tobytes()
        limit = np.spacing(np.abs(decoded).max())
        np.testing.assert_allclose(held(tmp_path), compensated, rtol=0, atol=limit)

    def test_each_step_counts_once(self, tmp_path: Path) -> None:
        """Sent and settled twice, also after a restart, changes nothing."""
        parcel, _ = parcel_of(raw(1), 1)
        Residual(tmp_path).sent(parcel)
        Residual(tmp_path).settle(parcel, included=False)
        once = held(tmp_path)
        Residual(tmp_path).sent(parcel)
        Residual(tmp_path).settle(parcel, included=False)
        Residual(tmp_path).settle(parcel, included=True)
        assert held(tmp_path).tobytes() == once.tobytes()

    def test_a_fate_learned_late(self, tmp_path: Path) -> None:
        """The next update is on its way already; the first one is added to what that left."""
        first, first_decoded = parcel_of(raw(1), 1)
        residual = Residual(tmp_path)
        residual.sent(first)
        compensated = compensate(raw(2), held(tmp_path))
        second, second_decoded = parcel_of(compensated, 2)
        residual.sent(second)
        residual.settle(first, included=False)
        residual.settle(second, included=True)
        total = held(tmp_path) + second_decoded
        np.testing.assert_allclose(total, raw(1) + raw(2), atol=1e-6)
        assert np.abs(first_decoded).max() > 0.1

    @settings(max_examples=30)
    @given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6))
    def test_nothing_is_lost_or_doubled(
        self, tmp_path_factory: pytest.TempPathFactory, fates: list[tuple[bool, bool]]
    ) -> None:
        """Whatever is included, and whether it is learned at once or at the end: sums agree."""
        folder = tmp_path_factory.mktemp("residual")
        reached, waiting = NOTHING.astype(np.float64), []
        for round_, (included, late) in enumerate(fates, 1):
            parcel, decoded = parcel_of(compensate(raw(round_), held(folder)), round_)
            Residual(folder).sent(parcel)
            reached = reached + decoded * included
            if late:
                waiting.append((parcel, included))
            else:
                Residual(folder).settle(parcel, included=included)
        for parcel, included in waiting:
            Residual(folder).settle(parcel, included=included)
        made = sum(raw(round_).astype(np.float64) for round_ in range(1, len(fates) + 1))
        np.testing.assert_allclose(reached + held(folder), made, atol=1e-5)


class TestLayout:
    def test_another_layout_starts_from_nothing(self, tmp_path: Path) -> None:
        """The residual of another model is not for this one, whatever its size."""
        parcel, _ = parcel_of(raw(1), 1)
        residual = Residual(tmp_path)
        assert residual.path(LAYOUT) == ""
        residual.sent(parcel)
        assert residual.path(LAYOUT) == str(tmp_path / "residual.msgpack")
        assert residual.path("0" * 16) == ""

    @pytest.mark.parametrize("size", [SIZE, SIZE + 1])
    def test_an_update_of_an_older_layout_is_forgotten(self, tmp_path: Path, size: int) -> None:
        """Its fate comes when the model has changed: it is settled and adds nothing."""
        old, _ = parcel_of(raw(1, size), 1, layout="0" * 16)
        new, _ = parcel_of(raw(2), 2)
        residual = Residual(tmp_path)
        residual.sent(old)
        residual.sent(new)
        residual.settle(old, included=False)
        assert held(tmp_path).tobytes() == new.carry

    def test_a_frame_of_another_program_is_forgotten(self, tmp_path: Path) -> None:
        """An update that an older fedmill left in the outbox does not stop this one."""
        parcel, _ = parcel_of(raw(1), 1)
        foreign = structs.replace(parcel, frame=b"FMU0")
        residual = Residual(tmp_path)
        residual.sent(foreign)
        residual.settle(foreign, included=False)
        assert residual.path(LAYOUT) == ""

    def test_a_lossless_codec_leaves_nothing(self, tmp_path: Path) -> None:
        """There is nothing to carry, and a refused update is not added to later ones."""
        parcel, _ = parcel_of(raw(1), 1, codec="fp32")
        residual = Residual(tmp_path)
        residual.sent(parcel)
        residual.settle(parcel, included=False)
        assert residual.path(LAYOUT) == ""


class TestFile:
    @pytest.mark.parametrize("content", [b"", b"\xc1", b"\x94\x90\x90\xa4oops", b"\xff" * 50])
    def test_a_damaged_file_is_set_aside(self, tmp_path: Path, content: bytes) -> None:
        """And kept for whoever wants to know."""
        (tmp_path / "residual.msgpack").write_bytes(content)
        residual = Residual(tmp_path)
        assert residual.set_aside == tmp_path / "residual.damaged"
        assert residual.set_aside.read_bytes() == content
        assert residual.path(LAYOUT) == ""
        assert Residual(tmp_path).set_aside is None

    def test_a_flipped_bit_is_noticed(self, tmp_path: Path) -> None:
        """A vector that is not what was written is set aside, and never trained with."""
        parcel, _ = parcel_of(raw(1), 1)
        Residual(tmp_path).sent(parcel)
        path = tmp_path / "residual.msgpack"
        content = bytearray(path.read_bytes())
        content[content.index(parcel.carry) + 7] ^= 64
        path.write_bytes(content)
        assert not read_residual(path, SIZE).any()
        assert Residual(tmp_path).set_aside is not None

    def test_one_that_is_damaged_while_it_is_used_is_set_aside(self, tmp_path: Path) -> None:
        """What is not included cannot be added to it: later updates carry on from nothing."""
        first, second = parcel_of(raw(1), 1)[0], parcel_of(raw(2), 2)[0]
        residual = Residual(tmp_path)
        residual.sent(first)
        (tmp_path / "residual.msgpack").write_bytes(b"rust")
        residual.settle(first, included=False)
        assert residual.set_aside == tmp_path / "residual.damaged"
        assert residual.path(LAYOUT) == ""
        residual.sent(second)
        assert held(tmp_path).tobytes() == second.carry

    def test_one_that_cannot_be_set_aside_ends_no_daemon(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a card that failed and is for reading only since: it is an error of the disk."""
        parcel, _ = parcel_of(raw(1), 1)
        residual = Residual(tmp_path)
        residual.sent(parcel)
        (tmp_path / "residual.msgpack").write_bytes(b"rust")

        def refuse(*_: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(StoreError, match="cannot be set aside: Read-only file system"):
            residual.settle(parcel, included=False)
        assert residual.set_aside is None
        with pytest.raises(StoreError, match="cannot be set aside"):
            Residual(tmp_path)

    @pytest.mark.parametrize("end", ["sent", "settled", "read again"])
    def test_no_vector_stays_in_memory(self, tmp_path: Path, end: str) -> None:
        """It would be as large as the model, for as long as the agent lives."""
        size = 200_000
        parcel, _ = parcel_of(raw(1, size), 1)
        Residual(tmp_path).sent(parcel)
        tracemalloc.start()
        try:
            residual = Residual(tmp_path)
            if end == "sent":
                residual.sent(structs.replace(parcel, carry=bytes(4 * size)))
            elif end == "settled":
                residual.settle(parcel, included=False)
            held_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert residual.path(LAYOUT)
        assert held_bytes < size

    def test_a_file_without_a_checksum(self, tmp_path: Path) -> None:
        """Former versions wrote none; what they left is taken up."""
        vector = raw(1).astype("<f4").tobytes()
        old = {"sent": (), "settled": (), "vector": vector, "schema": LAYOUT}
        (tmp_path / "residual.msgpack").write_bytes(msgspec.msgpack.encode(old))
        residual = Residual(tmp_path)
        assert residual.set_aside is None
        assert read_residual(Path(residual.path(LAYOUT)), SIZE).tobytes() == vector

    def test_an_unreadable_file_is_an_error(
        self, tmp_path: Path, as_nobody: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """It names the file; nothing is thrown away."""
        path = tmp_path / "residual.msgpack"
        path.write_bytes(b"secret")
        path.chmod(0o000)
        with as_nobody(), pytest.raises(StoreError, match=r"residual.msgpack: cannot be read"):
            Residual(tmp_path)

    def test_the_trainer_reads_it(self, tmp_path: Path) -> None:
        """A vector of another size, or a damaged file, counts as nothing; a missing one is told."""
        path = tmp_path / "residual.msgpack"
        with pytest.raises(StoreError, match="cannot be read"):
            read_residual(path, 2)
        path.write_bytes(msgspec.msgpack.encode(ResidualState(vector=raw(1, 2).tobytes())))
        assert read_residual(path, 2).tolist() == raw(1, 2).tolist()
        assert read_residual(path, 3).tolist() == [0.0, 0.0, 0.0]
        path.write_bytes(msgspec.msgpack.encode({"vector": b"12345"}))
        assert read_residual(path, 1).tolist() == [0.0]
        path.write_bytes(b"oops")
        assert read_residual(path, 1).tolist() == [0.0]

    def test_its_memory_is_bounded(self, tmp_path: Path) -> None:
        """Only the newest digests are remembered."""
        residual = Residual(tmp_path)
        for round_ in range(1, REMEMBERED + 20):
            residual.sent(parcel_of(raw(round_), round_)[0])
        state = msgspec.msgpack.decode(
            (tmp_path / "residual.msgpack").read_bytes(), type=ResidualState
        )
        assert len(state.sent) == REMEMBERED
