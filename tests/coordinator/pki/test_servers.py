# SPDX-License-Identifier: Apache-2.0
"""Certificates of the broker and the coordinator: made once, and again before they run out."""

from pathlib import Path

import pytest
from tests.coordinator.pki.kit import DAY, Office

from fedmill_coordinator.pki.servers import issue_broker, issue_coordinator
from fedmill_shared.crypto.certificates import check_pair, read_certificate
from fedmill_shared.crypto.keys import read_key

HOSTS = ("broker.plant", "10.0.0.5")


class TestBroker:
    def test_a_folder_that_is_whole(self, office: Office, tmp_path: Path) -> None:
        """Key, certificate and authority; the key for its owner only."""
        folder = tmp_path / "broker"
        issued = issue_broker(office.register, office.store, HOSTS, folder)
        facts = read_certificate((folder / "certificate.pem").read_bytes())
        check_pair(facts, read_key(folder / "key.pem"))
        assert (facts.hosts, issued.new, issued.serial) == (HOSTS, True, facts.serial)
        assert (folder / "ca.pem").read_bytes() == office.authority.pem
        assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
        [record] = office.store.certificates("broker")
        assert (record.role, record.serial) == ("broker", facts.serial)

    def test_left_alone(self, office: Office, tmp_path: Path) -> None:
        """While it is for the same machine and holds for another month."""
        first = issue_broker(office.register, office.store, HOSTS, tmp_path)
        office.clock.advance(334 * DAY)
        again = issue_broker(office.register, office.store, reversed_hosts(), tmp_path)
        assert (again.new, again.serial) == (False, first.serial)
        office.clock.advance(2 * DAY)
        assert issue_broker(office.register, office.store, HOSTS, tmp_path).new

    @pytest.mark.parametrize("lost", ["key.pem", "certificate.pem"])
    def test_made_again(self, office: Office, tmp_path: Path, lost: str) -> None:
        """For another machine, when told to, and where half of it is gone."""
        issue_broker(office.register, office.store, HOSTS, tmp_path)
        other = issue_broker(office.register, office.store, HOSTS[:1], tmp_path)
        assert other.new
        assert issue_broker(office.register, office.store, HOSTS[:1], tmp_path, renew=True).new
        (tmp_path / lost).unlink()
        assert issue_broker(office.register, office.store, HOSTS[:1], tmp_path).new

    def test_of_another_authority(self, office: Office, tmp_path: Path) -> None:
        """The plant began anew: what is there is worth nothing."""
        issue_broker(office.register, office.store, HOSTS, tmp_path)
        anew = Office(tmp_path / "anew")
        assert issue_broker(anew.register, anew.store, HOSTS, tmp_path).new


class TestCoordinator:
    def test_its_own(self, office: Office, tmp_path: Path) -> None:
        """A client's, with its id; recorded as what it is, so that it denies nobody."""
        issued = issue_coordinator(office.register, office.store, "plant-1", tmp_path)
        again = issue_coordinator(office.register, office.store, "plant-1", tmp_path)
        assert (issued.new, again.new) == (True, False)
        assert read_certificate((tmp_path / "certificate.pem").read_bytes()).agent == "plant-1"
        assert issue_coordinator(office.register, office.store, "plant-2", tmp_path).new
        office.store.revoke("plant-1", revoked_ns=office.clock.now_ns(), reason="")
        assert office.store.denied() == []


def reversed_hosts() -> list[str]:
    """The order says nothing."""
    return list(reversed(HOSTS))
