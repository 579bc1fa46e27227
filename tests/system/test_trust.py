# SPDX-License-Identifier: Apache-2.0
"""Signed releases among real processes: from the key on a stick to the window that is scored.

And what whoever holds the broker can do about it: nothing but be noticed.
"""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from msgspec import structs
from tests.system.fleet import COORDINATOR, Fleet, marked
from tests.system.signed import Attacker, Signed, released

from fedmill_agent.status import read_status
from fedmill_agent.trust.bundle import check
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import read_verified, write_verified
from fedmill_coordinator.demo.broker import free_port
from fedmill_coordinator.demo.processes import program
from fedmill_shared import topics
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.files import make_folder
from fedmill_shared.job_check import canonical
from fedmill_shared.messages import JobNotice, ReleaseNotice, decode, encode
from fedmill_shared.trust import TrustRole

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    """A federation whose signed release is on both agents."""
    with released(tmp_path_factory.mktemp("trust")) as made:
        yield made


class TestSigned:
    def test_a_signed_release_serves_everywhere(self, signed: Signed) -> None:
        """What is signed is what was told, and nothing was refused on the way."""
        fleet = signed.fleet
        models = signed.repository.targets(TrustRole.MODELS).signed
        assert set(models.targets) == {f"releases/{fleet.job.name}/1.json"}
        for agent in fleet.agents:
            assert read_verified(TrustPlaces(fleet.state(agent)).verified).word == ""
            assert fleet.events(agent, "release.unsigned") == []
            assert fleet.status(agent).state.trust == ""

    def test_an_attacker_at_the_broker_is_refused_and_noticed(self, signed: Signed) -> None:
        """A forged release, a forged job, and metadata of nobody."""
        fleet, job = signed.fleet, signed.fleet.job
        attacker = Attacker(fleet.port)
        try:
            topic = topics.broadcast("release", job.name)
            fleet.wait("the notice", lambda: topic in attacker.heard)
            notice = decode(attacker.heard[topic], ReleaseNotice)
            forged = structs.replace(notice, release=7, back=True)
            attacker.say("release", job.name, encode(forged))
            evil = structs.replace(job, job=structs.replace(job.job, name="evil"))
            said = JobNotice(job="evil", text=canonical(evil), state="running")
            attacker.say("job", "evil", encode(said))
            attacker.say("trust", "timestamp.json", b'{"signed": {"version": 9}}')
            agent = fleet.agents[0]
            fleet.wait(
                "the forged release is noticed",
                lambda: bool(fleet.events(agent, "release.unsigned", release=7)),
            )
            fleet.wait(
                "the forged job is noticed", lambda: bool(fleet.events(agent, "job.refused"))
            )
            fleet.wait("metadata is noticed", lambda: bool(fleet.events(agent, "trust.refused")))
            install = fleet.status(agent).state.jobs[job.name].install
            assert install is not None
            assert "evil" not in fleet.status(agent).state.jobs
            assert not (fleet.state(agent) / "jobs" / "evil").exists()
            attacker.say("release", job.name, encode(notice))
            attacker.say("job", "evil", b"")
        finally:
            attacker.link.stop()

    def test_an_expired_plant_goes_on_scoring(self, signed: Signed) -> None:
        """It installs nothing new, says since when, and heals by itself."""
        fleet, agent = signed.fleet, signed.fleet.agents[0]
        fleet.end(COORDINATOR)
        places = TrustPlaces(fleet.state(agent))
        signed.restamp(-30 * 86_400)
        over = signed.repository.raw(TrustRole.TIMESTAMP)
        # Nothing on the wire takes back what is good for two days: the days pass on the disk.
        verified = read_verified(places.verified)
        late = int((datetime.now(UTC) - timedelta(days=1)).timestamp()) * 10**9
        fleet.kill(agent)
        (places.incoming / "metadata" / "timestamp.json").write_bytes(over)
        expired = structs.replace(verified, expires_ns={**verified.expires_ns, "timestamp": late})
        write_verified(places.verified, expired)
        fleet.start(agent)
        fleet.wait("expiry is told", lambda: bool(fleet.events(agent, "trust.expired")))
        fleet.wait("the state says so", lambda: "over since" in fleet.status(agent).state.trust)
        phase = fleet.status(agent).state.jobs[fleet.job.name]
        assert phase.install is not None
        assert phase.install.serving != ""
        fleet.start(COORDINATOR)
        fleet.wait("it heals", lambda: bool(fleet.events(agent, "trust.fresh")))
        fleet.wait("the state is clean", lambda: fleet.status(agent).state.trust == "")


class TestConfiguration:
    def test_a_signed_one_reaches_every_agent(self, signed: Signed, tmp_path: Path) -> None:
        """And one agent's own lies over that of all; what does not fit is refused, and told."""
        fleet, config = signed.fleet, signed.fleet.layout.coordinator
        one, other = fleet.agents
        key = str(signed.made.keys["targets"])
        overlay = tmp_path / "overlay.toml"

        def sign(whose: str, text: str) -> None:
            overlay.write_text(text)
            arguments = ["--config", str(config), "--key", key, whose, str(overlay)]
            done = fleet.run("fedmill_coordinator", "trust", "set-config", *arguments)
            assert (done.returncode, done.stderr) == (0, "")

        sign("all", "[training]\nnice = 12\n")
        sign(one, "[training]\nnice = 13\n")
        for agent, wanted in ((one, f"config/{one}.toml"), (other, "config/all.toml")):
            fleet.wait(
                f"configuration of {agent}",
                lambda agent=agent, wanted=wanted: wanted in fleet.status(agent).config.remote,
            )
        sign("all", "[training]\nnice = 99\n")
        fleet.wait(
            "it is refused", lambda: "training.nice" in fleet.status(other).config.remote_error
        )
        assert "config/all.toml" in fleet.status(other).config.remote
        assert fleet.events(other, "config.remote_refused")
        sign("all", "[training]\nnice = 11\n")
        fleet.wait("it is mended", lambda: fleet.status(other).config.remote_error == "")


class TestDeath:
    def test_a_child_or_daemon_that_is_killed_loses_nothing(self, signed: Signed) -> None:
        """Whatever was being written: the next one checks anew what has come."""
        fleet, agent = signed.fleet, signed.fleet.agents[0]
        places = TrustPlaces(fleet.state(agent))
        for number in range(3):
            signed.restamp(-7200)
            if number:
                fleet.wait("a child", lambda: children(fleet, agent) != [])
                for child in children(fleet, agent):
                    child.kill()
            fleet.kill(agent)
            fleet.start(agent)
            newest = signed.repository.timestamp().signed.version
            fleet.wait(
                "checked",
                lambda newest=newest: (
                    read_verified(places.verified).versions["timestamp"] >= newest
                ),
            )


def children(fleet: Fleet, agent: str) -> list[psutil.Process]:
    """Processes that check metadata for an agent."""
    found = []
    for child in fleet.process(agent).children():
        with suppress(psutil.Error):
            if "fedmill_agent.trust" in child.cmdline():
                found.append(child)
    return found


class TestStick:
    def test_an_agent_without_a_network_is_brought_everything(
        self, signed: Signed, tmp_path: Path
    ) -> None:
        """Job, release and all its blobs, checked as if they came over the wire."""
        fleet, name = signed.fleet, signed.fleet.job.name
        bundle, config = self.bundle(signed, tmp_path), self.alone(signed, tmp_path)
        told = fleet.run("fedmill_agent", "import", config, bundle)
        assert told.returncode == 0, told.stderr
        assert "takes the bundle at its next start" in told.stdout
        state = config.parent / "state"
        with marked(fleet.folder):
            agent = subprocess.Popen(
                program("fedmill_agent", "run", config),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            fleet.wait("the release", lambda: installed(state, name) == (1, "committed"))
            again = fleet.run("fedmill_agent", "import", config, bundle)
            assert (again.returncode, again.stderr) == (0, "")
            assert f"{name}: release 1 committed" in again.stdout
            fleet.wait("tidy", lambda: not list((state / "trust" / "import").iterdir()))
        finally:
            agent.kill()
            agent.wait()

    def test_a_bundle_that_was_tampered_with_changes_nothing(
        self, signed: Signed, tmp_path: Path
    ) -> None:
        """One byte of any file is enough, and a file too many."""
        fleet, config = signed.fleet, self.alone(signed, tmp_path)
        bundle = self.bundle(signed, tmp_path)
        state = make_folder(config.parent / "state")
        trust = signed.made.root, config.parent.name

        def refused(why: str) -> None:
            with pytest.raises(FedmillError):
                check(bundle, state, *trust)
            assert not any(state.iterdir()), why

        files = [path for path in bundle.rglob("*") if path.is_file()]
        roots = {"1.root.json", "1.software.json"}
        for path in files:
            data = path.read_bytes()
            if path.name in roots:
                continue  # the agent's own root counts, and no software is taken
            for place in (len(data) // 3, len(data) - 2):
                path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
                if path.suffix != ".job" or place < len(data) - 2:
                    refused(str(path))
            path.write_bytes(data)
        for strange in ("blobs/evil", "evil.txt", "targets/jobs/evil.toml", "metadata/x.json"):
            (bundle / strange).write_text("evil")
            refused(strange)
            (bundle / strange).unlink()
        (bundle / "blobs" / ("a" * 64)).symlink_to("/etc/passwd")
        refused("link")
        (bundle / "blobs" / ("a" * 64)).unlink()
        assert check(bundle, state, *trust).releases == {fleet.job.name: 1}
        told = fleet.run("fedmill_agent", "import", config, bundle / "blobs")
        assert (told.returncode, "is no bundle" in told.stderr) == (21, True)

    def bundle(self, signed: Signed, folder: Path) -> Path:
        """A bundle of all that is signed."""
        out, config = folder / "stick", signed.fleet.layout.coordinator
        arguments = ["bundle", "--config", str(config), "--out", str(out)]
        done = signed.fleet.run("fedmill_coordinator", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return out

    def alone(self, signed: Signed, folder: Path) -> Path:
        """An agent whose broker is not there."""
        fleet = signed.fleet
        text = fleet.layout.agents[fleet.agents[0]].read_text()
        text = text.replace(f"port = {fleet.port}", f"port = {free_port()}")
        path = make_folder(folder / "alone") / "agent.toml"
        path.write_text(text.replace(f'"{fleet.agents[0]}"', '"alone"'))
        return path


def installed(state: Path, job: str) -> tuple[int, str]:
    """How far an agent is with the newest release of a job."""
    try:
        phase = read_status(state).state.jobs.get(job)
    except StoreError:
        return 0, ""
    install = phase.install if phase is not None else None
    return (install.release, str(install.state)) if install is not None else (0, "")


class TestUnsigned:
    def test_a_job_that_is_not_the_signed_one_is_not_run(self, signed: Signed) -> None:
        """A changed file ends the start with what to do about it."""
        fleet = signed.fleet
        fleet.end(COORDINATOR)
        text = fleet.layout.job.read_text()
        try:
            fleet.layout.job.write_text(text + "\n# changed\n")
            ended = fleet.run("fedmill_coordinator", "serve", fleet.layout.coordinator)
        finally:
            fleet.layout.job.write_text(text)
        assert ended.returncode == 25
        assert "is not the one that is signed" in ended.stderr
        assert "fedmill trust add-job" in ended.stderr
