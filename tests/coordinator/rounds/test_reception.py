# SPDX-License-Identifier: Apache-2.0
"""Updates on their way in: window by window, through losses, restarts and failing disks."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from fedmill_coordinator.rounds import reception
from fedmill_coordinator.rounds.reception import LARGE_AT_ONCE, PATIENT_ASKS
from fedmill_shared.errors import StoreError
from fedmill_shared.link.blocks import (
    BLOCK_SIZE,
    TRANSFER_WINDOW,
    block_count,
    blocks_of,
    parse_block,
)
from fedmill_shared.link.spool import Spool
from fedmill_shared.messages import Reason, UpdateOffer

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"
LAST = 11
"""Index of the last block of a large update."""


@pytest.fixture
def large(make_world: Make) -> SimpleNamespace:
    """A world whose updates are 1.5 MB, twelve blocks."""
    world = make_world(hidden=[600, 600], uplink="fp32", goal=2, rounds=9).running(A, B, C)
    world.voice.said.clear()
    return world


def again(offer: UpdateOffer, **fields: Any) -> UpdateOffer:
    """The same offer, as it is made when no block follows."""
    return structs.replace(offer, offered_again=True, **fields)


def asked(world: SimpleNamespace) -> list[list[int]]:
    """Blocks that were asked for since the last look."""
    return [request.missing for request in world.voice.take("request")]


def fates(world: SimpleNamespace) -> list[str]:
    """Fates in the receipts since the last look."""
    return [receipt.fate for receipt in world.voice.take("receipt")]


class TestWindows:
    def test_the_rest_is_asked_for(self, large: SimpleNamespace) -> None:
        """Eight blocks come unasked; when they are there, the others are asked for."""
        offer, frame = large.update(A)
        assert block_count(len(frame)) == LAST + 1
        large.offer(A, offer)
        large.blocks(A, frame, range(TRANSFER_WINDOW - 1))
        assert asked(large) == []
        large.blocks(A, frame, [TRANSFER_WINDOW - 1])
        assert asked(large) == [[8, 9, 10, 11]]
        large.blocks(A, frame, [8, 9, 10])
        assert fates(large) == asked(large) == []
        large.blocks(A, frame, [11])
        assert fates(large) == ["received"]
        assert large.files.get(offer.sha256, len(frame)) == frame

    def test_offered_again(self, large: SimpleNamespace) -> None:
        """No block follows such an offer: a window is asked for at once."""
        offer, frame = large.update(A)
        large.offer(A, again(offer))
        assert asked(large) == [list(range(8))]
        assert [receipt.fate for receipt in large.send(A, again(offer), frame)] == ["received"]

    def test_holes_are_asked_for(self, large: SimpleNamespace) -> None:
        """The last block of a window tells which of it were lost."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, [0, 1, 4, 5, 7])
        assert asked(large) == [[2, 3, 6, 8, 9, 10, 11]]

    def test_silence_is_broken(self, large: SimpleNamespace) -> None:
        """Where the end of a window was lost, it is asked for after two seconds."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, [0, 1, 2])
        large.clock.advance(1.9)
        large.step()
        assert asked(large) == []
        large.clock.advance(0.1)
        large.step()
        assert asked(large) == [[3, 4, 5, 6, 7, 8, 9, 10]]

    def test_nobody_is_asked_for_ever(self, large: SimpleNamespace) -> None:
        """Five windows in vain, then the agent has to offer again; what came is not lost."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, [0])
        large.wait(60)
        assert len(asked(large)) == PATIENT_ASKS
        large.offer(A, again(offer))
        large.wait(60)
        assert len(asked(large)) == PATIENT_ASKS
        assert [receipt.fate for receipt in large.send(A, again(offer), frame)] == ["received"]

    def test_who_is_offline_is_not_asked(self, large: SimpleNamespace) -> None:
        """It offers again when it is back."""
        large.offer(A, large.update(A)[0])
        large.seen(A, online=False)
        large.wait(9)
        assert asked(large) == []
        large.seen(A)
        large.wait(3)
        assert asked(large) != []

    def test_twice_is_harmless(self, large: SimpleNamespace) -> None:
        """Blocks that are there already, and offers while blocks are on their way."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, [0, 1, 1, 0, 2])
        large.offer(A, again(offer))
        assert asked(large) == [[3, 4, 5, 6, 7, 8, 9, 10]]
        large.blocks(A, frame, [3, 4, 5, 6, 7, 8, 9, 10, 10])
        large.blocks(A, frame, [11, 11])
        assert fates(large) == ["received"]
        assert len(large.rows.updates("tiny", 1)) == 1

    def test_the_round_closes_on_the_way(self, large: SimpleNamespace) -> None:
        """The half that is there stays; the whole counts in the next round."""
        offer, frame = large.update(C)
        large.offer(C, offer)
        large.blocks(C, frame, range(5))
        large.deliver(A, B)
        assert large.number == 2
        large.offer(C, again(offer))
        assert asked(large) == [[5, 6, 7, 8, 9, 10, 11]]
        large.blocks(C, frame, range(5, 12))
        assert fates(large) == ["received"]


class TestRestart:
    """What has come of an update survives a kill."""

    def spooled(self, world: SimpleNamespace) -> list[Path]:
        """Files of half-arrived updates."""
        return sorted(path for path in (world.folder / "spool").rglob("*") if path.is_file())

    def test_only_what_is_missing_is_asked_for(self, large: SimpleNamespace) -> None:
        """The blocks on disk count, and the log tells how many bytes they are."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, [0, 1, 2, 5, 11])
        large.restart()
        large.offer(A, again(offer))
        assert asked(large) == [[3, 4, 6, 7, 8, 9, 10]]
        with capture_logs() as logs:
            large.blocks(A, frame, [3, 4, 6, 7, 8, 9, 10])
        assert fates(large) == ["received"]
        [told] = [each for each in logs if each["event"] == "update.received"]
        assert told["resumed_bytes"] == 4 * BLOCK_SIZE + len(frame) % BLOCK_SIZE
        assert (told["bytes"], told["staleness"]) == (len(frame), 0)
        assert self.spooled(large) == []

    @pytest.mark.parametrize("after", [1, 7, 8, 9, 11, 12])
    def test_after_any_block(self, large: SimpleNamespace, after: int) -> None:
        """Wherever it is killed, the update arrives once, and no block comes twice."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, range(min(after, LAST)))
        if after > LAST:  # killed when all is there and nothing of it recorded
            large.fuse.at = large.fuse.burnt + 1
            with pytest.raises(BaseException, match=r"^$"):
                large.blocks(A, frame, [LAST])
            assert large.rows.updates("tiny", 1) == []
        large.restart()
        sent = 0
        large.offer(A, again(offer))
        while requests := asked(large):
            for missing in requests:
                sent += len(missing)
                large.blocks(A, frame, missing)
        assert fates(large) == ["received"]
        assert sent == LAST + 1 - (after if after <= LAST else 0)
        assert [update.agent for update in large.rows.updates("tiny", 1)] == [A]

    def test_a_block_that_the_disk_lost(self, large: SimpleNamespace) -> None:
        """What is on disk is checked before it counts."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, range(8))
        [part] = [path for path in self.spooled(large) if path.suffix == ".part"]
        with part.open("r+b") as file:
            file.seek(2 * BLOCK_SIZE)
            file.write(b"\0" * 100)
        large.restart()
        large.offer(A, again(offer))
        assert asked(large) == [[2, 8, 9, 10, 11]]
        assert [receipt.fate for receipt in large.send(A, again(offer), frame)] == ["received"]

    def test_what_nobody_offers_any_more_is_removed(self, large: SimpleNamespace) -> None:
        """Of an agent that came back with something newer, when a round closes."""
        old, old_frame = large.update(C)
        large.offer(C, old)
        large.blocks(C, old_frame, range(5))
        large.restart()
        new, new_frame = large.update(C, examples=9)
        large.offer(C, new)
        large.blocks(C, new_frame, range(3))
        assert {path.stem for path in self.spooled(large)} == {old.sha256, new.sha256}
        large.deliver(A, B)
        assert {path.stem for path in self.spooled(large)} == {new.sha256}

    @pytest.mark.parametrize(("days", "left"), [(1, True), (8, False)])
    def test_of_an_agent_that_never_came_back(
        self, large: SimpleNamespace, *, days: int, left: bool
    ) -> None:
        """A week after its last block, what it had sent makes room."""
        offer, frame = large.update(C)
        large.offer(C, offer)
        large.blocks(C, frame, range(5))
        large.restart()
        folder = large.folder / "spool" / "tiny" / C
        then = large.clock.now_ns() - days * 86_400 * 10**9
        os.utime(folder, ns=(then, then))
        large.deliver(A, B)
        assert folder.exists() is left


class TestCrowd:
    """Not more large updates at a time than the network of a plant server takes."""

    def crowd(self, world: SimpleNamespace, count: int) -> tuple[UpdateOffer, bytes]:
        """So many agents are sending large updates; an offer of one more."""
        offer, frame = world.update(A)
        for number in range(count):
            world.offer(f"crowd-{number}", structs.replace(offer, sha256=f"{number:064x}"))
        assert world.voice.take("wait") == []
        return offer, frame

    def test_one_too_many_waits(self, large: SimpleNamespace) -> None:
        """It is told when to come back, and nothing of it is taken till then."""
        offer, frame = self.crowd(large, LARGE_AT_ONCE)
        large.offer(A, offer)
        [wait] = large.voice.take("wait")
        assert (wait.job, wait.sha256) == ("tiny", offer.sha256)
        assert 2.0 <= wait.retry_after < 4.0
        large.blocks(A, frame, [0])
        assert asked(large) == fates(large) == []
        large.wait(4)
        assert [receipt.fate for receipt in large.send(A, again(offer), frame)] == ["received"]

    def test_not_all_come_back_at_once(self, large: SimpleNamespace) -> None:
        """Each is told another time."""
        offer, _ = self.crowd(large, LARGE_AT_ONCE)
        for number in range(20):
            large.offer(f"late-{number}", offer)
        times = {wait.retry_after for wait in large.voice.take("wait")}
        assert len(times) > 15

    def test_who_is_sending_goes_on(self, large: SimpleNamespace) -> None:
        """The offer of an update that is on its way is never put off."""
        offer, _ = self.crowd(large, LARGE_AT_ONCE)
        large.offer("crowd-3", structs.replace(again(offer), sha256=f"{3:064x}"))
        assert large.voice.take("wait") == []
        assert asked(large) == [list(range(8))]

    def test_who_has_fallen_silent_takes_no_place(self, large: SimpleNamespace) -> None:
        """One agent without a word for two seconds makes room for another."""
        offer, _ = self.crowd(large, LARGE_AT_ONCE)
        large.seen("crowd-0", online=False)
        large.clock.advance(2)
        large.offer(A, offer)
        assert large.voice.take("wait") == []

    def test_small_ones_never_wait(self, make_world: Make) -> None:
        """A single window is through before it is worth a word."""
        world = make_world(goal=0).running(A, B)
        offer, frame = world.update(A)
        for number in range(4 * LARGE_AT_ONCE):
            world.offer(f"crowd-{number}", structs.replace(offer, sha256=f"{number:064x}"))
        assert [receipt.fate for receipt in world.send(A, offer, frame)] == ["received"]
        assert world.voice.take("wait") == []


class TestProtocol1:
    """Older software sends all blocks unasked, and knows no answer but a receipt."""

    def test_a_large_update(self, large: SimpleNamespace) -> None:
        """It arrives as ever, and nothing is asked of its agent."""
        offer, frame = large.update(A, protocol=1)
        large.offer(A, offer)
        large.blocks(A, frame, range(LAST + 1))
        assert fates(large) == ["received"]
        assert asked(large) == []

    def test_lost_blocks(self, large: SimpleNamespace) -> None:
        """It offers again in its own time, with all its blocks; those that came stay."""
        offer, frame = large.update(A, protocol=1)
        large.offer(A, offer)
        large.blocks(A, frame, [0, 1, 2, 7, 8, 11])
        large.wait(20)
        large.offer(A, offer)
        large.blocks(A, frame, range(LAST + 1))
        assert asked(large) == []
        assert fates(large) == ["received"]

    def test_in_a_crowd(self, large: SimpleNamespace) -> None:
        """It cannot be told to wait."""
        offer, frame = large.update(A, protocol=1)
        for number in range(LARGE_AT_ONCE):
            other = structs.replace(offer, sha256=f"{number:064x}", protocol=2)
            large.offer(f"crowd-{number}", other)
        large.offer(A, offer)
        large.blocks(A, frame, range(LAST + 1))
        assert fates(large) == ["received"]
        assert large.voice.take("wait") == []

    def test_damage(self, make_world: Make) -> None:
        """Nothing is asked for; after the third damaged copy it is refused."""
        world = make_world(goal=3).running(A, B, C)
        offer, frame = world.update(A, protocol=1)
        for _ in range(reception.WHOLE_TRIES):
            assert fates(world) == []
            world.offer(A, offer)
            world.conductor.desk.block(A, damaged(frame, offer.sha256))
        [receipt] = world.voice.take("receipt")
        assert (receipt.fate, receipt.code) == ("refused", Reason.DAMAGED)
        assert asked(world) == []


class TestDamage:
    """Blocks whose bytes somebody has changed on the way, with a checksum that fits."""

    def test_is_told_though_it_is_mended(self, make_world: Make) -> None:
        """Whose update it was is in the log; the agent's own bytes count after all."""
        world = make_world(goal=3).running(A, B, C)
        offer, frame = world.update(A)
        world.offer(A, offer)
        with capture_logs() as told:
            world.conductor.desk.block(A, damaged(frame, offer.sha256))
            world.blocks(A, frame, [0])
        [event] = [each for each in told if each["event"] == "block.refused"]
        assert (event["agent"], event["round"], event["times"]) == (A, 1, 1)
        assert "arrived damaged" in event["error"]
        assert event["log_level"] == "warning"
        assert fates(world) == ["received"]

    def test_is_told_of_each_agent_once_a_minute(self, make_world: Make) -> None:
        """However often it happens; the next line says how often it was."""
        world = make_world(goal=3).running(A, B, C)
        sent = {agent: world.update(agent) for agent in (A, B)}
        with capture_logs() as told:
            for _ in range(2):
                for agent, (offer, frame) in sent.items():
                    for _ in range(reception.WHOLE_TRIES):
                        world.offer(agent, offer)
                        world.conductor.desk.block(agent, damaged(frame, offer.sha256))
            world.clock.advance(60)
            offer, frame = sent[A]
            world.offer(A, offer)
            world.conductor.desk.block(A, damaged(frame, offer.sha256))
        events = [each for each in told if each["event"] == "block.refused"]
        assert [(each["agent"], each["times"]) for each in events] == [(A, 1), (B, 1), (A, 6)]
        assert fates(world) == ["refused"] * 4


def damaged(frame: bytes, digest: str) -> object:
    """The one block of ``frame`` with another first byte, still called ``digest``."""
    [block] = [parse_block(data) for data in blocks_of(frame)]
    return replace(block, blob=digest, payload=bytes([block.payload[0] ^ 1]) + block.payload[1:])


class TestFullDisk:
    """What cannot be kept is not acknowledged, and comes again."""

    def test_where_a_whole_update_cannot_be_moved(self, large: SimpleNamespace) -> None:
        """All of it is there: the next offer is enough, no block comes twice."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, range(LAST))
        assert asked(large) == [[8, 9, 10, 11]]
        large.fuse.failing = 1
        with pytest.raises(StoreError):
            large.blocks(A, frame, [LAST])
        large.wait(20)
        assert asked(large) == fates(large) == []
        large.fuse.failing = 1
        with pytest.raises(StoreError):
            large.offer(A, again(offer))
        large.offer(A, again(offer))
        assert fates(large) == ["received"]
        assert asked(large) == []

    def test_where_its_row_cannot_be_written(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is as if it had never come, and comes again."""
        world = make_world(goal=2).running(A, B)
        offer, frame = world.update(A)
        with monkeypatch.context() as broken:
            broken.setattr(world.rows, "add_update", full)
            with pytest.raises(StoreError):
                world.send(A, offer, frame)
        assert fates(world) == []
        world.step()
        assert [receipt.fate for receipt in world.send(A, again(offer), frame)] == ["received"]
        world.deliver(B)
        assert world.rows.rounds("tiny")[0].included == [A, B]

    def test_where_a_block_cannot_be_written(
        self, large: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is asked for again when the others are there."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, range(3))
        with monkeypatch.context() as broken:
            broken.setattr(Spool, "add", full)
            for index in range(3, 8):
                with pytest.raises(StoreError):
                    large.blocks(A, frame, [index])
        large.wait(2)
        assert asked(large) == [[3, 4, 5, 6, 7, 8, 9, 10]]

    def test_where_the_whole_file_is_gone(
        self, large: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between its last block and its check: it is asked for from the start."""
        offer, frame = large.update(A)
        large.offer(A, offer)
        large.blocks(A, frame, range(LAST))
        with monkeypatch.context() as broken:
            broken.setattr(Path, "read_bytes", gone)
            with pytest.raises(StoreError, match="cannot be read: gone"):
                large.blocks(A, frame, [LAST])
        assert [receipt.fate for receipt in large.send(A, again(offer), frame)] == ["received"]

    def test_where_a_late_one_cannot_be_noted(self, make_world: Make) -> None:
        """It has no receipt either, and is counted once when it has."""
        world = make_world(goal=2, rounds=9, max_staleness=0).running(A, B, C)
        late = world.update(C)
        world.deliver(A, B)
        world.fuse.failing = 1
        with pytest.raises(StoreError):
            world.offer(C, late[0])
        assert fates(world) == []
        assert [receipt.fate for receipt in world.send(C, *late)] == ["late"]
        world.deliver(A, B)
        assert world.rows.rounds("tiny")[1].discarded == 1


def full(*_: object, **__: object) -> None:
    """A write to a disk that is full."""
    raise StoreError("no space left on device")


def gone(_: Path) -> bytes:
    """A read from a disk that has lost the file."""
    raise FileNotFoundError(2, "gone")
