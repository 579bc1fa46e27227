# SPDX-License-Identifier: Apache-2.0
"""What a hostile or confused agent may say: answered, noted, and without any effect on the job."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from fedmill_coordinator.rounds.reception import OFFERS_PER_AGENT
from fedmill_shared.errors import FrameError
from fedmill_shared.files import sha256
from fedmill_shared.link.blocks import BLOCK_SIZE, Block, block_count, blocks_of, parse_block
from fedmill_shared.messages import (
    BlobRequest,
    Join,
    MomentsReport,
    Reason,
    Refusal,
    UpdateOffer,
    decode,
    encode,
)
from fedmill_shared.signals.moments import Cell, Moments

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"
STRANGER = "stranger"
MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def world(make_world: Make) -> SimpleNamespace:
    """Round 2 is open with one update; one of round 1 came late and waits."""
    made = make_world(goal=5, minimum=2, rounds=9).running(A, B, C)
    made.wait(60)
    late = made.update(C)
    made.deliver(A, B)
    made.wait(60)
    made.send(C, *late)
    made.deliver(A)
    made.voice.said.clear()
    return made


def rows(world: SimpleNamespace) -> list[object]:
    """All that the job's life depends on."""
    store = world.rows
    return [
        store.job("tiny"),
        store.rounds("tiny"),
        [store.updates("tiny", record.round) for record in store.rounds("tiny")],
        store.versions("tiny"),
        store.aliases("tiny"),
        store.moments("tiny"),
        store.evaluations("tiny"),
        world.conductor._rounds.limits,
        sorted(world.conductor._agents.fresh),
        sorted(world.conductor._agents.done),
    ]


digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
offers = st.builds(
    UpdateOffer,
    job=st.just("tiny"),
    round=st.sampled_from([1, 2, 3, 7, 1 << 40]),
    base=st.sampled_from(["", "ab" * 32]),
    sha256=digests,
    size=st.one_of(st.integers(0, 4000), st.sampled_from([1 << 20, 1 << 40])),
    examples=st.sampled_from([0, 1, 8, 2**32 - 1]),
    loss=st.floats(allow_nan=False, allow_infinity=False),
    seconds=st.floats(0, 1e300),
    protocol=st.sampled_from([0, 1, 2, 3, 1 << 40]),
    offered_again=st.booleans(),
)


class TestOffers:
    """Updates that are none."""

    @MANY
    @given(offer=offers, payload=st.binary(max_size=300), honest=st.booleans())
    def test_nothing_of_it_reaches_the_job(
        self, world: SimpleNamespace, offer: UpdateOffer, payload: bytes, *, honest: bool
    ) -> None:
        """Whatever is announced and whatever is sent then, refused or never answered."""
        base = world.rows.current_round("tiny").base
        if honest:  # all is right but the bytes
            right = {"round": 2, "examples": 8, "protocol": 2, "offered_again": False}
            offer = structs.replace(offer, sha256=sha256(payload), size=len(payload), **right)
        offer = structs.replace(offer, base=offer.base or base)
        before = rows(world)
        receipts = world.send(STRANGER, offer, payload)
        assert rows(world) == before
        assert {receipt.fate for receipt in receipts} <= {"refused", "late"}
        assert not honest or offer.base != base or receipts[0].code in Reason.__members__.values()
        encoded = [encode(message) for _, _, message in world.voice.said]
        assert all(len(message) < 5000 for message in encoded)

    @MANY
    @given(
        index=st.integers(0, 1 << 31),
        size=st.integers(0, 1 << 40),
        payload=st.binary(max_size=200),
        known=st.booleans(),
    )
    def test_blocks_out_of_nowhere(
        self, world: SimpleNamespace, index: int, size: int, payload: bytes, *, known: bool
    ) -> None:
        """Of a blob that is on its way from somebody else, of another size, beyond its end."""
        offer, _ = world.update(B)
        world.offer(B, offer)
        before = rows(world)
        total = max(index + 1, block_count(size))
        blob = offer.sha256 if known else "ab" * 32
        taken = world.conductor.desk.block(STRANGER, Block(blob, index, total, size, payload))
        assert not taken
        assert rows(world) == before

    def test_an_endless_blob(self, world: SimpleNamespace) -> None:
        """A block beyond what was announced ends the transfer, and fills no disk."""
        offer, frame = world.update(B)
        world.offer(B, offer)
        wrong = Block(offer.sha256, 900, 1000, 1000 * BLOCK_SIZE, bytes(BLOCK_SIZE))
        world.conductor.desk.block(B, wrong)
        [receipt] = world.voice.take("receipt")
        assert (receipt.fate, receipt.code) == ("refused", Reason.DAMAGED)
        spooled = sum(path.stat().st_size for path in (world.folder / "spool").rglob("*.part"))
        assert spooled == 0
        assert [r.fate for r in world.send(B, offer, frame)] == ["received"]

    def test_a_thousand_offers(self, world: SimpleNamespace) -> None:
        """Only the newest few of an agent are remembered."""
        offer, _ = world.update(STRANGER)
        for number in range(1000):
            world.offer(STRANGER, structs.replace(offer, sha256=f"{number:064x}"))
        assert len(world.conductor._parts.reception._arriving[STRANGER]) == OFFERS_PER_AGENT

    def test_the_same_digest_as_somebody_else(self, world: SimpleNamespace) -> None:
        """Each agent's blocks make its own update; nobody spoils another's."""
        offer, frame = world.update(B)
        world.offer(B, offer)
        world.offer(STRANGER, offer)
        [good] = [parse_block(data) for data in blocks_of(frame)]
        bad = replace(good, payload=bytes(len(good.payload)))
        for _ in range(3):
            world.conductor.desk.block(STRANGER, bad)
        world.conductor.desk.block(B, good)
        assert [(r.agent) for r in world.rows.updates("tiny", 2)] == [A, B]


class TestReplays:
    """What was once right is right once."""

    def test_an_update_of_somebody_else(self, world: SimpleNamespace) -> None:
        """The same frame under another name counts as its own; names come with certificates."""
        offer, frame = world.update(B)
        world.send(B, offer, frame)
        assert world.rows.updates("tiny", 2)[-1].agent == B
        for _ in range(3):
            assert [r.fate for r in world.send(B, offer, frame)] == ["received"]
        assert [update.agent for update in world.rows.updates("tiny", 2)] == [A, B]

    def test_a_whole_round(self, world: SimpleNamespace) -> None:
        """Everything that was said in a round, said again in the next: nothing changes."""
        sent = {agent: world.update(agent) for agent in (A, B, C)}
        for agent in (B, C):
            world.send(agent, *sent[agent])
        world.order("close")
        assert world.number == 3
        before = rows(world)
        for agent in (A, B, C):
            assert [r.fate for r in world.send(agent, *sent[agent])] == ["included"]
        assert rows(world) == before

    def test_another_update_under_the_same_key(self, world: SimpleNamespace) -> None:
        """The first one counts, and is not given up for the second."""
        before = rows(world)
        [receipt] = world.send(A, *world.update(A, examples=9))
        assert (receipt.fate, receipt.code) == ("refused", Reason.SUPERSEDED)
        assert rows(world) == before


class TestOtherMessages:
    """What else an agent may say."""

    @MANY
    @given(missing=st.lists(st.integers(0, 1 << 40), max_size=30), own=st.booleans())
    def test_requests(self, world: SimpleNamespace, missing: list[int], *, own: bool) -> None:
        """Of blocks that are none, or of a blob that is not on offer: a typed error or nothing."""
        before = rows(world)
        blob = world.rows.versions("tiny")[-1].weights if own else "ab" * 32
        request = BlobRequest(job="tiny", blob=blob, missing=missing)
        with suppress(FrameError):
            world.conductor.desk.request(STRANGER, request)
        world.conductor.serve(1000)
        assert rows(world) == before
        assert sum(kind == "block" for _, kind, _ in world.voice.said) <= 150 * 8

    def test_impossible_moments(self, make_world: Make) -> None:
        """Of other signals, of nothing, of infinity: refused before they reach the agreement."""
        world = make_world(goal=2)
        world.join(A, B, STRANGER)
        before = rows(world)[5]
        for cells in (
            [],
            [Cell((), 8, [1.0], [1.0])],
            [Cell((), 8, [float("nan")] * 2, [1.0] * 2)],
            [Cell((), -1, [1.0] * 2, [1.0] * 2)],
        ):
            report = MomentsReport(job="tiny", moments=Moments(cells))
            with pytest.raises(FrameError):
                world.conductor.desk.moments(STRANGER, report)
        assert rows(world)[5] == before

    def test_refusals_without_end(self, world: SimpleNamespace) -> None:
        """They are kept for people, the newest ones, and hold up nobody."""
        refusal = Refusal(job="tiny", reason="Whatever", text="x" * 2000)
        for _ in range(50):
            world.conductor.desk.refuse(STRANGER, refusal)
        world.deliver(B, C)
        world.wait(60)
        assert world.number == 3

    def test_joining_and_leaving_without_end(self, world: SimpleNamespace) -> None:
        """An agent whose schema is right, then wrong, then right counts as it stands at last."""
        good = Join(job="tiny", schema=world.conductor.desk._schema, windows={"train": 8})
        bad = structs.replace(good, schema="ab" * 32)
        for join in (good, bad) * 5:
            world.conductor.desk.join(B, join)
        assert [r.code for r in world.deliver(B)] == [Reason.WRONG_SCHEMA]
        world.conductor.desk.join(B, good)
        assert [r.fate for r in world.deliver(B)] == ["received"]

    def test_evaluations_of_strangers(self, world: SimpleNamespace, kit: SimpleNamespace) -> None:
        """A score for a version that there never was is nobody's."""
        before = rows(world)
        world.conductor.desk.evaluation(STRANGER, kit.evaluation("ab" * 32))
        assert rows(world) == before


class TestTruncated:
    """Messages cut anywhere."""

    @pytest.mark.parametrize("kind", [UpdateOffer, Join, Refusal, BlobRequest])
    def test_are_refused_by_their_type(self, world: SimpleNamespace, kind: type[Any]) -> None:
        """Every prefix of a good message is a typed error, before anybody acts on it."""
        offer, _ = world.update(B)
        good = {
            UpdateOffer: offer,
            Join: Join(job="tiny", schema="ab" * 32, windows={"train": 8}),
            Refusal: Refusal(job="tiny", reason="x", text="y"),
            BlobRequest: BlobRequest(job="tiny", blob="ab" * 32, missing=[1, 2]),
        }[kind]
        payload = encode(good)
        for cut in range(len(payload)):
            with pytest.raises(FrameError):
                decode(payload[:cut], kind)
        assert decode(payload, kind) == good
