# SPDX-License-Identifier: Apache-2.0
"""Labels of origin: good for one update of one agent, signed with a key that is its own."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fedmill_shared.crypto.keys import key_id, make_key, public_bytes
from fedmill_shared.crypto.origin import sign_origin, verify_origin
from fedmill_shared.errors import FrameError, TrustError
from fedmill_shared.files import sha256
from fedmill_shared.messages import UpdateOffer, decode, encode
from fedmill_shared.messages.origin import SAID_TWICE, Origin, difference, label

KEY, OTHER = make_key(), make_key()
MINE = [public_bytes(KEY)]
AGENT = "press-1"
PLAIN = UpdateOffer(
    job="press",
    round=3,
    base=sha256(b"base"),
    sha256=sha256(b"frame"),
    size=1234,
    examples=567,
    loss=0.125,
    seconds=1.5,
    steps=12.5,
    shift={"force": (1.5, 0.25)},
)


def statement(offer: UpdateOffer = PLAIN, **fields: Any) -> bytes:
    """The label of ``offer``."""
    said = {"agent": AGENT, "schema": sha256(b"manifest"), "software": "0.1.0", "made_ns": 5}
    return label(offer, **{**said, **fields})


def signed(offer: UpdateOffer = PLAIN, key: Any = KEY, said: bytes | None = None) -> UpdateOffer:
    """``offer`` with a label, and a signature of ``key`` over it."""
    said = statement(offer) if said is None else said
    name, signature = sign_origin(key, said)
    return structs.replace(offer, key=name, origin=said, signature=signature)


OTHERS: dict[str, Any] = {
    "job": "lathe",
    "round": 4,
    "base": sha256(b"another"),
    "sha256": sha256(b"forged"),
    "size": 1235,
    "examples": 566,
    "loss": 0.5,
    "seconds": 1.25,
    "steps": 13.0,
    "shift": {},
}
"""Another value of each field that an offer and its label have in common."""


class TestGenuine:
    def test_says_what_was_signed(self) -> None:
        """Who made it, of what, with which software, when."""
        origin = verify_origin(signed(), AGENT, MINE)
        assert (origin.agent, origin.round, origin.sha256) == (AGENT, 3, PLAIN.sha256)
        assert (origin.schema, origin.software, origin.made_ns) == (sha256(b"manifest"), "0.1.0", 5)
        assert not difference(origin, PLAIN, AGENT)

    def test_any_key_of_the_agent_does(self) -> None:
        """It may wait in the outbox while the agent gets a new certificate."""
        assert verify_origin(signed(), AGENT, [public_bytes(OTHER), *MINE]).agent == AGENT

    def test_outlives_the_wire(self) -> None:
        """Numbers come back as the very ones that were signed."""
        offer = decode(encode(signed()), UpdateOffer)
        verify_origin(offer, AGENT, MINE)

    def test_how_it_is_offered_is_not_signed(self) -> None:
        """The same update is offered again, and to coordinators of either protocol."""
        verify_origin(structs.replace(signed(), offered_again=True, protocol=2), AGENT, MINE)

    def test_is_small(self) -> None:
        """A kilobyte, with all that an offer may tell of eight signals."""
        shift = {f"{'s' * 30}{n}": (1e-300, 1e300) for n in range(8)}
        assert len(statement(structs.replace(PLAIN, shift=shift))) < 1024

    def test_repeats_every_field(self) -> None:
        """A later field of an offer is signed too, unless it tells of the transfer alone."""
        transfer = {"protocol", "offered_again", "key", "origin", "signature"}
        assert {*SAID_TWICE} | transfer == {*UpdateOffer.__struct_fields__}
        assert {*OTHERS} == {*SAID_TWICE}


class TestForged:
    def test_with_the_key_of_another_agent(self) -> None:
        """A whole and true signature of somebody else."""
        with pytest.raises(TrustError, match="none that agent press-1 may sign with"):
            verify_origin(signed(key=OTHER), AGENT, MINE)

    def test_under_the_name_of_another_key(self) -> None:
        """The name is a hint, no proof."""
        forged = structs.replace(signed(key=OTHER), key=key_id(MINE[0]))
        with pytest.raises(TrustError, match="does not fit"):
            verify_origin(forged, AGENT, MINE)

    def test_without_any_key(self) -> None:
        """An agent without a certificate signs nothing."""
        with pytest.raises(TrustError, match="none that agent"):
            verify_origin(signed(), AGENT, [])

    def test_said_by_another_agent(self) -> None:
        """What one agent signed is not handed in by another, even if they share a key."""
        with pytest.raises(TrustError, match="agent is 'press-1' there"):
            verify_origin(signed(), "press-2", MINE)

    @pytest.mark.parametrize("field", SAID_TWICE)
    def test_replayed(self, field: str) -> None:
        """A signature is good for no other job, round, base or frame, and no other number."""
        replayed = structs.replace(signed(), **{field: OTHERS[field]})
        with pytest.raises(TrustError, match=rf"of another update: {field} is"):
            verify_origin(replayed, AGENT, MINE)

    @pytest.mark.parametrize("purpose", ["renewal", "updat", "update "])
    def test_made_for_something_else(self, purpose: str) -> None:
        """The key of an agent signs other things, none of which is an update."""
        from fedmill_shared.crypto.statements import sign

        forged = structs.replace(signed(), signature=sign(KEY, purpose, statement()))
        with pytest.raises(TrustError, match="does not fit"):
            verify_origin(forged, AGENT, MINE)

    @given(field=st.sampled_from(["origin", "signature"]), bit=st.integers(0, 10**6))
    def test_one_bit_changed(self, field: str, bit: int) -> None:
        """Wherever it is."""
        whole = signed()
        data = bytearray(getattr(whole, field))
        place, mask = divmod(bit % (8 * len(data)), 8)
        data[place] ^= 1 << mask
        with pytest.raises(TrustError, match="does not fit"):
            verify_origin(structs.replace(whole, **{field: bytes(data)}), AGENT, MINE)

    @given(data=st.data())
    def test_one_bit_of_the_offer_changed(self, data: st.DataObject) -> None:
        """What is altered on the way is no offer at all, or not the one that was signed."""
        whole = signed()
        wire = bytearray(encode(whole))
        place = data.draw(st.integers(0, len(wire) - 1))
        wire[place] ^= 1 << data.draw(st.integers(0, 7))
        try:
            altered = decode(bytes(wire), UpdateOffer)
        except FrameError:
            return
        transfer = {"protocol": 2, "offered_again": True}
        if structs.replace(altered, **transfer) == structs.replace(whole, **transfer):
            return
        with pytest.raises(TrustError):
            verify_origin(altered, AGENT, MINE)

    @given(field=st.sampled_from(["origin", "signature"]), cut=st.integers(0, 10**6))
    def test_truncated(self, field: str, cut: int) -> None:
        """However little is missing."""
        whole = signed()
        data = getattr(whole, field)
        shorter = structs.replace(whole, **{field: data[: cut % len(data)]})
        with pytest.raises(TrustError):
            verify_origin(shorter, AGENT, MINE)

    @given(said=st.binary(max_size=300))
    def test_anything_signed(self, said: bytes) -> None:
        """The owner of the key may sign what it likes: it is read, and bounded, like the rest."""
        with pytest.raises(TrustError):
            verify_origin(signed(said=said), AGENT, MINE)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("software", "x" * 65), ("agent", "no agent"), ("made_ns", -1), ("loss", float("inf"))],
    )
    def test_beyond_its_bounds(self, field: str, value: object) -> None:
        """No field of a label is longer or larger than it can honestly be."""
        said = msgspec.msgpack.decode(statement(), type=Origin)
        bent = msgspec.msgpack.encode(structs.replace(said, **{field: value}))
        with pytest.raises(TrustError, match="cannot be read"):
            verify_origin(signed(said=bent), AGENT, MINE)

    @pytest.mark.parametrize(("field", "most"), [("origin", 4096), ("signature", 64)])
    def test_oversized(self, field: str, most: int) -> None:
        """It is refused before anything is computed."""
        wire = encode(structs.replace(PLAIN, **{field: bytes(most)}))
        assert len(getattr(decode(wire, UpdateOffer), field)) == most
        with pytest.raises(FrameError, match="UpdateOffer cannot be decoded"):
            decode(encode(structs.replace(PLAIN, **{field: bytes(most + 1)})), UpdateOffer)
