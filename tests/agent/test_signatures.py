# SPDX-License-Identifier: Apache-2.0
"""Updates of an agent with an identity: none goes out without a signature, none is lost for it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.agent.stand import Agent, receipt, trained

from fedmill_agent.ports import Ports
from fedmill_agent.signatures import AGAIN_SECONDS
from fedmill_agent.training import protocol
from fedmill_agent.training.offering import offer_of
from fedmill_agent.training.signing import sign, signed
from fedmill_shared.crypto.keys import make_key, public_bytes, write_key
from fedmill_shared.crypto.origin import verify_origin
from fedmill_shared.errors import IdentityError, TrainerError
from fedmill_shared.messages import UpdateOffer
from fedmill_shared.protocol import OLDEST

KEY, RENEWED = make_key(), make_key()


class Signing(Agent):
    """An agent with an identity, and the trainer's part in it."""

    identity = ""

    def start(self) -> None:
        """A new process on the same folder."""
        super().start()
        ports = self.part._ports
        names = ("send", "submit", "number", "obstacle")
        own = Ports(
            **{name: getattr(ports, name) for name in names}, identity=lambda: self.identity
        )
        self.part._ports = own
        self.part.delivery._signatures._identity = lambda: self.identity

    def train(self) -> None:
        """The trainer does the training in hand, and signs if it can."""
        [task] = self.asked(protocol.Train)
        answer = signed(trained(task, residual=self.early), task, "press", made_ns=7)
        self.part.answer(answer)

    def asked(self, of: type[Any]) -> list[Any]:
        """Tasks of a kind that the trainer was given since the last look."""
        found = [task for task in self.tasks if isinstance(task, of)]
        self.tasks = [task for task in self.tasks if not isinstance(task, of)]
        return found

    def sign(self) -> None:
        """The trainer signs what it was asked to, if it can."""
        for task in self.asked(protocol.Sign):
            try:
                self.part.answer(sign(task))
            except IdentityError as error:
                failed = protocol.Failed(
                    number=task.number, error="IdentityError", message=str(error)
                )
                self.part.answer(failed)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        self.part.tick()


def assert_of(offer: UpdateOffer, key: Any) -> None:
    """``offer`` is signed with ``key``, by this agent."""
    verify_origin(offer, "a", [public_bytes(key)])


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signing:
    """An agent with a key, in round 1, which the trainer has in hand."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    made = Signing(tmp_path / "job")
    made.identity = str(tmp_path / "key.pem")
    write_key(Path(made.identity), KEY)
    made.round(1)
    made.sent.clear()
    return made


def without_key(agent: Signing) -> None:
    """The key is not there while the training is done."""
    Path(agent.identity).unlink()
    agent.train()


class TestWithKey:
    def test_is_signed_where_it_is_trained(self, agent: Signing) -> None:
        """The daemon has no part in it, and it goes out at once."""
        agent.train()
        (offer,) = agent.offers()
        assert_of(offer, KEY)
        assert agent.asked(protocol.Sign) == []

    def test_outlives_a_kill(self, agent: Signing) -> None:
        """The signature is on disk beside the frame; nobody is asked again."""
        agent.train()
        (first,) = agent.offers()
        Path(agent.identity).unlink()
        agent.start()
        agent.part.delivery.reconnected()
        (again,) = agent.offers()
        assert (again.origin, again.signature) == (first.origin, first.signature)
        assert again.offered_again
        assert agent.asked(protocol.Sign) == []

    def test_outlives_a_renewal(self, agent: Signing) -> None:
        """What was signed stays so; what is trained next is signed with the new key."""
        agent.train()
        write_key(Path(agent.identity), RENEWED)
        agent.wait(11)
        first, again = agent.offers()
        assert first.signature == again.signature
        agent.part.delivery.receipt(receipt(first, "included"))
        agent.round(2)
        agent.sent.clear()
        agent.train()
        (second,) = agent.offers()
        assert_of(second, RENEWED)

    def test_to_a_coordinator_of_protocol_1(self, agent: Signing) -> None:
        """It skips what it does not know."""
        agent.part.delivery.protocol = OLDEST
        agent.train()
        (offer,) = agent.offers()
        assert_of(offer, KEY)


class TestWithoutKey:
    def test_waits(self, agent: Signing) -> None:
        """It is kept, nothing goes out, and it is told once."""
        without_key(agent)
        for _ in range(3):
            agent.sign()
            agent.wait(AGAIN_SECONDS)
        assert agent.offers() == []
        assert agent.part.delivery.waiting == 1
        (told,) = agent.journal.of("update.unsigned")
        assert agent.identity in told["error"]

    def test_goes_out_once_the_key_is_back(self, agent: Signing) -> None:
        """With the label that was made when it was trained."""
        without_key(agent)
        agent.sign()
        write_key(Path(agent.identity), KEY)
        agent.wait(AGAIN_SECONDS - 1)
        assert agent.asked(protocol.Sign) == []
        agent.wait(1)
        agent.sign()
        (offer,) = agent.offers()
        assert_of(offer, KEY)
        assert verify_origin(offer, "a", [public_bytes(KEY)]).made_ns == 7
        assert [told["round"] for told in agent.journal.of("update.signed")] == [1]

    def test_is_asked_for_once_at_a_time(self, agent: Signing) -> None:
        """However long the trainer takes."""
        without_key(agent)
        for _ in range(100):
            agent.wait(1)
        assert len(agent.asked(protocol.Sign)) == 1

    def test_outlives_a_kill(self, agent: Signing) -> None:
        """After the restart it is signed, and nothing is trained again."""
        without_key(agent)
        write_key(Path(agent.identity), KEY)
        agent.start()
        agent.part.delivery.reconnected()
        agent.sign()
        (offer,) = agent.offers()
        assert_of(offer, KEY)

    def test_the_trainer_dies(self, agent: Signing) -> None:
        """It is asked for again."""
        without_key(agent)
        (task,) = agent.asked(protocol.Sign)
        agent.part.trainer_died([task.number])
        write_key(Path(agent.identity), KEY)
        agent.wait(AGAIN_SECONDS)
        agent.sign()
        assert len(agent.offers()) == 1

    def test_there_is_no_trainer(self, agent: Signing) -> None:
        """It is asked for again then, too."""

        def broken(_: object) -> None:
            raise TrainerError("no process")

        working = agent.part._ports.submit
        without: Callable[[Any], None] = broken
        [task] = agent.asked(protocol.Train)
        Path(agent.identity).unlink()
        object.__setattr__(agent.part._ports, "submit", without)
        agent.part.answer(signed(trained(task), task, "press", made_ns=7))
        object.__setattr__(agent.part._ports, "submit", working)
        write_key(Path(agent.identity), KEY)
        agent.wait(AGAIN_SECONDS)
        agent.sign()
        assert len(agent.offers()) == 1

    def test_the_disk_is_full(self, agent: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
        """A signature that cannot be kept is asked for again."""
        without_key(agent)
        write_key(Path(agent.identity), KEY)
        agent.wait(AGAIN_SECONDS)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", full)
            agent.sign()
        assert agent.offers() == []
        agent.wait(AGAIN_SECONDS)
        agent.sign()
        assert len(agent.offers()) == 1

    def test_another_update_is_not_held_up(self, agent: Signing) -> None:
        """The one of the next round, which has its signature, goes out."""
        without_key(agent)
        agent.sign()
        write_key(Path(agent.identity), KEY)
        agent.round(2)
        agent.sent.clear()
        agent.train()
        assert [offer.round for offer in agent.offers()] == [2]


class TestIdentityLater:
    def test_what_waits_is_signed_then(self, agent: Signing) -> None:
        """It was trained before there was an identity; its label is made now."""
        path, agent.identity = agent.identity, ""
        [task] = agent.asked(protocol.Train)
        plain = structs.replace(task, identity="")
        agent.part.answer(signed(trained(plain), plain, "press", made_ns=7))
        (unsigned,) = agent.offers()
        assert not unsigned.signature
        agent.identity = path
        agent.wait(11)
        assert agent.offers() == []
        agent.sign()
        (offer,) = agent.offers()
        assert_of(offer, KEY)

    def test_not_before_a_version_is_followed(self, agent: Signing) -> None:
        """The layout of what was learned is not known before."""
        path, agent.identity = agent.identity, ""
        [task] = agent.asked(protocol.Train)
        agent.part.answer(trained(task))
        followed, agent.deployment.followed = agent.deployment.followed, None
        agent.identity = path
        agent.wait(11)
        assert agent.asked(protocol.Sign) == []
        agent.deployment.followed = followed
        agent.wait(AGAIN_SECONDS)
        assert len(agent.asked(protocol.Sign)) == 1

    def test_without_one_nothing_is_signed(self, agent: Signing) -> None:
        """As it was, and in the same bytes."""
        agent.identity = ""
        [task] = agent.asked(protocol.Train)
        plain = structs.replace(task, identity="")
        answer = trained(plain)
        assert signed(answer, plain, "press", made_ns=7) is answer
        assert offer_of(plain, answer, "press").origin == b""
