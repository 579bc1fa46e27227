# SPDX-License-Identifier: Apache-2.0
"""Updates on their way to coordinators of protocol 2 and of protocol 1."""

import itertools
import os
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.kit import Journal
from tests.assembler import Assembler

from fedmill_agent.delivery import LONGEST_WAIT, OUTBOX_LIMIT, RESEND_SECONDS, Delivery
from fedmill_agent.residual import read_residual
from fedmill_shared.clock import ManualClock
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.frame import FrameHeader, decode_frame, encode_frame
from fedmill_shared.errors import FrameError, StoreError
from fedmill_shared.files import sha256
from fedmill_shared.link.blocks import TRANSFER_WINDOW, block_count, parse_block
from fedmill_shared.link.outbox import Outbox, Parcel
from fedmill_shared.link.pull import Pull
from fedmill_shared.messages import (
    BlobRequest,
    Receipt,
    RoundNotice,
    UpdateOffer,
    Wait,
    decode,
    encode,
)
from fedmill_shared.protocol import NEWEST, OLDEST

SMALL, LARGE = 24, 300_000
"""Elements of an update of one block, and of one of more blocks than a window."""
SCHEMA = "b" * 16
BASE = sha256(b"base")


@cache
def a_parcel(round_: int = 1, *, elements: int = SMALL) -> Parcel:
    """A random update, of int8 if it is small and of fp32 if it is large, and what was dropped."""
    generator = np.random.default_rng(round_)
    delta = generator.normal(0, 1, elements).astype(np.float32)
    header = FrameHeader(
        content="delta", round=round_, base=BASE[:16], schema=SCHEMA, examples=3, seed=0
    )
    codec = CODECS["int8" if elements == SMALL else "fp32"]
    frame = encode_frame(codec, delta, header, generator)
    _, decoded = decode_frame(frame, elements=elements)
    offer = UpdateOffer(
        job="press",
        round=round_,
        base=BASE,
        sha256=sha256(frame),
        size=len(frame),
        examples=3,
        loss=0.5,
        seconds=0.25,
    )
    return Parcel(offer, frame, (delta - decoded).tobytes())


def sent_of(parcel: Parcel) -> np.ndarray:
    """What the coordinator reads in a small update."""
    return decode_frame(parcel.frame, elements=SMALL)[1]


def learned(round_: int) -> np.ndarray:
    """What was learned in a round: sent and dropped together."""
    parcel = a_parcel(round_)
    return sent_of(parcel) + np.frombuffer(parcel.carry, "<f4")


class Post:
    """A delivery that can be started again, and whatever it sent."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.clock = ManualClock()
        self.journal = Journal()
        self.sent: list[tuple[str, Any]] = []
        self.training = False
        self.start()

    def start(self, protocol: int = NEWEST) -> None:
        """A new process on the same folder."""
        self.training = False
        self.delivery = Delivery(
            self.folder,
            lambda kind, message: self.sent.append((kind, message)),
            agent="a",
            busy=lambda: self.training,
            clock=self.clock,
            log=self.journal,
        )
        self.delivery.protocol = protocol

    def put(self, *parcels: Parcel) -> None:
        """Hand in updates; what is sent of them is not looked at."""
        for parcel in parcels:
            self.delivery.put(parcel)
        self.sent.clear()

    def taken(self) -> tuple[list[UpdateOffer], list[tuple[str, int]]]:
        """Offers, and blocks as update and index, that were sent since the last call."""
        offers = [message for kind, message in self.sent if kind == "update"]
        blocks = [parse_block(message) for kind, message in self.sent if kind == "block"]
        self.sent.clear()
        return offers, [(block.blob, block.index) for block in blocks]

    def offered(self) -> list[str]:
        """Updates that were offered since the last call."""
        return [offer.sha256 for offer in self.taken()[0]]

    def wait(self, seconds: float) -> list[str]:
        """Let time pass; which updates are offered then."""
        self.clock.advance(seconds)
        self.delivery.tick()
        return self.offered()

    def ask(self, parcel: Parcel, *missing: int) -> list[tuple[str, int]]:
        """Ask for blocks of an update; which are sent."""
        digest = parcel.offer.sha256
        self.delivery.request(BlobRequest(job="press", blob=digest, missing=list(missing)))
        return self.taken()[1]

    def receive(self, parcel: Parcel, fate: str, **fields: str) -> None:
        """The coordinator's receipt."""
        offer = parcel.offer
        self.delivery.receipt(
            Receipt(job="press", round=offer.round, sha256=offer.sha256, fate=fate, **fields)
        )

    def close(self, closed: int, *, opened: int = 0, **included: str) -> None:
        """A round closes, with the updates of these agents."""
        self.delivery.close(
            RoundNotice(job="press", round=opened, closed=closed, included=included)
        )

    def kept(self) -> set[str]:
        """Updates that are still in the outbox."""
        return {path.stem for path in (self.folder / "outbox").glob("*.update")}

    def held(self) -> np.ndarray:
        """The residual that the next training would add."""
        path = self.delivery.residual.path(SCHEMA)
        return read_residual(Path(path), SMALL) if path else np.zeros(SMALL, np.float32)


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Post:
    """A delivery with an empty outbox on a disk that need not be waited for."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return Post(tmp_path / "job")


class TestOffer:
    def test_a_small_update_follows_its_offer(self, post: Post) -> None:
        """It is whole at the coordinator before anybody asks for anything."""
        parcel = a_parcel()
        post.delivery.put(parcel)
        (kind, offer), (_, wire) = post.sent
        assert kind == "update"
        assert offer == msgspec.structs.replace(parcel.offer, protocol=2)
        assembler = Assembler()
        assembler.expect(offer.sha256, offer.size)
        assert assembler.add(parse_block(wire)) == parcel.frame

    def test_of_a_large_update_the_first_window_follows(self, post: Post) -> None:
        """The coordinator says which of the others it wants, and when."""
        parcel = a_parcel(elements=LARGE)
        digest = parcel.offer.sha256
        assert block_count(parcel.offer.size) > TRANSFER_WINDOW
        post.delivery.put(parcel)
        offers, blocks = post.taken()
        assert [offer.offered_again for offer in offers] == [False]
        assert blocks == [(digest, index) for index in range(TRANSFER_WINDOW)]

    def test_is_repeated_without_blocks_until_there_is_a_receipt(self, post: Post) -> None:
        """Every ten seconds: the coordinator may have all of it already."""
        parcel = a_parcel()
        post.put(parcel)
        assert post.wait(RESEND_SECONDS - 1) == []
        for _ in range(2):
            post.clock.advance(RESEND_SECONDS)
            post.delivery.tick()
            offer = msgspec.structs.replace(parcel.offer, protocol=2, offered_again=True)
            assert post.taken() == ([offer], [])
        post.receive(parcel, "received")
        assert post.wait(1000) == []

    @pytest.mark.parametrize("fate", ["", "received"])
    def test_is_repeated_after_a_reconnection(self, post: Post, fate: str) -> None:
        """Also when there is a receipt: what became of it may have been missed."""
        parcel = a_parcel()
        post.put(parcel)
        if fate:
            post.receive(parcel, fate)
        post.delivery.reconnected()
        assert post.offered() == [parcel.offer.sha256]

    def test_is_repeated_after_a_restart(self, post: Post) -> None:
        """All that are on disk, the oldest round first."""
        parcels = [a_parcel(round_) for round_ in (3, 1, 2)]
        post.put(*parcels)
        post.start()
        assert post.delivery.latest == (3, BASE)
        assert post.wait(0) == [parcels[index].offer.sha256 for index in (1, 2, 0)]

    def test_a_damaged_parcel_is_given_up(self, post: Post) -> None:
        """It is set aside by the outbox, and nobody waits for it or asks for its blocks."""
        parcel = a_parcel()
        post.put(parcel)
        (post.folder / "outbox" / f"{parcel.offer.sha256}.update").write_bytes(b"rust")
        assert post.ask(parcel, 0) == []
        assert post.wait(RESEND_SECONDS) == post.wait(RESEND_SECONDS) == []

    @pytest.mark.parametrize("restarted", [True, False])
    def test_a_damaged_parcel_is_told(self, post: Post, *, restarted: bool) -> None:
        """Once, and where it was put; it may hold the work of a day."""
        parcel = a_parcel()
        post.put(parcel)
        path = post.folder / "outbox" / f"{parcel.offer.sha256}.update"
        path.write_bytes(b"rust")
        if restarted:
            post.start()
        for _ in range(3):
            post.wait(RESEND_SECONDS)
        told = {"path": str(path.with_suffix(".damaged"))}
        assert post.journal.of("update.set_aside") == [told]

    def test_a_damaged_residual_is_told(self, post: Post) -> None:
        """The agent goes on without it."""
        (post.folder / "residual.msgpack").write_bytes(b"rust")
        post.start()
        for _ in range(3):
            post.wait(RESEND_SECONDS)
        [told] = post.journal.of("residual.set_aside")
        assert told["path"] == str(post.folder / "residual.damaged")


class TestProtocol1:
    """A coordinator that tells no newest protocol: it takes whole updates, and asks for nothing."""

    class Offer(msgspec.Struct, frozen=True, kw_only=True):
        """The offer as software of protocol 1 reads it."""

        job: str
        round: int
        base: str
        sha256: str
        size: int
        examples: int
        loss: float
        seconds: float

    @pytest.mark.parametrize("elements", [SMALL, LARGE])
    def test_all_blocks_follow_each_offer(self, post: Post, elements: int) -> None:
        """The first and every later one; none says that blocks must be asked for."""
        post.start(protocol=OLDEST)
        parcel = a_parcel(elements=elements)
        post.delivery.put(parcel)
        for _ in range(2):
            offers, blocks = post.taken()
            assert offers == [parcel.offer]
            assert (offers[0].protocol, offers[0].offered_again) == (OLDEST, False)
            assert [index for _, index in blocks] == list(range(block_count(parcel.offer.size)))
            post.clock.advance(RESEND_SECONDS)
            post.delivery.tick()

    def test_understands_the_offer(self, post: Post) -> None:
        """Fields that it does not know are beside those that it does."""
        post.delivery.put(a_parcel())
        [offer], _ = post.taken()
        theirs = msgspec.msgpack.decode(encode(offer), type=self.Offer)
        assert all(getattr(theirs, f) == getattr(offer, f) for f in theirs.__struct_fields__)

    def test_a_closed_round_settles_its_update(self, post: Post) -> None:
        """Not listed, it was not used, and never will be."""
        post.start(protocol=OLDEST)
        parcel = a_parcel()
        post.put(parcel)
        post.close(1)
        assert post.kept() == set()
        np.testing.assert_allclose(post.held(), learned(1), atol=1e-6)

    def test_an_older_update_is_asked_about(self, post: Post) -> None:
        """Only a receipt tells what became of a round whose close was missed."""
        post.start(protocol=OLDEST)
        parcel = a_parcel()
        post.put(parcel)
        post.close(2)
        assert post.wait(0) == [parcel.offer.sha256]
        post.receive(parcel, "included")
        assert post.kept() == set()
        np.testing.assert_array_equal(post.held().tobytes(), parcel.carry)

    def test_an_upgraded_coordinator_is_spoken_to_anew(self, post: Post) -> None:
        """The same update, offered in protocol 1 and then in protocol 2."""
        post.start(protocol=OLDEST)
        parcel = a_parcel(elements=LARGE)
        post.put(parcel)
        post.delivery.protocol = NEWEST
        post.delivery.reconnected()
        offers, blocks = post.taken()
        assert [(offer.protocol, offer.offered_again) for offer in offers] == [(2, True)]
        assert blocks == []


class TestRequest:
    def test_is_answered_in_its_own_order(self, post: Post) -> None:
        """A window at most; the rest is asked for when that has come."""
        parcel = a_parcel(elements=LARGE)
        post.put(parcel)
        assert [index for _, index in post.ask(parcel, 9, 2, 5)] == [9, 2, 5]
        every = range(block_count(parcel.offer.size))
        assert [index for _, index in post.ask(parcel, *every)] == list(every[:TRANSFER_WINDOW])

    @given(order=st.permutations(range(10)), lost=st.sets(st.integers(0, 30), max_size=12))
    def test_fetches_the_whole_update(
        self, tmp_path_factory: pytest.TempPathFactory, order: list[int], lost: set[int]
    ) -> None:
        """In whatever order blocks are asked for, and whichever are lost on their way."""
        post = Post(tmp_path_factory.mktemp("post"))
        parcel = a_parcel(elements=LARGE)
        assert block_count(parcel.offer.size) == len(order)
        post.put(parcel)
        assembler, pull, now = Assembler(), Pull(0.0), 0.0
        assembler.expect(parcel.offer.sha256, parcel.offer.size)
        whole, numbers = None, itertools.count()
        while whole is None:
            now += 1.0
            missing = [index for index in order if index in assembler.missing(parcel.offer.sha256)]
            asked = BlobRequest(
                job="press", blob=parcel.offer.sha256, missing=pull.ask(missing, now)
            )
            post.delivery.request(asked)
            arrived = [wire for _, wire in post.sent if next(numbers) not in lost]
            post.sent.clear()
            for wire in arrived:
                whole = assembler.add(parse_block(wire))
        assert whole == parcel.frame

    @pytest.mark.parametrize("missing", [[1], [0, 1], [1 << 39]])
    def test_a_block_that_there_is_not(self, post: Post, missing: list[int]) -> None:
        """It is refused, and the delivery goes on."""
        parcel = a_parcel()
        post.put(parcel)
        with pytest.raises(FrameError, match="but the blob has 1"):
            post.ask(parcel, *missing)
        post.sent.clear()
        assert post.ask(parcel, 0) == [(parcel.offer.sha256, 0)]

    def test_for_something_else_is_ignored(self, post: Post) -> None:
        """Another agent's update, or one whose fate is known."""
        parcel = a_parcel()
        assert post.ask(parcel, 0) == []
        post.put(parcel)
        post.receive(parcel, "included")
        assert post.ask(parcel, 0) == []

    def test_postpones_the_next_offer(self, post: Post) -> None:
        """While blocks are asked for, the coordinator need not be told of the update."""
        parcel = a_parcel(elements=LARGE)
        post.put(parcel)
        for _ in range(4):
            assert post.wait(RESEND_SECONDS - 1) == []
            assert post.ask(parcel, 8, 9) != []
        assert post.wait(RESEND_SECONDS) == [parcel.offer.sha256]

    def test_reads_the_disk_once(self, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not for each window; and what is settled is not kept in memory."""
        reads: list[str] = []
        get = Outbox.get
        monkeypatch.setattr(Outbox, "get", lambda box, name: reads.append(name) or get(box, name))
        parcel = a_parcel(elements=LARGE)
        post.put(parcel)
        for block in range(5):
            post.ask(parcel, block)
        assert reads == [parcel.offer.sha256]
        post.receive(parcel, "received")
        assert post.delivery._frame == ("", b"")


class TestWait:
    def test_postpones_the_offer(self, post: Post) -> None:
        """By as long as the coordinator says, be it shorter or longer than usual."""
        parcel = a_parcel()
        post.put(parcel)
        for seconds in (2.5, 60.0):
            post.delivery.wait(Wait(job="press", sha256=parcel.offer.sha256, retry_after=seconds))
            assert post.wait(seconds - 0.5) == []
            post.clock.advance(0.5)
            post.delivery.tick()
            [offer], blocks = post.taken()
            assert (offer.sha256, offer.offered_again, blocks) == (parcel.offer.sha256, True, [])

    def test_is_never_long(self, post: Post) -> None:
        """Whatever the coordinator says, the update is offered again after a minute."""
        parcel = a_parcel()
        post.put(parcel)
        post.delivery.wait(Wait(job="press", sha256=parcel.offer.sha256, retry_after=1e9))
        assert post.wait(LONGEST_WAIT - 1) == []
        assert post.wait(1) == [parcel.offer.sha256]

    def test_for_something_else_is_ignored(self, post: Post) -> None:
        """Nothing of ours is postponed by it."""
        parcel = a_parcel()
        post.put(parcel)
        post.delivery.wait(Wait(job="press", sha256=sha256(b"other"), retry_after=1000.0))
        assert post.wait(RESEND_SECONDS) == [parcel.offer.sha256]


class TestLarge:
    @pytest.fixture
    def parcels(self, post: Post) -> list[Parcel]:
        """Two large updates, of which the first is on its way."""
        parcels = [a_parcel(round_, elements=LARGE) for round_ in (1, 2)]
        post.delivery.put(parcels[0])
        assert post.offered() == [parcels[0].offer.sha256]
        post.delivery.put(parcels[1])
        return parcels

    def test_go_one_at_a_time(self, post: Post, parcels: list[Parcel]) -> None:
        """The second is offered once the first is there."""
        first, second = parcels
        assert post.offered() == post.wait(RESEND_SECONDS - 1) == []
        post.ask(first, 8, 9)
        assert post.wait(RESEND_SECONDS - 1) == []
        post.receive(first, "received")
        assert post.wait(0) == [second.offer.sha256]

    def test_a_first_one_that_ends_makes_room(self, post: Post, parcels: list[Parcel]) -> None:
        """Whatever its fate."""
        post.receive(parcels[0], "refused")
        assert post.wait(0) == [parcels[1].offer.sha256]

    def test_small_ones_need_not_wait(self, post: Post, parcels: list[Parcel]) -> None:
        """Neither with their offers nor with their blocks."""
        small = a_parcel(3)
        post.delivery.put(small)
        offers, blocks = post.taken()
        assert [offer.sha256 for offer in offers] == [small.offer.sha256]
        assert blocks == [(small.offer.sha256, 0)]

    def test_after_a_restart_too(self, post: Post, parcels: list[Parcel]) -> None:
        """All are due at once, and go one after another."""
        post.start()
        assert post.wait(0) == [parcels[0].offer.sha256]
        post.receive(parcels[0], "received")
        assert post.wait(0) == [parcels[1].offer.sha256]


class TestLimit:
    def test_eight_that_wait_are_enough(self, post: Post) -> None:
        """Received or not; their fates are taken in all the same, and make room."""
        parcels = [a_parcel(round_) for round_ in range(1, OUTBOX_LIMIT + 1)]
        post.put(*parcels[:-1])
        assert not post.delivery.obstacle
        post.put(parcels[-1])
        post.receive(parcels[0], "received")
        assert post.delivery.obstacle == "8 updates wait for the coordinator"
        post.start()
        assert post.delivery.obstacle
        post.receive(parcels[0], "included")
        assert not post.delivery.obstacle
        assert len(post.kept()) == OUTBOX_LIMIT - 1

    def test_latest_is_what_was_put_in_last(self, post: Post) -> None:
        """Also of an older round; after a restart it is the newest that waits."""
        post.put(a_parcel(5), a_parcel(3))
        assert post.delivery.latest == (3, BASE)
        post.receive(a_parcel(5), "refused")
        assert post.delivery.refused_in == 0
        post.receive(a_parcel(3), "refused")
        assert post.delivery.refused_in == 3
        post.put(a_parcel(4), a_parcel(2))
        post.start()
        assert post.delivery.latest == (4, BASE)


class TestClose:
    def test_the_update_that_is_listed_is_settled(self, post: Post) -> None:
        """What was dropped of it stays for the next round."""
        parcel = a_parcel()
        post.put(parcel)
        post.close(1, a=parcel.offer.sha256)
        assert post.kept() == set()
        assert post.held().tobytes() == parcel.carry

    @pytest.mark.parametrize("included", [{}, {"a": sha256(b"older")}, {"b": sha256(b"b")}])
    @pytest.mark.parametrize("received", [True, False])
    def test_one_that_is_not_is_offered_again(
        self, post: Post, *, included: dict[str, str], received: bool
    ) -> None:
        """A later round may use it: only the coordinator's receipt tells that none will."""
        parcel = a_parcel()
        post.put(parcel)
        if received:
            post.receive(parcel, "received")
        post.close(1, **included)
        assert post.held().tobytes() == parcel.carry
        assert post.wait(0) == [parcel.offer.sha256]
        post.receive(parcel, "received")
        post.close(2, a=parcel.offer.sha256)
        assert post.kept() == set()
        assert post.held().tobytes() == parcel.carry

    def test_the_newest_of_several_is_listed(self, post: Post) -> None:
        """The others are asked about, and are not counted as lost."""
        parcels = [a_parcel(round_) for round_ in (1, 2)]
        post.put(*parcels)
        for parcel in parcels:
            post.receive(parcel, "received")
        post.close(2, a=parcels[1].offer.sha256)
        assert post.wait(0) == [parcels[0].offer.sha256]
        post.receive(parcels[0], "included")
        assert post.kept() == set()
        assert post.held().tobytes() == parcels[1].carry

    def test_an_update_of_a_later_round_is_left_alone(self, post: Post) -> None:
        """The result of an older round, told again, says nothing about it."""
        parcel = a_parcel(2)
        post.put(parcel)
        post.receive(parcel, "received")
        post.close(1)
        assert post.wait(1000) == []
        assert post.kept() == {parcel.offer.sha256}


class TestReceipt:
    @pytest.mark.parametrize("fate", ["included", "late", "refused"])
    def test_a_final_one_ends_it(self, post: Post, fate: str) -> None:
        """It leaves the outbox, is never offered again, and its loss is told."""
        parcel = a_parcel()
        post.put(parcel)
        post.receive(parcel, fate, code="too_stale", reason="because")
        assert post.kept() == set()
        post.delivery.reconnected()
        post.close(1)
        assert post.wait(1000) == []
        digest = parcel.offer.sha256
        told = [{"round": 1, "sha256": digest, "code": "too_stale", "reason": "because"}]
        assert post.journal.of("update.refused") == told * (fate == "refused")
        assert post.journal.of("update.late") == told * (fate == "late")
        assert post.delivery.refused_in == int(fate == "refused")

    def test_late_adds_back_what_was_sent(self, post: Post) -> None:
        """Nothing that was learned is lost."""
        parcel = a_parcel()
        post.put(parcel)
        post.receive(parcel, "late")
        np.testing.assert_allclose(post.held(), learned(1), atol=1e-6)

    def test_an_abandoned_round_gives_nothing_back(self, post: Post) -> None:
        """The update may be what it failed for."""
        parcel = a_parcel()
        post.put(parcel)
        post.receive(parcel, "late", code="abandoned")
        assert post.held().tobytes() == parcel.carry
        assert post.kept() == set()

    @pytest.mark.parametrize("code", ["damaged", "implausible"])
    @pytest.mark.parametrize("training", [True, False])
    def test_an_unfit_one_takes_what_was_dropped_of_it(
        self, post: Post, code: str, *, training: bool
    ) -> None:
        """Also after a restart; a sound update that comes too late is added back all the same."""
        sound, unfit = a_parcel(1), a_parcel(2)
        post.put(sound, unfit)
        post.training = training
        post.receive(unfit, "refused", code=code)
        assert np.any(post.held()) == training  # the training in hand has read it already
        post.training = False
        post.delivery.settle_waiting()
        assert not np.any(post.held())
        post.start()
        assert not np.any(post.held())
        assert post.kept() == {sound.offer.sha256}
        post.receive(sound, "late", code="too_stale")
        np.testing.assert_allclose(post.held(), sent_of(sound), atol=1e-6)

    def test_an_unfit_one_that_was_lost_from_the_disk_does_so_too(self, post: Post) -> None:
        """Its SHA-256 is enough."""
        parcel = a_parcel()
        post.put(parcel)
        (post.folder / "outbox" / f"{parcel.offer.sha256}.update").unlink()
        post.receive(parcel, "refused", code="implausible")
        assert not np.any(post.held())

    def test_refused_does_not(self, post: Post) -> None:
        """It would spoil the next update as well."""
        parcel = a_parcel()
        post.put(parcel)
        post.receive(parcel, "refused")
        assert post.held().tobytes() == parcel.carry

    def test_for_something_else_is_ignored(self, post: Post) -> None:
        """Nothing of ours is settled by it."""
        parcel = a_parcel()
        post.put(parcel)
        other = a_parcel(2)
        for fate in ("received", "included", "late", "refused"):
            post.receive(other, fate)
        assert post.held().tobytes() == parcel.carry
        assert post.delivery.refused_in == 0
        assert post.wait(RESEND_SECONDS) == [parcel.offer.sha256]

    def test_of_an_older_round_does_not_hide_the_newest_refusal(self, post: Post) -> None:
        """And a newer update ends the refusal of the one before it."""
        first, second, third = (a_parcel(round_) for round_ in (1, 2, 3))
        post.put(first, second)
        post.receive(second, "refused")
        post.receive(first, "refused")
        assert post.delivery.refused_in == 2
        post.put(third)
        assert post.delivery.refused_in == 0

    def test_is_a_message_of_protocol_1_too(self, post: Post) -> None:
        """Without a code: its reason alone is told."""
        parcel = a_parcel()
        post.put(parcel)
        body = {"job": "press", "round": 1, "sha256": parcel.offer.sha256, "fate": "refused"}
        payload = msgspec.msgpack.encode(body | {"reason": "the schema differs"})
        post.delivery.receipt(decode(payload, Receipt))
        [told] = post.journal.of("update.refused")
        assert (told["code"], told["reason"]) == ("", "the schema differs")


class TestSeveral:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    @pytest.mark.parametrize(
        "fates", list(itertools.product(["included", "late", "refused"], repeat=3))
    )
    def test_each_is_settled_once(
        self, post: Post, order: tuple[int, ...], fates: tuple[str, ...]
    ) -> None:
        """In any order and told twice: exactly what came too late is added back."""
        parcels = [a_parcel(round_) for round_ in (1, 2, 3)]
        post.put(*parcels)
        for index in (*order, *order):
            post.receive(parcels[index], fates[index])
        late = [sent_of(p) for p, fate in zip(parcels, fates, strict=True) if fate == "late"]
        expected = np.frombuffer(parcels[-1].carry, "<f4") + sum(late)
        np.testing.assert_allclose(post.held(), expected, atol=1e-5)
        assert post.kept() == set()

    def test_are_offered_and_answered_side_by_side(self, post: Post) -> None:
        """Each has its own time."""
        first, second = a_parcel(1), a_parcel(2)
        post.put(first)
        post.clock.advance(RESEND_SECONDS / 2)
        post.put(second)
        assert post.wait(RESEND_SECONDS / 2) == [first.offer.sha256]
        assert post.wait(RESEND_SECONDS / 2) == [second.offer.sha256]
        post.receive(first, "received")
        assert post.wait(RESEND_SECONDS) == [second.offer.sha256]


class TestBusy:
    """A training in hand may have read the residual: what is settled now would be lost."""

    def test_verdicts_wait_for_its_end(self, post: Post) -> None:
        """Then each is carried out, and none is asked about again meanwhile."""
        parcels = [a_parcel(round_) for round_ in (1, 2, 3)]
        post.put(*parcels)
        post.training = True
        for parcel, fate in zip(parcels, ("late", "refused", "included"), strict=True):
            post.receive(parcel, fate)
        post.delivery.settle_waiting()
        assert post.wait(1000) == []
        assert post.kept() == {parcel.offer.sha256 for parcel in parcels}
        assert post.held().tobytes() == parcels[2].carry
        post.training = False
        post.delivery.settle_waiting()
        assert post.kept() == set()
        expected = np.frombuffer(parcels[2].carry, "<f4") + sent_of(parcels[0])
        np.testing.assert_allclose(post.held(), expected, atol=1e-6)

    def test_what_it_leaves_does_not_hide_a_verdict(self, post: Post) -> None:
        """The next update replaces the residual; only then the late one is added."""
        first, second = a_parcel(1), a_parcel(2)
        post.put(first)
        post.training = True
        post.receive(first, "late")
        post.training = False
        post.put(second)
        post.delivery.settle_waiting()
        expected = np.frombuffer(second.carry, "<f4") + sent_of(first)
        np.testing.assert_allclose(post.held(), expected, atol=1e-6)

    @pytest.mark.parametrize("protocol", [OLDEST, NEWEST])
    def test_a_close_meanwhile_waits_too(self, post: Post, protocol: int) -> None:
        """In protocol 1 as a verdict, in protocol 2 as a question that is answered late."""
        post.start(protocol=protocol)
        parcel = a_parcel()
        post.put(parcel)
        post.training = True
        post.close(1)
        if protocol == NEWEST:
            assert post.wait(0) == [parcel.offer.sha256]
            post.receive(parcel, "late")
        assert post.held().tobytes() == parcel.carry
        post.training = False
        post.delivery.settle_waiting()
        np.testing.assert_allclose(post.held(), learned(1), atol=1e-6)

    def test_a_verdict_that_a_crash_forgot_is_asked_for(self, post: Post) -> None:
        """The update is still on disk."""
        parcel = a_parcel()
        post.put(parcel)
        post.training = True
        post.receive(parcel, "late")
        post.start()
        assert post.wait(0) == [parcel.offer.sha256]
        post.receive(parcel, "late")
        np.testing.assert_allclose(post.held(), learned(1), atol=1e-6)


class TestFullDisk:
    """What cannot be kept durably is not offered: it waits in memory for room."""

    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Something in this list keeps the outbox from being written."""
        reasons: list[str] = []
        put = Outbox.put

        def checked(box: Outbox, parcel: Parcel) -> None:
            if reasons:
                raise StoreError(reasons[0])
            put(box, parcel)

        monkeypatch.setattr(Outbox, "put", checked)
        return reasons

    def test_is_told_once_and_tried_again(self, post: Post, disk: list[str]) -> None:
        """The update goes its way as soon as there is room."""
        disk.append("outbox: No space left on device")
        parcel = a_parcel()
        post.delivery.put(parcel)
        post.delivery.reconnected()
        assert post.wait(RESEND_SECONDS) == []
        assert post.delivery.obstacle
        assert post.delivery.latest is None
        assert post.delivery.obstacle == "its update cannot be kept: the disk is full"
        assert post.journal.of("update.sent") == []
        told = {"round": 1, "error": "outbox: No space left on device"}
        assert post.journal.of("update.unsaved") == [told]
        disk.clear()
        post.delivery.tick()
        offers, blocks = post.taken()
        assert [(offer.sha256, offer.offered_again) for offer in offers] == [
            (parcel.offer.sha256, False)
        ]
        assert blocks == [(parcel.offer.sha256, 0)]
        assert not post.delivery.obstacle
        assert [sent["sha256"] for sent in post.journal.of("update.sent")] == [parcel.offer.sha256]
        assert post.delivery.latest == (1, BASE)
        assert post.held().tobytes() == parcel.carry

    def test_verdicts_wait_for_room_too(self, post: Post, disk: list[str]) -> None:
        """The residual that will be written next was made without what they would add."""
        first, second = a_parcel(1), a_parcel(2)
        post.put(first)
        disk.append("outbox: No space left on device")
        post.put(second)
        post.receive(first, "late")
        assert post.kept() == {first.offer.sha256}
        assert post.held().tobytes() == first.carry
        disk.clear()
        post.delivery.tick()
        expected = np.frombuffer(second.carry, "<f4") + sent_of(first)
        np.testing.assert_allclose(post.held(), expected, atol=1e-6)
        assert post.kept() == {second.offer.sha256}

    def test_half_of_it_is_on_disk(self, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody else can know of an update that was not offered: what is said of it is ignored."""

        def full(*_: object) -> None:
            raise StoreError("residual: No space left on device")

        parcel = a_parcel()
        with monkeypatch.context() as patch:
            patch.setattr("fedmill_agent.residual.write_atomic", full)
            post.put(parcel)
            assert post.kept() == {parcel.offer.sha256}
            assert post.ask(parcel, 0) == []
            for fate in ("received", "late"):
                post.receive(parcel, fate)
            post.close(1)
            assert post.wait(RESEND_SECONDS) == []
        assert post.wait(1) == [parcel.offer.sha256]
        assert post.held().tobytes() == parcel.carry
