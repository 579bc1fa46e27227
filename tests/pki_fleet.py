# SPDX-License-Identifier: Apache-2.0
"""A federation of real processes in a plant as it is deployed: every link over mutual TLS."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.pki import Authority, Credential
from tests.pki_broker import PlantBroker
from tests.system.fleet import COORDINATOR, Fleet, a_job, a_plant, marked

from fedmill_coordinator.demo.recipes.plan import Plan, Plant
from fedmill_shared.job import Job


class SecureFleet(Fleet):
    """A fleet whose broker is that of the templates.

    Attributes:
        authority: the plant's CA.
        plant: the broker.
        credentials: of coordinator and agents, by name.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        super().__init__(folder, plan)
        self.authority = Authority()
        self.plant = PlantBroker(folder / "plant", self.authority)
        self.credentials: dict[str, Credential] = {}
        configs = {COORDINATOR: self.layout.coordinator, **self.layout.agents}
        for name, path in configs.items():
            path.write_text(path.read_text().replace(str(self.port), str(self.plant.port)))
            with path.open("a") as file:
                file.write("\n[broker.tls]\n")
            self.certify(name, self.authority.issue(name))
        self._stack.callback(self.plant.stop)

    def start_broker(self) -> None:
        """Start the broker, with what it remembers."""
        with marked(self.folder):
            self.plant.start()

    def identity(self, name: str) -> Path:
        """Where coordinator or agent has its three files."""
        if name == COORDINATOR:
            return self.layout.coordinator.parent / "coordinator" / "identity"
        return self.state(name) / "identity"

    def certify(self, name: str, credential: Credential) -> None:
        """Give coordinator or agent a certificate."""
        self.credentials[name] = credential
        credential.write(self.identity(name), self.authority.pem)


@contextmanager
def secure_federation(
    folder: Path,
    job: Job | None = None,
    plants: Sequence[Plant] | None = None,
    *,
    only: Sequence[str] | None = None,
) -> Iterator[SecureFleet]:
    """Run a federation, by default of three agents; ``only`` names who is started at once."""
    plan = Plan(job or a_job(), list(plants or [a_plant(number) for number in (1, 2, 3)]))
    with SecureFleet(folder, plan) as fleet:
        fleet.start_broker()
        fleet.start(*([COORDINATOR, *fleet.agents] if only is None else only))
        yield fleet
