# SPDX-License-Identifier: Apache-2.0
"""A whole job, played by hand: statistics, rounds, versions, evaluations, and what may go wrong."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import json, msgpack
from tests.assembler import Assembler

from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import FrameError
from fedmill_shared.job import Robustness
from fedmill_shared.link.blocks import parse_block
from fedmill_shared.messages import BlobRequest, MomentsReport, Refusal, encode
from fedmill_shared.metrics import Statistic
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.signals.moments import Cell, Moments, agree, merge

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"


def mean_of(kit: SimpleNamespace, number: int, elements: int, **examples: int) -> np.ndarray:
    """The mean of the agents' deltas, weighted by their examples."""
    names = {"a": A, "b": B, "c": C}
    total = sum(n * kit.delta(names[a], number, elements) for a, n in examples.items())
    return total / sum(examples.values())


class TestWholeJob:
    """From the first statistics to the finished job."""

    def test_a_job_runs_to_its_end(self, make_world: Make, kit: SimpleNamespace) -> None:
        """Statistics, two rounds and the last evaluations lead to a finished, stable version."""
        world = make_world()
        assert world.state == "waiting"
        world.join(A, B)
        world.tell_moments(A)
        assert world.state == "statistics"
        world.tell_moments(B)
        assert world.state == "running"
        assert [r.fate for r in world.deliver(A, B)] == ["received"] * 2
        assert [r.fate for r in world.deliver(A, B)] == ["received"] * 2
        assert world.state == "running"
        world.evaluate(A)
        assert world.state == "running"
        world.clock.advance(2)
        world.evaluate(B)
        assert world.state == "finished"
        versions = world.rows.versions("tiny")
        assert [v.number for v in versions] == [0, 1, 2]
        assert [v.base for v in versions] == [None, versions[0].version, versions[1].version]
        stable = world.rows.alias("tiny", "stable")
        assert stable is not None
        assert stable.version == versions[-1].version
        told = world.rows.evaluations("tiny", versions[-1].version)
        assert [(e.agent, e.split, e.windows) for e in told] == [
            (a, split, 7) for a in (A, B) for split in ("test", "test-last")
        ]
        decoded = msgpack.decode(told[0].statistic, type=Statistic)
        assert decoded == kit.evaluation(versions[-1].version).statistic

    def test_the_standardisation_is_the_one_of_all_windows(
        self, make_world: Make, kit: SimpleNamespace
    ) -> None:
        """Version 0 holds the mean and deviation of what both agents told."""
        world = make_world().running(A, B)
        agreed = agree(merge([kit.moments(A), kit.moments(B)]), [], [0, 1], [])
        record = world.rows.job("tiny")
        normaliser = msgpack.decode(record.normaliser, type=Normaliser)
        assert np.allclose(normaliser.mean, agreed.mean)
        assert np.allclose(normaliser.scale, agreed.scale)
        tensor = next(t for t in world.manifest.tensors if t.name == "standardise.mean")
        stored = world.vector(0)[tensor.offset : tensor.offset + tensor.size]
        assert np.allclose(stored, agreed.mean.ravel(), rtol=1e-6)

    def test_what_is_announced(self, make_world: Make) -> None:
        """Agents hear of the job, then of the version, then of the open round that starts there."""
        world = make_world()
        world.voice.said.clear()
        world.running(A, B)
        kinds = [kind for _, kind, _ in world.voice.said]
        assert kinds == ["job", "job", "version", "round", *["block"] * 4]
        version, opened = world.voice.take("version")[0], world.voice.take("round")[0]
        assert (version.number, version.base, version.delta) == (0, "", None)
        assert version.evaluate
        assert (opened.round, opened.base) == (1, version.version)
        assert opened.deadline_ns == world.clock.now_ns() - 3 * 10**9 + 60 * 10**9
        assert (opened.closed, opened.included) == (0, {})

    def test_the_round_result_names_agents_and_updates(self, make_world: Make) -> None:
        """Who was included, with which update: that settles what the agents carry over."""
        world = make_world().running(A, B)
        world.voice.take("round")
        sent = {agent: world.update(agent) for agent in (A, B)}
        for agent, (offer, frame) in sent.items():
            world.send(agent, offer, frame)
        [notice] = world.voice.take("round")
        assert (notice.round, notice.closed) == (2, 1)
        assert notice.included == {agent: offer.sha256 for agent, (offer, _) in sent.items()}
        assert [u.state for u in world.rows.updates("tiny", 1)] == ["included"] * 2

    def test_evaluations_are_asked_for_as_the_job_says(self, make_world: Make) -> None:
        """Every second round and after the last; with 0, only after the last."""
        for every, asked in ((2, [True, False, True, True]), (0, [False, False, False, True])):
            world = make_world(rounds=3, every=every, folder=f"every-{every}").running(A, B)
            for _ in range(3):
                world.deliver(A, B)
            assert [notice.evaluate for notice in world.voice.take("version")] == asked

    def test_the_round_record_tells_what_it_took(self, make_world: Make) -> None:
        """Agents, bytes, seconds, loss and the rule's report are kept for people."""
        world = make_world().running(A, B)
        world.traffic.up(["tiny"], A, "topic", 5)
        world.traffic.down("tiny", "topic", 3, to=[A, B])
        world.clock.advance(5)
        world.deliver(A, examples=8)
        world.deliver(B, examples=24)
        [closed, opened] = world.rows.rounds("tiny")
        assert (closed.state, closed.included, closed.seconds) == ("closed", [A, B], 8.0)
        assert (closed.uplink_bytes, closed.downlink_bytes) == (17 + 2 * 4, 2 * 15 + 4)
        assert closed.published_bytes == 15
        told = [(r.agent, r.uplink_bytes, r.downlink_bytes) for r in world.rows.traffic("tiny", 1)]
        assert told == [(A, 17 + 4, 15 + 4), (B, 4, 15)]
        details = json.decode(closed.report)
        assert details["loss"] == 0.5
        assert (details["report"]["agents"], details["report"]["examples"]) == (2, 32)
        assert world.traffic.total("tiny") == (0, 0)
        assert (opened.state, opened.base) == ("open", world.rows.versions("tiny")[1].version)

    def test_claims_weigh_the_loss_as_they_weigh_the_sum(self, make_world: Make) -> None:
        """By ``robustness.claim`` of the job: here one agent counts as much as the other."""
        world = make_world(robustness=Robustness(clip=1e6, claim=1.0)).running(A, B)
        world.deliver(A, examples=8, loss=0.5)
        world.deliver(B, examples=32, loss=1.0)
        [closed, _] = world.rows.rounds("tiny")
        assert json.decode(closed.report)["loss"] == pytest.approx(0.75)


class TestAggregation:
    """The new version is the mean that anyone can compute by hand."""

    def test_fp32_is_exact(self, make_world: Make, kit: SimpleNamespace) -> None:
        """Without loss on the wire, version 1 is version 0 plus the weighted mean."""
        world = make_world(uplink="fp32", downlink="fp32").running(A, B)
        world.deliver(A, examples=8)
        world.deliver(B, examples=24)
        mean = mean_of(kit, 1, world.elements, a=8.0, b=24.0).astype(np.float32)
        exact = sum(
            n * kit.delta(agent, 1, world.elements).astype(np.float64)
            for agent, n in ((A, 8), (B, 24))
        )
        expected = world.learned(0) + (exact / 32).astype(np.float32)
        assert np.allclose(world.learned(1), expected, rtol=1e-6, atol=1e-7)
        assert np.allclose(mean, exact / 32, rtol=1e-5)

    def test_int8_is_within_its_steps(self, make_world: Make, kit: SimpleNamespace) -> None:
        """Two roundings, up and down, of at most one step of 1/127 of the largest element each."""
        world = make_world().running(A, B)
        world.deliver(A, examples=8)
        world.deliver(B, examples=24)
        mean = mean_of(kit, 1, world.elements, a=8.0, b=24.0)
        largest = max(np.abs(kit.delta(a, 1, world.elements)).max() for a in (A, B))
        error = np.abs(world.learned(1) - world.learned(0) - mean).max()
        assert 0 < error <= 2 * largest / 127 * 1.01

    def test_what_the_downlink_drops_is_carried(
        self, make_world: Make, kit: SimpleNamespace
    ) -> None:
        """The sum of all rounds arrives: the residual is exactly what is missing."""
        world = make_world(uplink="fp32", rounds=3).running(A, B)
        wanted = world.learned(0).astype(np.float64)
        for number in (1, 2, 3):
            world.deliver(A, B)
            wanted += mean_of(kit, number, world.elements, a=8.0, b=8.0)
        residual = np.frombuffer(
            world.files.get(world.rows.job("tiny").downlink_residual, 1 << 20), "f4"
        )
        assert np.abs(residual).max() > 0
        assert np.allclose(world.learned() + residual, wanted, atol=1e-6)

    def test_without_error_feedback_nothing_is_carried(self, make_world: Make) -> None:
        """The residual stays zero where the job wants none."""
        world = make_world(error_feedback=False).running(A, B)
        world.deliver(A, B)
        residual = world.files.get(world.rows.job("tiny").downlink_residual, 1 << 20)
        assert residual == bytes(4 * world.elements)

    def test_a_delta_on_the_wire_makes_the_same_bits(self, make_world: Make) -> None:
        """What agents add to their base is the coordinator's new version to the last bit."""
        world = make_world().running(A, B)
        world.voice.said.clear()
        world.deliver(A, B)
        [notice] = world.voice.take("version")
        assembler = Assembler()
        assembler.expect(notice.delta.sha256, notice.delta.size)
        [frame] = [assembler.add(parse_block(block)) for block in world.voice.take("block")]
        header, delta = decode_frame(frame, elements=world.elements)
        assert (header.content, header.base) == ("delta", notice.base[:16])
        assert np.array_equal(world.learned(0) + delta, world.learned(1))

    def test_a_zero_aggregate_makes_no_version(self, make_world: Make) -> None:
        """Agents that learned nothing leave the version as it is, and the next round opens."""
        world = make_world(error_feedback=False).running(A, B)
        zero = np.zeros(world.elements, np.float32)
        world.deliver(A, B, delta=zero)
        assert len(world.rows.versions("tiny")) == 1
        assert [r.state for r in world.rows.rounds("tiny")] == ["closed", "open"]

    def test_evaluations_of_an_unchanged_last_version_count(self, make_world: Make) -> None:
        """The last round changed nothing: what was scored before is not waited for again."""
        world = make_world(rounds=1, error_feedback=False).running(A, B)
        world.evaluate(A, B)
        world.deliver(A, B, delta=np.zeros(world.elements, np.float32))
        assert world.state == "finished"


class TestRefused:
    """What is not right is refused with a reason, and the rest goes on."""

    def refused(self, world: SimpleNamespace, receipts: list, code: str, reason: str) -> None:
        """The receipt says why, the refusal is kept, and the round closes with the others."""
        [receipt] = receipts
        assert (receipt.fate, receipt.code) == ("refused", code)
        assert reason in receipt.reason
        assert [(r.agent, r.reason) for r in world.rows.refusals()] == [(A, f"update:{code}")]
        world.deliver(B, C)
        [closed, _] = world.rows.rounds("tiny")
        assert (closed.state, closed.included) == ("closed", [B, C])
        assert (closed.accepted, closed.rejected, closed.discarded) == (2, 1, 0)
        assert json.decode(closed.report)["rejected"] == {code: 1}

    @pytest.mark.parametrize(
        ("fields", "code", "reason"),
        [
            (
                {"header": {"content": "snapshot", "base": "0" * 16}},
                "damaged",
                "content is 'snapshot'",
            ),
            ({"header": {"round": 7}}, "damaged", "round is 7 in the frame, 1 was announced"),
            ({"header": {"base": "ab" * 8}}, "damaged", "base is 'abababababababab'"),
            ({"header": {"schema": "cd" * 8}}, "wrong_schema", "schema is 'cdcdcdcdcdcdcdcd'"),
            ({"header": {"examples": 9}}, "damaged", "examples is 9 in the frame, 8 was announced"),
            ({"examples": 0}, "empty", "no training window"),
            ({"base": "ef" * 32}, "wrong_base", "round 1 starts from"),
            ({"round": 2}, "foreign_round", "round 2 has not been opened"),
            ({"round": 99}, "foreign_round", "round 99 has not been opened"),
            ({"size": 1 << 30}, "too_large", "1073741824 bytes are too many"),
            ({"size": 999}, "damaged", "999 were announced"),
            ({"delta": np.zeros(5, np.float32)}, "damaged", "5 elements"),
        ],
    )
    def test_what_does_not_fit(
        self, make_world: Make, fields: dict[str, object], code: str, reason: str
    ) -> None:
        """Another content, round, base, layout, size, or nothing learned from."""
        world = make_world().running(A, B, C)
        self.refused(world, world.send(A, *world.update(A, **fields)), code, reason)

    def test_bytes_that_are_no_frame(self, make_world: Make, kit: SimpleNamespace) -> None:
        """A stranger's blob with a right digest is no update."""
        from fedmill_shared.files import sha256

        world = make_world().running(A, B, C)
        junk = b"GIF89a" + bytes(500)
        offer, _ = world.update(A, sha256=sha256(junk), size=len(junk))
        self.refused(world, world.send(A, offer, junk), "damaged", "not b'FMU1'")

    @pytest.mark.parametrize("place", [0, 30, 60, -3])
    def test_a_frame_with_a_flipped_bit(self, make_world: Make, place: int) -> None:
        """Damage that the digest does not show, because it was there before: found by the frame."""
        from fedmill_shared.files import sha256

        world = make_world().running(A, B, C)
        _, frame = world.update(A)
        damaged = bytearray(frame)
        damaged[place] ^= 4
        offer, _ = world.update(A, sha256=sha256(damaged), size=len(damaged))
        self.refused(world, world.send(A, offer, bytes(damaged)), "damaged", "frame")

    def test_damage_on_the_way(self, make_world: Make) -> None:
        """Blocks that do not make the announced digest are asked for anew, and refused at last."""
        world = make_world().running(A, B, C)
        offer, frame = world.update(A)
        world.conductor.desk.offer(A, offer)
        block = parse_block_of(bytes(len(frame)), offer.sha256)
        for _ in range(2):
            world.conductor.desk.block(A, block)
            [request] = world.voice.take("request")
            assert (request.blob, request.missing) == (offer.sha256, [0])
        world.conductor.desk.block(A, block)
        self.refused(world, world.voice.take("receipt"), "damaged", "arrived damaged")

    def test_damage_on_the_way_that_is_mended(self, make_world: Make) -> None:
        """The second copy is whole, and counts."""
        world = make_world().running(A, B, C)
        offer, frame = world.update(A)
        world.conductor.desk.offer(A, offer)
        world.conductor.desk.block(A, parse_block_of(bytes(len(frame)), offer.sha256))
        world.conductor.desk.block(A, parse_block_of(frame))
        assert [receipt.fate for receipt in world.voice.take("receipt")] == ["received"]

    def test_a_refused_agent_is_not_waited_for(self, make_world: Make) -> None:
        """Its round closes without it as soon as the others are done, not at the deadline."""
        world = make_world(goal=0).running(A, B, C)
        world.send(A, *world.update(A, examples=0))
        world.deliver(B, C)
        assert [r.state for r in world.rows.rounds("tiny")] == ["closed", "open"]

    def test_a_second_different_update_does_not_replace_the_first(self, make_world: Make) -> None:
        """The first one counts; the second is refused, and nothing is counted twice."""
        world = make_world(goal=3).running(A, B, C)
        first, frame = world.update(A)
        assert world.send(A, first, frame)[0].fate == "received"
        [receipt] = world.deliver(A, delta=np.ones(world.elements, np.float32))
        assert (receipt.fate, "came first" in receipt.reason) == ("refused", True)
        assert [u.sha256 for u in world.rows.updates("tiny", 1)] == [first.sha256]

    def test_a_few_updates_at_a_time(self, make_world: Make) -> None:
        """Announcing a fifth one gives the first one up: an agent cannot fill the disk."""
        world = make_world().running(A, B)
        deltas = [np.full(world.elements, value, np.float32) for value in range(1, 6)]
        updates = [world.update(A, delta=delta) for delta in deltas]
        for offer, _ in updates:
            world.conductor.desk.offer(A, offer)
        assert not world.conductor.desk.block(A, parse_block_of(updates[0][1]))
        assert world.conductor.desk.block(A, parse_block_of(updates[1][1]))

    def test_blocks_that_nobody_announced(self, make_world: Make) -> None:
        """They are of no update and take no memory."""
        world = make_world().running(A, B)
        offer, frame = world.update(A)
        world.conductor.desk.offer(A, offer)
        assert not world.conductor.desk.block(B, parse_block_of(frame, offer.sha256))
        assert world.conductor.desk.block(A, parse_block_of(frame))

    def test_updates_before_there_is_a_model(self, make_world: Make, kit: SimpleNamespace) -> None:
        """Nothing can be received before version 0; the agent will offer again."""
        world, other = make_world(), make_world(folder="other").running(A, B)
        offer, frame = other.update(A)
        assert world.send(A, offer, frame) == []


def parse_block_of(frame: bytes, digest: str = "") -> object:
    """The one block of ``frame``; with ``digest``, under that name and with a byte changed."""
    from dataclasses import replace

    from fedmill_shared.link.blocks import blocks_of

    [block] = [parse_block(data) for data in blocks_of(frame)]
    if not digest:
        return block
    return replace(block, blob=digest, payload=b"x" + block.payload[1:])


class TestTwice:
    """The same update again changes nothing."""

    def test_a_repeated_update_counts_once(self, make_world: Make) -> None:
        """Sent twice before the close, it is one row, one vote, and the same receipt."""
        world = make_world(goal=3).running(A, B, C)
        offer, frame = world.update(A)
        assert [r.fate for r in world.send(A, offer, frame)] == ["received"]
        assert [r.fate for r in world.send(A, offer, frame)] == ["received"]
        assert len(world.rows.updates("tiny", 1)) == 1
        assert world.rows.current_round("tiny").round == 1

    def test_after_the_close_it_is_told_to_be_included(self, make_world: Make) -> None:
        """An agent that missed the result asks again and hears how it ended."""
        world = make_world().running(A, B)
        offer, frame = world.update(A)
        world.send(A, offer, frame)
        world.deliver(B)
        assert [r.fate for r in world.send(A, offer, frame)] == ["included"]
        assert world.rows.current_round("tiny").round == 2


class TestDeadline:
    """Rounds end by time as well as by count."""

    def test_enough_at_the_deadline(self, make_world: Make) -> None:
        """The minimum is enough when time is up."""
        world = make_world(goal=3).running(A, B, C)
        world.deliver(A, B)
        assert world.rows.current_round("tiny").round == 1
        world.clock.advance(60)
        world.step()
        [closed, _] = world.rows.rounds("tiny")
        assert (closed.state, closed.included) == ("closed", [A, B])

    def test_too_few_at_the_deadline(self, make_world: Make) -> None:
        """The round is extended, not closed, and the new deadline is announced."""
        world = make_world().running(A, B)
        world.deliver(A)
        world.clock.advance(60)
        world.voice.take("round")
        world.step()
        [extended] = world.rows.rounds("tiny")
        assert extended.state == "open"
        assert extended.deadline_ns == world.clock.now_ns() + 60 * 10**9
        [notice] = world.voice.take("round")
        assert (notice.round, notice.deadline_ns) == (1, extended.deadline_ns)
        world.deliver(B)
        assert world.rows.rounds("tiny")[0].included == [A, B]

    def test_an_agent_that_goes_offline_does_not_hold_up_the_round(self, make_world: Make) -> None:
        """Once the fleet has settled without it, the round closes before its deadline."""
        world = make_world(goal=3).running(A, B, C)
        world.deliver(A, B)
        world.seen(C, online=False)
        world.step()
        assert world.rows.current_round("tiny").round == 1
        world.clock.advance(2)
        world.step()
        assert world.rows.rounds("tiny")[0].included == [A, B]

    def test_the_last_evaluation_is_not_waited_for_for_ever(self, make_world: Make) -> None:
        """An agent that never scores the last version costs one deadline."""
        world = make_world(rounds=1).running(A, B)
        world.deliver(A, B)
        world.evaluate(A)
        world.clock.advance(59)
        world.step()
        assert world.state == "running"
        world.clock.advance(1)
        world.step()
        assert world.state == "finished"


class TestStatistics:
    """Agreement before the first round."""

    def test_impossible_moments(self, make_world: Make) -> None:
        """They raise, are noted as a refusal, and their agent is not waited for."""
        world = make_world(goal=0)
        world.join(A, B, C)
        wrong = Moments([Cell((), 8, [1.0], [1.0])])
        with pytest.raises(FrameError, match="has not 2 signals"):
            world.conductor.desk.moments(A, MomentsReport(job="tiny", moments=wrong))
        assert [(r.agent, r.reason) for r in world.rows.refusals()] == [(A, "moments")]
        world.tell_moments(B, C)
        world.clock.advance(3)
        world.step()
        assert world.state == "running"
        assert [m.agent for m in world.rows.moments("tiny")] == [B, C]

    def test_moments_of_too_few_samples(self, make_world: Make) -> None:
        """An agent with nothing to tell neither counts nor ends the coordinator."""
        world = make_world()
        world.join(A, B, C)
        for agent in (A, B):
            with pytest.raises(FrameError, match="too few complete samples"):
                world.conductor.desk.moments(agent, MomentsReport(job="tiny", moments=Moments([])))
        world.clock.advance(600)
        world.step()
        assert world.state == "waiting"

    def test_an_agent_that_refused_is_not_waited_for(self, make_world: Make) -> None:
        """It has said that it cannot; the others agree without it, also before its next state."""
        world = make_world(goal=0)
        world.join(A, B)
        world.seen(C)
        world.conductor.desk.refuse(
            C, Refusal(job="tiny", reason="SchemaError", text="no force here")
        )
        world.tell_moments(A, B)
        world.clock.advance(2)
        world.step()
        assert world.state == "running"
        assert [(r.agent, r.text) for r in world.rows.refusals()] == [(C, "no force here")]

    def test_another_schema_is_refused(self, make_world: Make) -> None:
        """Other signals or units: neither its statistics nor its absence count."""
        world = make_world(goal=0)
        world.join(A, B)
        world.join(C, schema="ab" * 32)
        [refusal] = world.rows.refusals()
        assert (refusal.agent, refusal.reason) == (C, "schema")
        world.tell_moments(C)
        world.tell_moments(A, B)
        world.clock.advance(2)
        world.step()
        assert world.state == "running"
        assert [m.agent for m in world.rows.moments("tiny")] == [A, B]

    def test_another_schema_reaches_no_model(self, make_world: Make) -> None:
        """An update and a score made from other signals or units do not count either."""
        world = make_world(goal=0)
        world.running(A, B)
        world.join(C, schema="ab" * 32)
        assert [r.fate for r in world.deliver(C)] == ["refused"]
        assert [u.agent for u in world.rows.updates("tiny", 1)] == []
        world.evaluate(C)
        assert C not in {e.agent for e in world.rows.evaluations("tiny")}

    def test_a_corrected_schema_is_taken(self, make_world: Make) -> None:
        """After an update of its software the agent may join."""
        world = make_world()
        world.join(A, schema="ab" * 32)
        world.running(A, B)
        assert [r.fate for r in world.deliver(A)] == ["received"]

    def test_the_deadline_ends_the_wait_for_the_goal(self, make_world: Make) -> None:
        """The minimum agrees when the goal has not come in time, counted from the first."""
        world = make_world(goal=3)
        world.join(A, B)
        world.clock.advance(59)
        world.tell_moments(A, B)
        world.clock.advance(59)
        world.step()
        assert world.state == "statistics"
        world.clock.advance(1)
        world.step()
        assert world.state == "running"

    def test_moments_after_the_agreement_change_nothing(self, make_world: Make) -> None:
        """A newcomer takes part with the standardisation that is there."""
        world = make_world().running(A, B)
        world.join(C)
        world.tell_moments(C)
        assert [m.agent for m in world.rows.moments("tiny")] == [A, B]


class TestTakingPart:
    """Who is counted on."""

    def test_an_agent_that_cannot_train_is_not_waited_for(self, make_world: Make) -> None:
        """A failed training is told; the round closes without it."""
        world = make_world(goal=3).running(A, B, C)
        world.conductor.desk.refuse(C, Refusal(job="tiny", reason="TrainerError", text="no memory"))
        world.deliver(A, B)
        assert world.rows.rounds("tiny")[0].included == [A, B]

    def test_who_delivers_takes_part_again(self, make_world: Make) -> None:
        """After a failure, its next update makes it one of those that are waited for."""
        world = make_world(goal=3, rounds=3).running(A, B, C)
        world.conductor.desk.refuse(C, Refusal(job="tiny", reason="TrainerError", text="no memory"))
        world.deliver(C, A, B)
        world.deliver(A, B)
        assert world.rows.current_round("tiny").round == 2
        world.deliver(C)
        assert world.rows.current_round("tiny").round == 3

    def test_a_round_does_not_open_for_too_few(self, make_world: Make) -> None:
        """Statistics from before, but only one agent is there."""
        world = make_world()
        world.join(A, B)
        world.seen(B, online=False)
        world.tell_moments(A, B)
        assert (world.state, world.rows.rounds("tiny")) == ("running", [])
        world.join(B)
        assert world.rows.current_round("tiny").round == 1

    def test_a_newcomer_is_included(self, make_world: Make) -> None:
        """An agent may come at any time; its update counts like any other."""
        world = make_world(goal=0).running(A, B)
        world.join(C)
        world.deliver(A, B)
        assert world.rows.current_round("tiny").round == 1
        world.clock.advance(2)
        world.deliver(C)
        assert world.rows.rounds("tiny")[0].included == [A, B, C]


class TestEvaluations:
    """What agents score."""

    def test_of_an_unknown_version(self, make_world: Make, kit: SimpleNamespace) -> None:
        """It is of no use and changes nothing."""
        world = make_world().running(A, B)
        world.conductor.desk.evaluation(A, kit.evaluation("ab" * 32))
        assert world.rows.evaluations("tiny") == []

    def test_of_other_classes(self, make_world: Make, kit: SimpleNamespace) -> None:
        """One agent's foreign statistic must not spoil the sum of all."""
        world = make_world().running(A, B)
        report = kit.evaluation(world.rows.versions("tiny")[0].version, classes=4)
        with pytest.raises(FrameError, match="4 classes, job tiny has 3"):
            world.conductor.desk.evaluation(A, report)
        assert world.rows.evaluations("tiny") == []

    def test_an_old_version_does_not_end_the_job(self, make_world: Make) -> None:
        """Only the last version's evaluations are waited for; older ones are kept."""
        world = make_world(rounds=1).running(A, B)
        world.evaluate(A)
        world.deliver(A, B)
        world.evaluate(B)
        assert world.state == "running"
        assert len(world.rows.evaluations("tiny")) == 4


class TestDivergence:
    def test_an_update_beyond_reason_is_refused(self, make_world: Make) -> None:
        """One agent that diverged costs nobody the round: the others' updates make the version."""
        world = make_world(goal=0).running(A, B)
        bad = np.full(world.elements, 3e38, np.float32)
        [receipt] = world.deliver(A, delta=bad)
        assert receipt.fate == "refused"
        assert "at most 1e+06 is plausible" in receipt.reason
        assert world.rows.updates("tiny", 1) == []


class TestAbandoned:
    """Rounds whose result is no model."""

    HUGE = 3e38

    @pytest.fixture(autouse=True)
    def let_divergence_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What reception would refuse stands for any result that is no model."""
        monkeypatch.setattr("fedmill_coordinator.rounds.admission.LARGEST_CHANGE", np.inf)

    def spoil(self, world: SimpleNamespace) -> None:
        """Both agents diverge: the sum overflows, or the model computes nonsense."""
        world.deliver(A, B, delta=np.full(world.elements, self.HUGE, np.float32))

    def test_a_diverged_round_is_abandoned(self, make_world: Make) -> None:
        """No version, no result; the updates are late and the next round starts afresh."""
        world = make_world().running(A, B)
        world.voice.take("round")
        self.spoil(world)
        assert len(world.rows.versions("tiny")) == 1
        assert [r.state for r in world.rows.rounds("tiny")] == ["abandoned", "open"]
        assert [u.state for u in world.rows.updates("tiny", 1)] == ["late", "late"]
        [notice] = world.voice.take("round")
        assert (notice.round, notice.closed, notice.included) == (2, 1, {})
        assert "error" in json.decode(world.rows.rounds("tiny")[0].report)
        world.deliver(A, B)
        assert [v.number for v in world.rows.versions("tiny")] == [0, 1]

    def test_its_bytes_are_not_lost(self, make_world: Make) -> None:
        """An abandoned round cost what it cost, and the next one nothing of it."""
        world = make_world(uplink="fp32").running(A, B)
        world.traffic.up(["tiny"], A, "topic", 5)
        self.spoil(world)
        abandoned = world.rows.rounds("tiny")[0]
        assert (abandoned.state, abandoned.uplink_bytes, abandoned.downlink_bytes) == (
            "abandoned",
            17,
            4,
        )
        assert [record.agent for record in world.rows.traffic("tiny", 1)] == [A]
        world.deliver(A, B)
        assert world.rows.rounds("tiny")[1].uplink_bytes == 0

    def test_three_in_a_row_stop_the_job(self, make_world: Make) -> None:
        """It does not go on for ever; agents are told, and keep their last good version."""
        world = make_world(rounds=9).running(A, B)
        self.spoil(world)
        self.spoil(world)
        assert world.state == "running"
        self.spoil(world)
        assert world.state == "stopped"
        assert world.rows.current_round("tiny") is None
        assert world.voice.take("job")[-1].state == "stopped"
        assert world.voice.take("round")[-1].round == 0
        world.voice.said.clear()
        world.start()
        assert world.state == "stopped"
        assert world.voice.take("version")

    def test_a_good_round_starts_the_count_again(self, make_world: Make) -> None:
        """Two bad, one good, two bad: the job goes on."""
        world = make_world(rounds=9).running(A, B)
        for bad in (True, True, False, True, True):
            if bad:
                self.spoil(world)
            else:
                world.deliver(A, B)
        assert world.state == "running"

    def test_a_restart_does_not_start_the_count_again(self, make_world: Make) -> None:
        """A coordinator that restarts after each bad round stops the job all the same."""
        world = make_world(rounds=9).running(A, B)
        for _ in range(3):
            world.start()
            world.join(A, B)
            self.spoil(world)
        assert world.state == "stopped"

    def test_after_a_bad_last_round_the_version_is_still_evaluated(self, make_world: Make) -> None:
        """The job ends with the last good version, scored by everybody."""
        world = make_world(rounds=2, every=0).running(A, B)
        world.deliver(A, B)
        world.voice.said.clear()
        self.spoil(world)
        assert world.state == "running"
        [notice] = world.voice.take("version")
        assert notice.evaluate
        world.evaluate(A, B)
        assert world.state == "finished"

    def test_statistics_that_make_no_model_stop_the_job(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An architecture that cannot be exported is an error of the job, not of the daemon."""
        from fedmill_coordinator.registry import template
        from fedmill_shared.errors import ModelError

        def fail(*_: object) -> bytes:
            raise ModelError("cannot be exported")

        monkeypatch.setattr(template, "export_template", fail)
        world = make_world()
        world.join(A, B)
        world.tell_moments(A, B)
        assert world.state == "stopped"
        world.start()

    def test_a_version_that_was_there_before_is_no_progress(self, make_world: Make) -> None:
        """A round that leads exactly back is abandoned; versions are named by their content."""
        world = make_world(rounds=9, uplink="fp32", downlink="fp32").running(A, B)
        # A power of two far above the weights: adding it rounds them once, and never again.
        there = np.full(world.elements, 1024.0, np.float32)
        for delta in (there, -there, there):
            world.deliver(A, B, delta=delta)
        states = [record.state for record in world.rows.rounds("tiny")]
        assert states == ["closed", "closed", "abandoned", "open"]
        assert world.state == "running"


class TestRequests:
    """Blobs that agents pull."""

    def test_blocks_go_to_the_agent_that_asked(self, make_world: Make) -> None:
        """The snapshot, whole and right."""
        world = make_world().running(A, B)
        [notice] = world.voice.take("version")
        world.voice.take("block")
        request = BlobRequest(job="tiny", blob=notice.snapshot.sha256, missing=[0])
        world.conductor.desk.request(A, request)
        world.step()
        [(agent, _, block)] = [each for each in world.voice.said if each[1] == "block"]
        assert agent == A
        assert parse_block(block).payload == world.vector(0).tobytes()

    def test_everything_announced_fits_its_message(self, make_world: Make) -> None:
        """All that is said to agents can be encoded and is of the type that they decode."""
        from fedmill_shared.messages import ALL, DOWN, decode

        world = make_world().running(A, B)
        world.deliver(A, B)
        world.deliver(A, B)
        world.evaluate(A, B)
        for agent, kind, message in world.voice.said:
            if kind != "block":
                assert decode(encode(message), (DOWN if agent else ALL)[kind]) == message
