# SPDX-License-Identifier: Apache-2.0
"""Certificates that people renew: told of long before nobody connects any more."""

from pathlib import Path

import pytest
from msgspec import structs
from structlog.testing import capture_logs
from tests.coordinator.pki.kit import DAY, Office
from tests.pki import Authority as OtherAuthority

from fedmill_coordinator.config import BrokerSection, CoordinatorConfig, CoordinatorSection
from fedmill_coordinator.pki.options import PkiSection
from fedmill_coordinator.pki.servers import issue_broker, issue_coordinator
from fedmill_coordinator.pki.terms import Terms, terms
from fedmill_shared.link.options import TlsSection

DAY_NS = DAY * 10**9


class Plant:
    """An authority, and what it has issued."""

    def __init__(self, office: Office, folder: Path) -> None:
        self.office = office
        self.folder = folder
        (folder / "ca.pem").write_bytes(office.authority.pem)
        issue_coordinator(office.register, office.store, "coordinator", folder / "own")
        self.broker()
        own = folder / "own"
        tls = TlsSection(
            ca=str(own / "ca.pem"),
            certificate=str(own / "certificate.pem"),
            key=str(own / "key.pem"),
        )
        self.config = CoordinatorConfig(
            coordinator=CoordinatorSection(state=str(folder)),
            broker=BrokerSection(tls=tls),
            pki=PkiSection(ca_certificate=str(folder / "ca.pem")),
        )
        self.watch = Terms(self.config, office.store, office.clock, office.log)

    def broker(self, days: int = 365) -> None:
        """The broker gets a new certificate."""
        office = self.office
        issue_broker(
            office.register, office.store, ["plant"], self.folder / "b", days=days, renew=True
        )

    def ends(self) -> dict[str, int]:
        """Days until each is over."""
        now = self.office.clock.now_ns()
        found = terms(self.config, self.office.store.certificates())
        return {each.whose: round((each.end_ns - now) / DAY_NS) for each in found}

    def told(self, days: float = 0.0) -> list[tuple[str, str]]:
        """Events, and whose certificate each is about, after so many days."""
        self.office.clock.advance(days * DAY)
        with capture_logs() as logs:
            self.watch.tick()
        assert all(log["remedy"] for log in logs)
        return [(log["event"].removeprefix("certificate."), log["whose"]) for log in logs]


@pytest.fixture
def plant(office: Office, tmp_path: Path) -> Plant:
    """Everything is new."""
    return Plant(office, tmp_path)


class TestTerms:
    def test_of_all_three(self, plant: Plant) -> None:
        """The authority's is that which issues, and not what the broker is verified with."""
        assert plant.ends() == {"own": 365, "ca": 3650, "broker": 365}

    def test_the_newest_of_the_broker(self, plant: Plant) -> None:
        """Though it be shorter; one that was revoked does not count."""
        plant.office.clock.advance(DAY)
        plant.broker(days=50)
        assert plant.ends()["broker"] == 50
        [newest] = [e for e in plant.office.store.certificates() if e.role == "broker"][-1:]
        plant.office.store.revoke(
            "broker", revoked_ns=plant.office.clock.now_ns(), reason="lost", serial=newest.serial
        )
        assert plant.ends()["broker"] == 364

    def test_of_a_plant_without_an_authority_here(self, plant: Plant) -> None:
        """Files of others are looked at as ours are; without any there is nothing to tell."""
        other = OtherAuthority()
        (plant.folder / "own" / "ca.pem").write_bytes(other.pem)
        config = structs.replace(plant.config, pki=None)
        found = {each.whose: each.end_ns for each in terms(config, [])}
        assert found["ca"] == round(other.certificate.not_valid_after_utc.timestamp()) * 10**9
        assert list(terms(CoordinatorConfig(coordinator=config.coordinator), [])) == []

    def test_a_file_that_is_gone(self, plant: Plant) -> None:
        """Whoever needs it says so; the others are told."""
        (plant.folder / "own" / "certificate.pem").unlink()
        assert plant.ends() == {"ca": 3650, "broker": 365}


class TestTold:
    def test_nothing_while_there_is_time(self, plant: Plant) -> None:
        """A year's certificate is no news."""
        assert plant.told() == []
        assert plant.told(days=336) == []

    def test_in_time_and_once_a_day(self, plant: Plant) -> None:
        """From four weeks before, until it is renewed."""
        both = [("expires_soon", "own"), ("expires_soon", "broker")]
        assert plant.told(days=338) == both
        assert plant.told(days=0.5) == []
        assert plant.told(days=0.5) == both
        plant.broker()
        assert plant.told(days=1) == both[:1]

    def test_what_is_over(self, plant: Plant) -> None:
        """An error each day."""
        assert plant.told(days=366) == [("expired", "own"), ("expired", "broker")]

    def test_the_authority_a_year_before(self, plant: Plant) -> None:
        """Everybody must enrol again until then."""
        told = plant.told(days=3650 - 364)
        assert ("expires_soon", "ca") in told

    def test_says_until_when_and_what_to_do(self, plant: Plant) -> None:
        """For people who read the log."""
        plant.office.clock.advance(340 * DAY)
        with capture_logs() as logs:
            plant.watch.tick()
        [broker] = [log for log in logs if log["whose"] == "broker"]
        assert broker["until"].endswith(" UTC")
        assert "`fedmill ca issue-broker`" in broker["remedy"]

    def test_a_renewal_is_issued_as_soon_as_it_is_told(self, plant: Plant) -> None:
        """Whoever does what the remedy says gets another certificate."""
        assert plant.told(days=338)
        office = plant.office
        assert issue_broker(office.register, office.store, ["plant"], plant.folder / "b").new
