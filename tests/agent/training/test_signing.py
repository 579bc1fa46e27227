# SPDX-License-Identifier: Apache-2.0
"""The training process signs what it has trained, with the key that is there at that moment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmill_agent.training import protocol
from fedmill_agent.training.offering import offer_of
from fedmill_agent.training.worker import Worker
from fedmill_shared import __version__
from fedmill_shared.clock import ManualClock
from fedmill_shared.crypto.keys import make_key, public_bytes, write_key
from fedmill_shared.crypto.origin import verify_origin
from fedmill_shared.errors import IdentityError

Ask = Callable[..., Any]
KEY, RENEWED = make_key(), make_key()


@pytest.fixture
def identity(tmp_path: Path) -> str:
    """A file with the key."""
    path = tmp_path / "key.pem"
    write_key(path, KEY)
    return str(path)


class TestTrain:
    def test_is_signed(self, ask: Ask, identity: str) -> None:
        """All that goes on the wire, and by whom, of what and when it was made."""
        worker, task = Worker(clock=ManualClock()), ask(protocol.Train, identity=identity)
        answer = worker.answer(task)
        job = worker._model(task.job, 1)[0].name
        offer = offer_of(task, answer, job)
        origin = verify_origin(offer, "a", [public_bytes(KEY)])
        assert (origin.job, origin.agent, origin.schema) == (job, "a", task.schema)
        assert (origin.software, origin.made_ns) == (__version__, ManualClock().now_ns())

    def test_the_key_is_read_each_time(self, ask: Ask, identity: str) -> None:
        """A renewal needs no other process."""
        worker, task = Worker(), ask(protocol.Train, identity=identity)
        first = worker.answer(task)
        write_key(Path(identity), RENEWED)
        second = worker.answer(task)
        assert first.key != second.key

    @pytest.mark.parametrize("content", [None, b"", b"no key"])
    def test_without_a_key_nothing_is_lost(
        self, ask: Ask, identity: str, content: bytes | None
    ) -> None:
        """What was learned is handed over with its label, to be signed later."""
        Path(identity).unlink()
        if content is not None:
            Path(identity).write_bytes(content)
        answer = Worker().answer(ask(protocol.Train, identity=identity))
        assert isinstance(answer, protocol.Trained)
        assert answer.origin
        assert answer.frame
        assert (answer.key, answer.signature) == ("", b"")

    def test_without_an_identity(self, ask: Ask) -> None:
        """Nothing is read, nothing is signed."""
        answer = Worker().answer(ask(protocol.Train))
        assert (answer.key, answer.origin, answer.signature) == ("", b"", b"")


class TestSign:
    def test_signs_what_was_trained_before(self, ask: Ask, identity: str) -> None:
        """Neither windows nor a model are needed for it."""
        task = protocol.Sign(
            number=3, job=b"", store="", sha256="c" * 64, origin=b"label", identity=identity
        )
        answer = Worker().answer(task)
        assert isinstance(answer, protocol.Signed)
        assert (answer.number, answer.sha256, answer.origin) == (3, "c" * 64, b"label")
        assert len(answer.signature) == 64

    def test_says_which_file_it_could_not_read(self, identity: str) -> None:
        """The operator is told what to restore."""
        Path(identity).unlink()
        task = protocol.Sign(
            number=3, job=b"", store="", sha256="c" * 64, origin=b"label", identity=identity
        )
        with pytest.raises(IdentityError, match=r"key\.pem: the key cannot be read"):
            Worker().answer(task)
