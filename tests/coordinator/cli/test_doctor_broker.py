# SPDX-License-Identifier: Apache-2.0
"""``fedmill doctor`` before a broker of a plant: each side's certificate, and nobody thrown out."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from click.testing import Result
from tests.pki import DAY, Authority, Credential
from tests.pki_broker import COORDINATOR, PlantBroker

from fedmill_shared.link.base import Connected, LinkEvent
from fedmill_shared.link.mqtt import Endpoint, MqttLink

pytestmark = pytest.mark.system
Run = Callable[..., Result]
AUTHORITY = Authority()
THEIRS = "certificate that the broker has"


class Plant:
    """A broker, and the configuration of its coordinator."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.broker = PlantBroker(folder / "broker", AUTHORITY)
        self.config = folder / "coordinator.toml"
        self.run = run

    def found(self, ours: Credential) -> dict[str, dict[str, str]]:
        """What the doctor says to a coordinator with this certificate."""
        tls = self.broker.identity(ours)
        self.config.write_text(
            f"[broker]\nport = {self.broker.port}\n[broker.tls]\n"
            f'ca = "{tls.ca}"\ncertificate = "{tls.certificate}"\nkey = "{tls.key}"\n'
        )
        result = self.run("doctor", "--config", self.config, "--json")
        return {each["check"]: each for each in json.loads(result.stdout)}


@pytest.fixture
def plant(tmp_path: Path, run: Run) -> Iterator[Plant]:
    """Its broker is not started yet."""
    made = Plant(tmp_path, run)
    yield made
    made.broker.stop()


def test_each_is_good_to_the_other(plant: Plant) -> None:
    """And until when the broker's certificate is, as it has it."""
    plant.broker.start()
    found = plant.found(AUTHORITY.issue(COORDINATOR))
    assert found["broker"]["state"] == "ok"
    assert "takes our certificate" in found["broker"]["detail"]
    assert found[THEIRS]["state"] == "ok"


def test_the_coordinator_stays_connected(plant: Plant) -> None:
    """Whoever signed in with its certificate would be it, and throw it out."""
    plant.broker.start()
    ours = AUTHORITY.issue(COORDINATOR)
    events: SimpleQueue[LinkEvent] = SimpleQueue()
    endpoint = Endpoint(
        host="127.0.0.1",
        port=plant.broker.port,
        client_id=COORDINATOR,
        subscriptions=(),
        tls=plant.broker.identity(ours),
    )
    link = MqttLink(endpoint, events.put)
    link.start()
    try:
        assert isinstance(events.get(timeout=20), Connected)
        assert plant.found(ours)["broker"]["state"] == "ok"
        assert plant.broker.log.count("New client connected") == 1
        assert events.empty()
    finally:
        link.stop()


@pytest.mark.parametrize(
    ("ours", "told"),
    [
        (AUTHORITY.expired(COORDINATOR), "our certificate was valid until 20"),
        (Authority("Another CA").issue(COORDINATOR), "does not know the authority"),
    ],
)
def test_a_certificate_that_it_refuses(plant: Plant, ours: Credential, told: str) -> None:
    """In a sentence, with what to do."""
    plant.broker.start()
    found = plant.found(ours)
    assert found["broker"]["state"] == "failed"
    assert told in found["broker"]["detail"]
    assert found["broker"]["remedy"]
    assert THEIRS not in found


def test_a_certificate_that_is_revoked(plant: Plant) -> None:
    """By the list that the broker has."""
    ours = AUTHORITY.issue(COORDINATOR)
    plant.broker.revoke(ours)
    plant.broker.start()
    assert "our certificate is revoked" in plant.found(ours)["broker"]["detail"]


@pytest.mark.parametrize(
    ("theirs", "check", "state", "told"),
    [
        (AUTHORITY.server(life=20 * DAY), THEIRS, "warning", "good until 20"),
        (AUTHORITY.server("elsewhere"), "broker", "failed", "is not for 127.0.0.1"),
        (Authority("Another CA").server(), "broker", "failed", "is not from our CA"),
    ],
)
def test_a_broker_to_be_seen_to(
    plant: Plant, theirs: Credential, check: str, state: str, told: str
) -> None:
    """What it has in use counts, and not what was issued for it."""
    plant.broker.credential = theirs
    plant.broker.start()
    found = plant.found(AUTHORITY.issue(COORDINATOR))[check]
    assert found["state"] == state
    assert told in found["detail"]
    assert found["remedy"]


def test_nobody_is_there(plant: Plant) -> None:
    """As it was."""
    found = plant.found(AUTHORITY.issue(COORDINATOR))["broker"]
    assert found["state"] == "failed"
    assert "start the broker" in found["remedy"]
