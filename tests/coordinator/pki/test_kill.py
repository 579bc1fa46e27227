# SPDX-License-Identifier: Apache-2.0
"""Kill -9 between a request and its answer: the box asks again, and has one certificate."""

import os
import signal
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine
from tests.coordinator.pki.kit import DAY, Box, Office

from fedmill_coordinator.store.sql import SqlStore


def killed(office: Office, box: Box, step: int) -> int:
    """How a child ended that answered ``box`` and died before one statement or commit."""
    child = os.fork()
    if child == 0:
        left = [step]

        def die(*_: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            event.listen(Engine, "before_cursor_execute", die)
            event.listen(Engine, "commit", die)
            answer = office.enrol(box)
            os.kill(os.getpid(), signal.SIGKILL if answer.state == "issued" else 0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class TestKill:
    def test_between_issue_and_answer(self, tmp_path: Path) -> None:
        """The code is burnt and the certificate stored together, or neither is."""
        path = tmp_path / "fedmill.sqlite"
        with SqlStore.in_file(path) as store:
            office = Office(tmp_path, store)
            box = office.box()
            store.close()  # no connection crosses the fork
            states: list[tuple[str, int]] = []
            while not states or states[-1][0] != "issued":
                assert killed(office, box, len(states) + 1) == -signal.SIGKILL
                states.append((office.state(), len(store.certificates())))
                store.close()
            assert len(states) > 4
            assert set(states[:-1]) == {("open", 0)}
            assert states[-1] == ("issued", 1)
            [kept] = store.certificates()
            answer = office.enrol(box)
            assert (answer.state, answer.certificate) == ("issued", kept.certificate)
            assert store.certificates() == [kept]

    def test_between_renewal_and_answer(self, tmp_path: Path) -> None:
        """The same request is answered with the certificate that was stored."""
        with SqlStore.in_file(tmp_path / "fedmill.sqlite") as store:
            office = Office(tmp_path, store)
            box, following = office.enrolled(), Box("gw7")
            office.clock.advance(60 * DAY)
            store.close()
            child = os.fork()
            if child == 0:
                try:
                    office.renew(box, following)
                    os.kill(os.getpid(), signal.SIGKILL)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            kept = store.certificates("gw7")[-1]
            assert len(store.certificates("gw7")) == 2
            assert office.renew(box, following).certificate == kept.certificate
            assert len(store.certificates("gw7")) == 2
