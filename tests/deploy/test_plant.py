# SPDX-License-Identifier: Apache-2.0
"""One plant's history, step by step: made from a bundle without internet, hurt, upgraded, and back.

The steps stand in order, and each goes on where the one before it ended.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.deploy import bundles
from tests.deploy.bundles import BundleError
from tests.deploy.lab import Lab, Machine
from tests.deploy.plant import GATEWAYS, LONG, SECRET, SECRET_NAME, SHORT, Plant

pytestmark = pytest.mark.deploy

_SERVICES = [
    ("plant", "mosquitto.service"),
    ("plant", "fedmill-coordinator.service"),
    ("gw1", "fedmill-agent.service"),
]
ISSUED = "/var/lib/fedmill-coordinator/pki/issued/broker"
_COUNT = """
import sqlite3, sys
store = sqlite3.connect(f"file:{sys.argv[1]}?immutable=1", uri=True)
print(store.execute("select count(*) from updates").fetchone()[0])
"""
_MEMORY = Path("/sys/fs/cgroup/memory")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of this release."""
    try:
        return bundles.this_release(tmp_path_factory.mktemp("bundles"))
    except BundleError as error:
        pytest.skip(f"no bundle can be made here: {error}")


@pytest.fixture(scope="module")
def newer(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the next release."""
    return bundles.next_release(tmp_path_factory.mktemp("next"))


@pytest.fixture(scope="module")
def plant(lab: Lab) -> Plant:
    """Three machines on which nothing of fedmill is yet."""
    return Plant(lab)


def _machine(plant: Plant, name: str) -> Machine:
    return next(machine for machine in plant.machines if machine.name == name)


def _trainer(machine: Machine) -> int:
    """The training process, by its number inside; 0 for none."""
    found = machine.run("pgrep", "-f", "fedmill_agent.training", ok=False).split()
    return int(found[0]) if found else 0


@contextmanager
def _tight(machine: Machine) -> Iterator[Callable[[], int]]:
    """What a machine starts meanwhile has 60 MB in all; how often the kernel has killed for that.

    Its first process is moved: whatever that starts begins where it is itself.
    """
    group = _MEMORY / f"fedmill-{machine.record.run}-tight"
    machine.record.groups.append(str(group))
    machine.record.save()
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(60 << 20))
    own = Path(f"/proc/{machine.leader}/cgroup").read_text().splitlines()
    home = next(line.split(":", 2)[2] for line in own if line.split(":")[1] == "memory")
    (group / "cgroup.procs").write_text(str(machine.leader))

    def kills() -> int:
        lines = (group / "memory.oom_control").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("oom_kill ")).split()[1])

    try:
        yield kills
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (_MEMORY / home.lstrip("/") / "cgroup.procs").write_text(pid)


class TestDeployment:
    def test_a_check_of_fresh_machines_is_fine_and_changes_nothing(
        self, plant: Plant, bundle: Path
    ) -> None:
        """`--check` tells what would be done, on machines that have nothing yet."""
        outcome = plant.controller.play(bundle, "site.yml", "--check").ok()
        assert all(outcome.changed[machine.name] > 5 for machine in plant.machines)
        for machine in plant.machines:
            assert not (machine.root / "opt/fedmill").exists()
            assert not (machine.root / "etc/fedmill").exists()

    def test_one_run_makes_the_plant(self, plant: Plant, bundle: Path) -> None:
        """Every agent is online with this release, and no unit has failed."""
        plant.controller.play(bundle, "site.yml").ok()
        fleet = plant.fleet()
        assert {row["software"] for row in fleet.values()} == {bundles.version()}
        assert {name: row["state"] for name, row in fleet.items()} == dict.fromkeys(
            GATEWAYS, "online"
        )
        for machine in plant.machines:
            assert machine.run("systemctl", "is-system-running", ok=False).strip() == "running"

    def test_a_second_run_changes_nothing(self, plant: Plant, bundle: Path) -> None:
        """On no machine; and a check of what is there finds nothing to do."""
        for options in ([], ["--check"]):
            outcome = plant.controller.play(bundle, "site.yml", *options).ok()
            assert set(outcome.changed.values()) == {0}, outcome.text[-8000:]

    def test_keys_are_where_they_were_made(self, plant: Plant) -> None:
        """No gateway has another's key or the authority's, and nobody else may read its own."""
        keys = {}
        for name, machine in plant.gateways.items():
            keys[name] = machine.run("cat", "/var/lib/fedmill-agent/identity/key.pem")
            found = machine.run("find", "/etc/fedmill", "/run/fedmill-enrolment", "-name", "*key*")
            assert found == ""
            mode = machine.run("stat", "-L", "-c%a", "/var/lib/fedmill-agent/identity/key.pem")
            assert mode.strip() == "600"
        assert len(set(keys.values())) == len(GATEWAYS)
        assert plant.server.run("stat", "-c%a %U", "/etc/fedmill/pki/ca.key").strip() == "600 root"

    def test_a_secret_of_the_vault_reaches_the_agent_and_nobody_else(self, plant: Plant) -> None:
        """On disk it is root's alone; the service finds it where systemd puts it."""
        machine = plant.gateways["gw1"]
        path = f"/etc/fedmill/secrets/{SECRET_NAME}"
        assert machine.run("stat", "-c%a %U", path).strip() == "600 root"
        handed = f"/run/credentials/fedmill-agent.service/{SECRET_NAME}"
        assert machine.run("cat", handed) == SECRET
        assert SECRET not in plant.controller.said
        for each in plant.machines:
            assert SECRET not in each.journal()

    def test_a_job_is_learned_over_mutual_tls(self, plant: Plant) -> None:
        """Five rounds of both; the broker listens nowhere without TLS."""
        plant.wait("the short job", lambda: len(plant.rounds(SHORT)) == 5)
        updates = plant.updates(SHORT).values()
        assert sorted(updates) == sorted((name, "included") for name in GATEWAYS for _ in range(5))
        listening = plant.server.run("ss", "--listening", "--tcp", "--numeric", "--no-header")
        ports = {line.split()[3].rsplit(":", 1)[1] for line in listening.splitlines()}
        assert ports == {"8883", "8884"}

    def test_a_gateway_listens_nowhere(self, plant: Plant) -> None:
        """All machines share a loopback here, so it is asked which process listens."""
        for machine in plant.gateways.values():
            listening = machine.run("ss", "--listening", "--tcp", "--udp", "--processes")
            assert "fedmill" not in listening
            assert "python" not in listening


class TestWounds:
    @pytest.mark.parametrize(("name", "unit"), _SERVICES)
    def test_a_service_that_is_killed_comes_back(self, plant: Plant, name: str, unit: str) -> None:
        """`kill -9` of its process: systemd starts another, and rounds go on."""
        machine = _machine(plant, name)
        before = plant.main_pid(machine, unit)
        machine.run("kill", "-KILL", str(before))
        plant.wait(f"another {unit}", lambda: plant.main_pid(machine, unit) not in {0, before})
        plant.goes_on()

    def test_a_trainer_that_is_killed_is_called_again(self, plant: Plant) -> None:
        """The agent is the same process before and after, and goes on training."""
        machine = plant.gateways["gw1"]
        agent = plant.main_pid(machine, "fedmill-agent.service")
        plant.wait("a trainer", lambda: _trainer(machine))
        machine.run("kill", "-KILL", str(_trainer(machine)))
        plant.goes_on()
        assert plant.main_pid(machine, "fedmill-agent.service") == agent

    def test_a_trainer_without_memory_is_ended_by_the_kernel_alone(self, plant: Plant) -> None:
        """The kernel's own killer in a group without room: the agent lives, and trains again.

        Groups of the machines themselves have no memory controller here; this one is the host's.
        """
        if not os.access(_MEMORY / "cgroup.procs", os.W_OK):
            pytest.skip("this host has no memory controller of the first version")
        machine = plant.gateways["gw2"]
        agent = plant.main_pid(machine, "fedmill-agent.service")
        plant.wait("a trainer", lambda: _trainer(machine))
        with _tight(machine) as kills:
            machine.run("kill", "-KILL", str(_trainer(machine)))  # the next one is to be tight
            plant.wait("the kernel's killer", lambda: kills() > 0)
        plant.goes_on()
        assert plant.main_pid(machine, "fedmill-agent.service") == agent

    def test_an_agent_that_hangs_is_started_again_by_the_watchdog(self, plant: Plant) -> None:
        """Its process stands still, as in a loop that never ends; systemd notices and says so."""
        machine = plant.gateways["gw1"]
        folder = "/run/systemd/system/fedmill-agent.service.d"
        machine.run("mkdir", "-p", folder)
        machine.run("sh", "-c", f"printf '[Service]\\nWatchdogSec=10\\n' >{folder}/test.conf")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", "fedmill-agent.service")
        before = plant.main_pid(machine, "fedmill-agent.service")
        machine.run("kill", "-STOP", str(before))
        plant.wait(
            "another agent",
            lambda: plant.main_pid(machine, "fedmill-agent.service") not in {0, before},
        )
        said = machine.run("journalctl", "--no-pager", "--unit=fedmill-agent.service")
        assert "Watchdog timeout" in said
        machine.run("rm", "-r", folder)
        machine.run("systemctl", "daemon-reload")
        plant.goes_on()

    def test_the_broker_is_restarted(self, plant: Plant) -> None:
        """In order, with all who are connected."""
        plant.server.run("systemctl", "restart", "mosquitto.service")
        plant.goes_on()

    def test_a_gateway_loses_its_power(self, plant: Plant) -> None:
        """The plug is pulled; after the next boot it goes on without anybody's help."""
        machine = plant.gateways["gw2"]
        machine.power_off(pull=True)
        plant.wait("it to be missed", lambda: plant.fleet()["gw2"]["state"] != "online")
        machine.up()
        plant.goes_on()

    def test_the_plant_server_loses_its_power(self, plant: Plant) -> None:
        """Broker and coordinator at once."""
        plant.server.power_off(pull=True)
        plant.server.up()
        plant.goes_on()

    def test_a_run_that_fails_forgets_no_restart(self, plant: Plant, bundle: Path) -> None:
        """It ended between a change and its handler: the next run restarts, and the one after not.

        On the gateways a wrong configuration ends it, after the addresses have changed. On the
        plant server files are younger than who has read them, as any such run leaves them.
        """
        before = [plant.main_pid(_machine(plant, name), unit) for name, unit in _SERVICES]
        addresses = ("-e", json.dumps({"agent_addresses": ["localhost", "192.0.2.7"]}))
        wrong = ("-e", "agent_sources=nonsense", "--limit", "gateways")
        assert plant.controller.play(bundle, "site.yml", *addresses, *wrong).code != 0
        for path in ("/etc/mosquitto/fedmill/acl", "/etc/fedmill/coordinator.toml"):
            plant.server.run("touch", path)
        assert before == [plant.main_pid(_machine(plant, name), unit) for name, unit in _SERVICES]
        plant.controller.play(bundle, "site.yml", *addresses).ok()
        after = [plant.main_pid(_machine(plant, name), unit) for name, unit in _SERVICES]
        assert not set(before) & set(after)
        asks_again = ("--tags", "broker_run,coordinator_run,agent_run")
        outcome = plant.controller.play(bundle, "site.yml", *addresses, *asks_again).ok()
        assert outcome.changed == dict.fromkeys(["plant", *GATEWAYS], 0), outcome.text[-8000:]
        assert outcome.text.count("Unread | Look what has changed since it began") == 3
        plant.goes_on()


class TestReleases:
    def test_an_upgrade_that_goes_wrong_ends_with_the_first_gateway(
        self, plant: Plant, newer: Path
    ) -> None:
        """It does not come back, here for a wrong port: it gets release and configuration again."""
        wrong = ("-e", "agent_broker_port=1", "-e", "agent_wait_seconds=3")
        outcome = plant.controller.play(newer, "upgrade.yml", *wrong)
        assert outcome.code != 0
        assert "gw1 did not come back" in outcome.text
        links = {
            name: Path(machine.run("readlink", "/opt/fedmill/current").strip()).name
            for name, machine in plant.gateways.items()
        }
        assert links == dict.fromkeys(GATEWAYS, bundles.version())
        untouched = plant.gateways["gw2"].run("ls", "/opt/fedmill/releases").split()
        assert untouched == [bundles.version()]
        plant.goes_on()

    def test_an_upgrade_leaves_out_who_is_down(self, plant: Plant, newer: Path) -> None:
        """The others are upgraded, and the play names who was not there.

        It brings the broker another certificate, too: the one it has ends within a month.
        """
        plant.gateways["gw2"].power_off()
        command = ("fedmill", "ca", "issue-broker", f"--out={ISSUED}", "--days=20", "--renew")
        plant.server.run(*command, "plant", "localhost")
        old = {plant.certificate().strip()}
        old.add(plant.server.run("cat", f"{ISSUED}/certificate.pem").strip())
        outcome = plant.controller.play(newer, "upgrade.yml").ok()
        assert plant.certificate().strip() not in old
        assert "gw2 is down and keeps its release" in outcome.text
        fleet = plant.fleet()
        assert fleet["gw1"]["software"] == bundles.next_version()
        assert fleet["gw2"]["software"] == bundles.version()

    def test_what_was_left_is_kept(self, plant: Plant) -> None:
        """The database whole, and the service's own, so that it can be put in its place."""
        database = "/var/lib/fedmill-coordinator/fedmill.sqlite"
        copy = f"{database}.{bundles.version()}"
        owners = plant.server.run("stat", "-c%u %g", database, copy).splitlines()
        assert owners[0] == owners[1]
        assert plant.server.run("stat", "-c%a", copy).strip() == "600"
        assert int(plant.server.run("python3", "-c", _COUNT, copy)) > 0
        assert plant.server.run("sh", "-c", f"ls {copy}*").split() == [copy]
        machine, release = plant.gateways["gw1"], f"/opt/fedmill/releases/{bundles.version()}"
        assert 'host = "plant"' in machine.run("cat", f"{release}/agent.toml")
        assert machine.run("find", "/opt/fedmill", "-name", "leaving") == ""

    def test_packages_of_others_are_not_installed_twice(self, plant: Plant) -> None:
        """Two releases with the same lock share them: torch is unpacked once."""
        machine = plant.gateways["gw1"]
        assert len(machine.run("ls", "/opt/fedmill/deps").split()) == 1
        releases = machine.run("ls", "/opt/fedmill/releases").split()
        assert releases == [bundles.version(), bundles.next_version()]

    def test_old_and_new_learn_together(self, plant: Plant) -> None:
        """The gateway that was down is of the release before, and takes part."""
        plant.gateways["gw2"].up()
        plant.goes_on()

    def test_who_was_down_is_upgraded_later(self, plant: Plant, newer: Path) -> None:
        """With the same play."""
        plant.controller.play(newer, "upgrade.yml", "--limit", "plant_server,gw2").ok()
        assert plant.fleet()["gw2"]["software"] == bundles.next_version()
        plant.goes_on()

    def test_a_gateway_goes_back(self, plant: Plant, newer: Path) -> None:
        """To the release before, which is still installed."""
        plant.controller.play(newer, "rollback.yml", "--limit", "gw1").ok()
        assert plant.fleet()["gw1"]["software"] == bundles.version()
        plant.goes_on()

    def test_no_update_was_lost(self, plant: Plant) -> None:
        """Whatever the agents have made through all of this, the coordinator has, and has used."""
        plant.server.run("fedmill", "jobs", "pause", "/etc/fedmill/coordinator.toml", LONG)
        sent = {name: plant.sent(name, LONG) for name in GATEWAYS}
        assert all(len(each) > 10 for each in sent.values())
        plant.wait(
            "all that was sent",
            lambda: all(sha in plant.updates(LONG) for each in sent.values() for sha in each),
        )
        states = [state for _, state in plant.updates(LONG).values()]
        assert set(states) <= {"included", "received"}, states
        plant.server.run("fedmill", "jobs", "resume", "/etc/fedmill/coordinator.toml", LONG)


class TestFullDisk:
    def test_inference_goes_on(self, plant: Plant) -> None:
        """The disk of a gateway's state has no byte left: windows are scored all the same.

        The agent cannot write its own status there; what it tells the coordinator counts.
        """
        machine, state = plant.gateways["gw1"], "/var/lib/private/fedmill-agent"
        machine.run("systemctl", "stop", "fedmill-agent.service")
        machine.run("cp", "-a", state, "/root/state")
        machine.run("mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", state)
        machine.run("cp", "-a", "/root/state/.", state)
        machine.run("systemctl", "start", "fedmill-agent.service")
        plant.goes_on(rounds=1)
        machine.run("sh", "-c", f"cat /dev/zero >{state}/ballast", ok=False)
        before = plant.fleet()["gw1"]["windows_scored"]
        plant.wait("more windows", lambda: plant.fleet()["gw1"]["windows_scored"] > before + 50)
        assert plant.main_pid(machine, "fedmill-agent.service")
        machine.run("rm", f"{state}/ballast")
        plant.goes_on()


class TestRevocation:
    def test_a_gateway_that_is_revoked_is_turned_away(self, plant: Plant, newer: Path) -> None:
        """By the coordinator at once, by the broker as soon as it has the list; others stay."""
        options = ("-e", "revoke_agent=gw2", "-e", "revoke_reason=stolen")
        plant.controller.play(newer, "revoke.yml", *options).ok()
        lists = [
            f"{path}/crl.pem" for path in ("/var/lib/fedmill-coordinator", "/etc/mosquitto/fedmill")
        ]
        plant.wait("the list", lambda: len({plant.server.run("cat", path) for path in lists}) == 1)
        plant.server.run("systemctl", "restart", "mosquitto.service")
        plant.wait("gw2 to be gone", lambda: plant.fleet()["gw2"]["state"] != "online")
        plant.wait("gw1 to be back", lambda: plant.fleet()["gw1"]["state"] == "online")
        turned = plant.log(plant.server, "mosquitto")
        assert "certificate revoked" in turned or "certificate verify failed" in turned
