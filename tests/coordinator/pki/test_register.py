# SPDX-License-Identifier: Apache-2.0
"""The list of revocations: always there, always whole, and never too old for a broker."""

from pathlib import Path

import pytest
from tests.coordinator.pki.kit import DAY, Box, Office

from fedmill_coordinator.pki.authority import Authority
from fedmill_coordinator.pki.register import Register
from fedmill_shared.crypto.keys import public_bytes
from fedmill_shared.errors import IdentityError, StoreError


class TestList:
    def written(self, office: Office) -> frozenset[str]:
        """Serial numbers in the file."""
        return office.authority.read_revocations(office.crl.read_bytes())[0]

    def test_is_there_before_anybody_is_revoked(self, office: Office) -> None:
        """A broker that names a file that is missing does not start; all may read it."""
        assert office.register.keep_list() == 0
        assert self.written(office) == frozenset()
        assert office.crl.stat().st_mode & 0o777 == 0o644

    def test_follows_every_revocation(self, office: Office) -> None:
        """And is left alone while nothing changes."""
        office.register.keep_list()
        office.enrolled("gw7")
        assert office.register.keep_list() is None
        office.store.revoke("gw7", revoked_ns=office.clock.now_ns(), reason="lost")
        assert office.register.keep_list() == 1
        assert self.written(office) == {office.store.certificates("gw7")[0].serial}
        assert office.register.keep_list() is None

    def test_is_made_anew_long_before_it_runs_out(self, office: Office) -> None:
        """Once a day, though it is good for a month; and when it is told to."""
        office.register.keep_list()
        office.clock.advance(DAY - 1)
        assert office.register.keep_list() is None
        assert office.register.keep_list(anew=True) == 0
        office.clock.advance(DAY)
        assert office.register.keep_list() == 0

    def test_a_clock_that_was_set_back(self, office: Office) -> None:
        """A list of the future is made anew: nobody would believe it."""
        office.register.keep_list()
        office.clock.advance(-DAY)
        assert office.register.keep_list() == 0

    def test_forgets_what_has_run_out_anyway(self, office: Office) -> None:
        """A day after its end, so that the list does not grow for ever."""
        office.enrolled("gw7")
        office.store.revoke("gw7", revoked_ns=office.clock.now_ns(), reason="lost")
        office.register.keep_list()
        office.clock.advance(90 * DAY)
        assert office.register.keep_list() == 1
        office.clock.advance(DAY)
        assert office.register.keep_list() == 0

    def test_what_somebody_damaged(self, office: Office) -> None:
        """It is written anew."""
        office.register.keep_list()
        office.crl.write_bytes(b"damaged")
        assert office.register.keep_list() == 0
        assert self.written(office) == frozenset()

    def test_is_read_once_while_it_is_the_same_file(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The daemon asks every second, and to check a signature takes its time."""
        read: list[bytes] = []
        original = Authority.read_revocations

        def counting(authority: Authority, pem: bytes) -> tuple[frozenset[str], int]:
            read.append(pem)
            return original(authority, pem)

        monkeypatch.setattr(Authority, "read_revocations", counting)
        office.register.keep_list()
        for _ in range(5):
            assert office.register.keep_list() is None
        assert len(read) == 1
        office.crl.write_bytes(office.crl.read_bytes())
        assert office.register.keep_list() is None
        assert len(read) == 2

    def test_of_an_authority_before(self, office: Office) -> None:
        """A broker that knows the new authority only would turn everybody away."""
        office.register.keep_list()
        new = Authority.make("Plant CA", office.clock.now_ns())
        register = Register(new, office.store, office.clock, days=90, crl=office.crl)
        assert register.keep_list() == 0
        assert new.read_revocations(office.crl.read_bytes())[0] == frozenset()

    def test_what_cannot_be_written(self, office: Office) -> None:
        """One error that names the path."""
        office.crl.mkdir(parents=True)
        with pytest.raises(StoreError, match=r"crl\.pem"):
            office.register.keep_list()


class TestNames:
    def test_those_of_ours(self, tmp_path: Path, office: Office) -> None:
        """Also the coordinator's own id, where it has another."""
        box = Box("gw7")
        for name in ("coordinator", "broker", "all", "enrol"):
            with pytest.raises(IdentityError, match="no agent may be called"):
                office.register.agent(name, public_bytes(box.key), box.csr)
        office.register.check_name("plant-1")
