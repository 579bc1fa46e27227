# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent import``: what a person with a stick is told, and the exit code of each."""

import os
import tempfile
from pathlib import Path

import pytest
from msgspec import json, structs
from tests.agent.trust.stick import PARTS, Stick
from tests.conftest import NOBODY
from tests.trusted import AGENT, digest_of

from fedmill_agent.cli import main
from fedmill_agent.status import Status, status_of, write_status
from fedmill_shared.audit import FILE
from fedmill_shared.messages import AgentState, InstallReport, JobPhase

CONFIG = """
[agent]
id = "{agent}"
state = "agent"
{more}
[trust]
root = "root.json"
"""


class Person(Stick):
    """Somebody at a gateway, with a stick in the hand."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.config = folder / "agent.toml"
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the agent's configuration."""
        self.config.write_text(CONFIG.format(agent=AGENT, more=more))

    def types(self, *more: str) -> int:
        """Give the command."""
        return main(["import", str(self.config), str(self.stick), *more])

    def runs(self, install: InstallReport | None = None, *, phase: str = "joined") -> None:
        """A daemon runs that says this of its job; this process plays it."""
        told = JobPhase(phase=phase, ineligible="no such signal", install=install)  # type: ignore[arg-type]
        state = AgentState(online=True, jobs={"press": told})
        write_status(self.state, status_of(state, connected=False, trainer_pid=None))


def report(state: str, release: int = 1, **fields: str) -> InstallReport:
    """What a daemon says of a release."""
    return InstallReport(version=digest_of("a"), state=state, release=release, **fields)


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """A gateway that was told whom to trust, and a good stick."""
    return Person(tmp_path)


class TestWithoutDaemon:
    def test_it_is_taken_at_the_next_start(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """And lies there, checked."""
        assert person.types() == 0
        told = capsys.readouterr().out
        assert "press: the job is signed" in told
        assert "it takes the bundle at its next start" in told
        assert len(list(person.places.imports.iterdir())) == 1

    def test_a_daemon_that_has_died_is_none(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its last word lies there; its number may be somebody else's by now."""
        person.runs(report("committed"))
        path = person.state / "status.json"
        status = structs.replace(json.decode(path.read_bytes(), type=Status), started=1)
        write_status(person.state, json.encode(status))
        assert person.types() == 0
        assert "is not running" in capsys.readouterr().out

    def test_a_damaged_status_is_none(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The bundle is handed over all the same."""
        (person.state / "status.json").write_bytes(b"{")
        assert person.types() == 0
        assert "is not running" in capsys.readouterr().out

    def test_twice_is_once(self, person: Person) -> None:
        """It lies there once, and both are on record."""
        assert (person.types(), person.types()) == (0, 0)
        assert len(list(person.places.imports.iterdir())) == 1
        lines = (person.state / FILE).read_bytes().splitlines()
        acts = [json.decode(line, type=dict[str, object]) for line in lines]
        assert [each["what"] for each in acts] == ["bundle.imported"] * 2
        assert acts[0]["after"] == "press 1"


class TestWithDaemon:
    @pytest.mark.parametrize(
        ("install", "code", "told"),
        [
            (report("committed"), 0, "release 1 committed"),
            (report("rejected", gate="parity", reason="too far"), 25, "rejected at parity"),
            (report("rolled_back", gate="health", reason="slow"), 25, "rolled_back at health"),
            (report("committed", 7), 25, "release 7 is known already"),
        ],
        ids=lambda value: str(getattr(value, "state", "")),
    )
    def test_its_last_word_is_told(
        self,
        person: Person,
        capsys: pytest.CaptureFixture[str],
        install: InstallReport,
        code: int,
        told: str,
    ) -> None:
        """With what refused it, and why."""
        person.runs(install)
        assert person.types() == code
        said = capsys.readouterr()
        assert told in said.out
        assert ("not installed: press" in said.err) is bool(code)

    def test_a_job_that_it_refuses_is_told(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The release never gets as far as that."""
        person.runs(phase="refused")
        assert person.types() == 25
        assert "refused: no such signal" in capsys.readouterr().out

    @pytest.mark.parametrize("install", [None, report("committed", 0), report("shadowing")])
    def test_one_that_takes_its_time_is_not_waited_for_longer_than_told(
        self,
        person: Person,
        capsys: pytest.CaptureFixture[str],
        install: InstallReport | None,
    ) -> None:
        """How to go on looking is told."""
        person.runs(install)
        assert person.types("--wait", "0") == 0
        assert "`fedmill-agent status` goes on telling" in capsys.readouterr().out

    def test_a_job_that_it_takes_no_part_in_is_not_waited_for(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The bundle may be for a whole plant."""
        person.configure('jobs = ["oven"]')
        person.runs()
        assert person.types() == 0
        assert "takes no part in it" in capsys.readouterr().out

    def test_a_bundle_without_releases_ends_at_once(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Jobs and configuration may come alone."""
        (person.stick / "notices" / "press.release").unlink()
        for blob in (person.stick / "blobs").iterdir():
            blob.unlink()
        person.runs()
        assert person.types() == 0
        assert "no release is in the bundle" in capsys.readouterr().out


class TestMistakes:
    def refused(self, person: Person, capsys: pytest.CaptureFixture[str], code: int) -> str:
        """The command ends with this code, one line, and nothing handed over."""
        assert person.types() == code
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert not person.places.imports.exists()
        return said.err

    def test_an_agent_that_trusts_nobody(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What to write is told."""
        person.config.write_text(f'[agent]\nid = "{AGENT}"\n')
        assert "has no section [trust]" in self.refused(person, capsys, 10)

    def test_a_configuration_that_is_not_there(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With its name."""
        person.config.unlink()
        assert "agent.toml" in self.refused(person, capsys, 10)

    def test_a_root_that_is_not_there(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nothing can be checked without."""
        person.root.unlink()
        assert "root.json" in self.refused(person, capsys, 21)

    def test_a_root_of_another_plant(
        self, person: Person, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """The stick is of one plant, and the gateway of another."""
        person.root.write_bytes(Stick(tmp_path / "other").root.read_bytes())
        capsys.readouterr()
        assert "not signed by whom we trust" in self.refused(person, capsys, 25)

    def test_a_folder_that_is_none(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One too deep, for instance."""
        person.stick = person.stick / "blobs"
        assert "is no bundle" in self.refused(person, capsys, 21)

    def test_a_stick_that_was_tampered_with(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nothing is handed over, and nothing is on record."""
        person.blob("snapshot").write_bytes(b"evil")
        assert "missing, or of another size" in self.refused(person, capsys, 25)
        assert not (person.state / FILE).exists()

    def test_a_damaged_notice(self, person: Person, capsys: pytest.CaptureFixture[str]) -> None:
        """With the name of the file."""
        (person.stick / "notices" / "press.job").write_bytes(b"\xc1")
        assert "notices/press.job" in self.refused(person, capsys, 15)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")
class TestRoot:
    def test_acts_as_the_owner_of_the_state(
        self, person: Person, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Who must be able to read the stick; that is what is told where they are not."""
        os.chown(person.state, 65_534, 65_534)
        for path in (person.folder, *person.folder.parents):
            if path.stat().st_mode & 0o005 != 0o005:
                assert person.types() == 21
                assert "may this user read it" in capsys.readouterr().err
                break
        assert os.geteuid() == 0
        assert not person.places.imports.exists()

    def test_hands_over_what_the_service_can_use(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With sudo, from a stick that everybody may read: the agent owns all that is laid down."""
        with tempfile.TemporaryDirectory(dir="/tmp") as name:
            folder = Path(name)
            person = Person(folder)
            os.chown(person.state, NOBODY, NOBODY)
            folder.chmod(0o755)
            for path in (person.stick, *person.stick.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            assert person.types() == 0
            assert "it takes the bundle at its next start" in capsys.readouterr().out
            (taken,) = person.places.imports.iterdir()
            laid = [person.state / FILE, taken, *taken.rglob("*")]
            assert {path.stat().st_uid for path in laid} == {NOBODY}
            assert len(list((taken / "blobs").iterdir())) == len(PARTS)
            assert person.types() == 0
        assert os.geteuid() == 0
