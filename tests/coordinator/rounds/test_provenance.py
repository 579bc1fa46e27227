# SPDX-License-Identifier: Apache-2.0
"""Updates that must be signed: whose they are, and what becomes of those that are nobody's."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from fedmill_coordinator.rounds.provenance import certificate_of, keys_of, verify_record
from fedmill_coordinator.store.records import UpdateRecord
from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_shared.crypto.keys import key_id, make_key, public_bytes
from fedmill_shared.crypto.origin import sign_origin
from fedmill_shared.errors import TrustError
from fedmill_shared.files import sha256
from fedmill_shared.messages import Reason, UpdateOffer
from fedmill_shared.messages.origin import label
from fedmill_shared.protocol import OLDEST

Make = Callable[..., SimpleNamespace]
A, B, C = "agent-a", "agent-b", "agent-c"
KEYS = {agent: make_key() for agent in (A, B, C)}
BEFORE = make_key()
"""The key that A had before its certificate was renewed."""
FOREIGN = make_key()
REFUSED, RECEIVED = "refused", ("received", "")


def certificate(agent: str, key: Any, **fields: Any) -> CertificateRecord:
    """A certificate of ``agent`` with ``key``."""
    public = public_bytes(key)
    whole: dict[str, Any] = {
        "serial": key_id(public),
        "agent": agent,
        "public_key": public,
        "fingerprint": sha256(public),
        "request": sha256(public + b"request"),
        "certificate": b"DER",
        "not_before_ns": 1,
        "not_after_ns": 2,
        "issued_ns": 1,
    }
    return CertificateRecord(**(whole | fields))


@pytest.fixture
def plant(make_world: Make) -> SimpleNamespace:
    """A world that wants signatures, of three agents with certificates, in round 1."""
    world = make_world(goal=3, rounds=3)
    for agent, key in KEYS.items():
        world.rows.add_certificate(certificate(agent, key))
    world.signed = True
    world.restart().running(A, B, C)
    world.voice.said.clear()
    return world


def signed(world: SimpleNamespace, agent: str, key: Any = None, **label_fields: Any) -> Any:
    """An update of ``agent``, and its frame, signed with ``key``; its own unless told otherwise."""
    offer, frame = world.update(agent)
    return sign(world, offer, agent, key or KEYS[agent], **label_fields), frame


def sign(
    world: SimpleNamespace, offer: UpdateOffer, agent: str, key: Any, **fields: Any
) -> UpdateOffer:
    """``offer`` with a label of origin and a signature of ``key``."""
    said = {"agent": agent, "schema": world.manifest.digest, "software": "0.1.0", "made_ns": 7}
    said |= fields
    statement = label(offer, **said)
    name, signature = sign_origin(key, statement)
    return structs.replace(offer, key=name, origin=statement, signature=signature)


def the(receipts: Any) -> tuple[str, str]:
    """Fate and code of the one receipt."""
    (receipt,) = receipts
    return receipt.fate, receipt.code


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as events:
        yield events


def events(told: list[Any], name: str) -> list[Any]:
    """Events called ``name``."""
    return [event for event in told if event["event"] == name]


class TestGenuine:
    def test_counts(self, plant: SimpleNamespace) -> None:
        """With all that is needed to look at it again, for good."""
        offer, frame = signed(plant, A)
        assert the(plant.send(A, offer, frame)) == RECEIVED
        (row,) = plant.rows.updates("tiny", 1)
        assert (row.key, row.origin, row.signature) == (offer.key, offer.origin, offer.signature)
        origin = verify_record(row, plant.rows.certificates(A))
        assert (origin.agent, origin.software, origin.made_ns) == (A, "0.1.0", 7)

    def test_a_round_of_them(self, plant: SimpleNamespace) -> None:
        """Who signed each of the included ones is known afterwards."""
        for agent in (A, B, C):
            plant.send(agent, *signed(plant, agent))
        plant.step()
        assert plant.rows.round("tiny", 1).included == [A, B, C]
        for row in plant.rows.updates("tiny", 1):
            found = certificate_of(row.key, plant.rows.certificates(row.agent))
            assert found is not None
            assert found.agent == row.agent

    def test_of_a_key_before_the_renewal(self, plant: SimpleNamespace) -> None:
        """It waited in the outbox meanwhile; the old certificate is still the agent's own."""
        plant.rows.add_certificate(certificate(A, BEFORE, issued_ns=0))
        assert the(plant.send(A, *signed(plant, A, BEFORE))) == RECEIVED

    def test_offered_again(self, plant: SimpleNamespace) -> None:
        """The same update is the same, and a receipt that was lost is given again."""
        offer, frame = signed(plant, A)
        assert the(plant.send(A, offer, frame)) == RECEIVED
        assert the(plant.send(A, structs.replace(offer, offered_again=True), frame)) == RECEIVED
        assert len(plant.rows.updates("tiny", 1)) == 1

    def test_from_software_of_protocol_1(self, plant: SimpleNamespace) -> None:
        """The signature is no matter of the protocol."""
        offer, frame = plant.update(A, protocol=OLDEST)
        offer = sign(plant, offer, A, KEYS[A])
        assert the(plant.send(A, offer, frame)) == RECEIVED


class TestForged:
    @pytest.mark.parametrize("key", [KEYS[B], FOREIGN, BEFORE])
    def test_with_a_key_that_is_not_the_agents(
        self, plant: SimpleNamespace, told: list[Any], key: Any
    ) -> None:
        """Whoever may write to the broker is still not the agent."""
        offer, frame = signed(plant, A, key)
        assert the(plant.send(A, offer, frame)) == (REFUSED, Reason.FORGED)
        assert plant.rows.updates("tiny", 1) == []
        (event,) = events(told, "update.forged")
        assert (event["agent"], event["round"], event["sha256"]) == (A, 1, offer.sha256)

    def test_with_a_revoked_key(self, plant: SimpleNamespace) -> None:
        """Also what it signed before that: nobody knows when the key was stolen."""
        offer, frame = signed(plant, A)
        plant.rows.revoke(A, revoked_ns=5, reason="stolen")
        assert the(plant.send(A, offer, frame)) == (REFUSED, Reason.FORGED)

    def test_revoked_on_the_way(self, plant: SimpleNamespace) -> None:
        """The blocks are on their way when the key is revoked."""
        offer, frame = signed(plant, A)
        plant.offer(A, offer)
        plant.rows.revoke(A, revoked_ns=5, reason="stolen")
        plant.blocks(A, frame, [0])
        assert the(plant.voice.take("receipt")) == (REFUSED, Reason.FORGED)
        assert plant.rows.updates("tiny", 1) == []

    def test_with_a_certificate_that_is_no_agents(self, plant: SimpleNamespace) -> None:
        """The broker's, or the coordinator's own, signs no update."""
        plant.rows.add_certificate(certificate(A, FOREIGN, role="broker"))
        assert the(plant.send(A, *signed(plant, A, FOREIGN))) == (REFUSED, Reason.FORGED)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("round", 2), ("base", sha256(b"x")), ("examples", 9000), ("steps", 3.0), ("loss", 0.0)],
    )
    def test_said_of_another(self, plant: SimpleNamespace, field: str, value: object) -> None:
        """A true signature of the agent, under a label that is not this update's."""
        offer, frame = plant.update(A)
        other = sign(plant, structs.replace(offer, **{field: value}), A, KEYS[A])
        names = ("key", "origin", "signature")
        forged = structs.replace(offer, **{name: getattr(other, name) for name in names})
        assert the(plant.send(A, forged, frame)) == (REFUSED, Reason.FORGED)

    def test_handed_in_by_another(self, plant: SimpleNamespace) -> None:
        """What B learned counts once, as B's."""
        offer, frame = signed(plant, B)
        assert the(plant.send(A, offer, frame)) == (REFUSED, Reason.FORGED)
        assert the(plant.send(B, offer, frame)) == RECEIVED

    def test_with_other_blocks(self, plant: SimpleNamespace) -> None:
        """The label names the bytes: those of another frame are not it."""
        offer, frame = signed(plant, A)
        bent = bytes([*frame[:-1], frame[-1] ^ 1])
        assert plant.send(A, offer, bent) == []
        assert plant.rows.updates("tiny", 1) == []

    def test_for_another_model(self, plant: SimpleNamespace) -> None:
        """It is the agent's own, and of no use here."""
        offer, frame = signed(plant, A, schema=sha256(b"another"))
        assert the(plant.send(A, offer, frame)) == (REFUSED, Reason.WRONG_SCHEMA)

    def test_comes_first(self, plant: SimpleNamespace) -> None:
        """It does not take the place of the agent's own, which counts."""
        forged, frame = signed(plant, A, FOREIGN)
        forged = structs.replace(forged, sha256=sha256(b"forged"))
        assert the(plant.send(A, forged, frame)) == (REFUSED, Reason.FORGED)
        assert the(plant.send(A, *signed(plant, A))) == RECEIVED

    def test_comes_later(self, plant: SimpleNamespace) -> None:
        """It is told as what it is, not as a second update of the agent."""
        plant.send(A, *signed(plant, A))
        forged, frame = plant.update(A, delta=plant.vector()[: plant.elements] * 0)
        forged = sign(plant, forged, A, FOREIGN)
        assert the(plant.send(A, forged, frame)) == (REFUSED, Reason.FORGED)
        (row,) = plant.rows.updates("tiny", 1)
        assert row.sha256 != forged.sha256

    def test_comes_too_late(self, plant: SimpleNamespace) -> None:
        """Nothing of it is written down among the updates, not even as late."""
        forged, frame = signed(plant, C, FOREIGN)
        plant.rows.abandon_round("tiny", 1, closed_ns=9, report="{}")
        assert the(plant.send(C, forged, frame)) == (REFUSED, Reason.FORGED)
        assert plant.rows.updates("tiny", 1) == []

    def test_is_counted_and_the_round_goes_on(self, plant: SimpleNamespace) -> None:
        """The agent it was said to be of is still waited for."""
        for _ in range(2):
            plant.send(A, *signed(plant, A, FOREIGN))
        for agent in (B, C, A):
            assert plant.number == 1
            plant.send(agent, *signed(plant, agent))
        plant.step()
        record = plant.rows.round("tiny", 1)
        assert record.included == [A, B, C]
        assert record.rejected == 2
        assert dict(plant.counts.of("updates"))["tiny", REFUSED, "forged"] == 2
        assert plant.rows.refusals("tiny")[-1].reason == "update:forged"


class TestUnsigned:
    def test_is_refused(self, plant: SimpleNamespace, told: list[Any]) -> None:
        """An agent without an identity, or somebody without its key."""
        assert the(plant.send(A, *plant.update(A))) == (REFUSED, Reason.UNSIGNED)
        assert [event["agent"] for event in events(told, "update.unsigned")] == [A]

    def test_counts_where_no_signature_is_wanted(self, plant: SimpleNamespace) -> None:
        """Without ``[pki]`` all works as it did, for software of either protocol."""
        plant.signed = False
        plant.restart()
        assert the(plant.send(A, *plant.update(A))) == RECEIVED
        assert the(plant.send(B, *plant.update(B, protocol=OLDEST))) == RECEIVED

    def test_a_signature_is_kept_where_none_is_wanted(self, plant: SimpleNamespace) -> None:
        """Agents may get their identities before their coordinator wants to see them."""
        plant.signed = False
        plant.restart()
        offer, frame = signed(plant, A)
        assert the(plant.send(A, offer, frame)) == RECEIVED
        assert plant.rows.updates("tiny", 1)[0].key == offer.key

    def test_was_received_before_one_was_wanted(self, plant: SimpleNamespace) -> None:
        """What is stored and has its receipt is not refused when it is offered again."""
        plant.signed = False
        plant.restart()
        offer, frame = plant.update(A)
        plant.send(A, offer, frame)
        plant.signed = True
        plant.restart()
        assert the(plant.send(A, structs.replace(offer, offered_again=True), frame)) == RECEIVED


class TestLater:
    def row(self, plant: SimpleNamespace) -> UpdateRecord:
        """A stored update of A."""
        plant.send(A, *signed(plant, A))
        (row,) = plant.rows.updates("tiny", 1)
        return row

    @pytest.mark.parametrize(
        "change",
        [
            {"agent": B},
            {"round": 2},
            {"examples": 9},
            {"sha256": sha256(b"x")},
            {"wire_bytes": 1},
            {"shift": '{"force":[1.0,2.0]}'},
            {"origin": b""},
            {"signature": bytes(64)},
            {"key": "0" * 16},
        ],
    )
    def test_a_changed_row_is_noticed(self, plant: SimpleNamespace, change: dict[str, Any]) -> None:
        """Whoever edits the database leaves a label that does not fit."""
        row = self.row(plant)
        certificates = plant.rows.certificates(A)
        verify_record(row, certificates)
        with pytest.raises(TrustError):
            verify_record(structs.replace(row, **change), certificates)

    def test_unsigned_is_told_apart(self, plant: SimpleNamespace) -> None:
        """It came while none was asked for."""
        row = structs.replace(self.row(plant), key="", origin=b"", signature=b"")
        with pytest.raises(TrustError, match="no signature"):
            verify_record(row, plant.rows.certificates(A))

    def test_revoked_afterwards(self, plant: SimpleNamespace) -> None:
        """What a stolen key may have signed is to be found, later too."""
        row = self.row(plant)
        plant.rows.revoke(A, revoked_ns=5, reason="stolen")
        assert keys_of(plant.rows.certificates(A)) == []
        with pytest.raises(TrustError):
            verify_record(row, plant.rows.certificates(A))
