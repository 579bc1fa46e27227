# SPDX-License-Identifier: Apache-2.0
"""The unit files: systemd understands all of them, and they allow no more than they need."""

import configparser
import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from tests.deploy.installed import ROOT

UNITS = ROOT / "deploy/systemd"
SERVICES = sorted(path.name for path in UNITS.glob("fedmill-*.service"))
DAEMONS = ("fedmill-agent.service", "fedmill-trainer@.service", "fedmill-coordinator.service")
CEILINGS = {
    "fedmill-agent.service": 1.5,
    "fedmill-trainer@.service": 1.0,
    "fedmill-coordinator.service": 1.5,
    "fedmill-broker-reload.service": 2.0,
}
SINCE_253 = {
    "ImportCredential",
    "MemoryPressureWatch",
    "OpenFile",
    "RestartMaxDelaySec",
    "RestartMode",
    "RestartSteps",
    "SurviveFinalKillSignal",
    "PrivatePIDs",
    "PassFileDescriptorsToExec",
    "MemoryZSwapMax",
    "ProtectControlGroupsEx",
}
"""What Debian 12 does not know; a later systemd on this machine does."""

analyze = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is missing"
)


def read(name: str) -> configparser.ConfigParser:
    """A unit; of a setting that stands there several times, all values as lines."""
    text = (UNITS / name).read_text()
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    merged: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            merged.setdefault(section, {}).setdefault(key, []).append(value)
    parser.read_dict(
        {
            section: {key: "\n".join(values) for key, values in each.items()}
            for section, each in merged.items()
        }
    )
    return parser


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with programs that are there in place of ours."""
    for path in UNITS.iterdir():
        text = re.sub(r"/opt/fedmill/current/bin/[a-z-]+", "/bin/true", path.read_text())
        (tmp_path / path.name).write_text(text)
    return tmp_path


@analyze
class TestSystemd:
    def test_it_has_nothing_to_say(self, installed: Path) -> None:
        """No unknown setting, no wrong value, nothing that is ignored."""
        units = [str(path) for path in sorted(installed.glob("fedmill*"))]
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *units],
            capture_output=True,
            text=True,
            check=False,
        )
        told = [line for line in done.stderr.splitlines() if str(installed) in line]
        told += [line for line in done.stderr.splitlines() if "fedmill" in line]
        assert (done.returncode, told) == (0, [])

    def test_it_would_say_so(self, installed: Path) -> None:
        """A setting that it does not know, or a user in small letters, is found."""
        path = installed / "fedmill-agent.service"
        path.write_text(path.read_text() + "\n[Service]\nuser=nobody\n")
        done = subprocess.run(
            ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
        )
        assert "user" in done.stderr

    @pytest.mark.parametrize("name", SERVICES)
    def test_little_is_exposed(self, installed: Path, name: str) -> None:
        """Of 10, where most services have 9."""
        command = ["systemd-analyze", "security", "--offline=true", str(installed / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        assert found is not None, done.stderr
        assert float(found[1]) <= CEILINGS[name]


class TestOld:
    @pytest.mark.parametrize("path", sorted(UNITS.iterdir()), ids=lambda path: path.name)
    def test_debian_12_knows_every_setting(self, path: Path) -> None:
        """It has systemd 252."""
        text = path.read_text()
        settings = set(re.findall(r"^(\w+)=", text, re.MULTILINE))
        assert settings & SINCE_253 == set()
        assert "notify-reload" not in text
        assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")


class TestPrograms:
    def test_they_are_there(self) -> None:
        """Each command is one that a package installs, each module one that can be run."""
        known = set()
        for side in ("agent", "coordinator"):
            project = tomllib.loads((ROOT / side / "pyproject.toml").read_text())["project"]
            known |= set(project["scripts"])
        for name in SERVICES:
            commands = re.findall(r"current/bin/(\S+)(?: -m (\S+))?", (UNITS / name).read_text())
            for program, module in commands:
                if program == "python":
                    assert importlib.util.find_spec(module) is not None
                else:
                    assert program in known

    def test_agent_and_trainer_share_files_and_may_signal(self) -> None:
        """They are one user, with one folder."""
        agent, trainer = (read(f"fedmill-{name}.service") for name in ("agent", "trainer@"))
        for key in ("DynamicUser", "User", "StateDirectory", "StateDirectoryMode"):
            assert agent["Service"][key] == trainer["Service"][key]
        socket = read("fedmill-trainer.socket")["Socket"]
        assert socket["SocketGroup"] == agent["Service"]["SupplementaryGroups"]
        assert socket["SocketMode"] == "0660"
        assert socket["ListenStream"] in (ROOT / "docs/deployment.md").read_text()


class TestBounds:
    @pytest.mark.parametrize("name", DAEMONS)
    def test_what_all_have(self, name: str) -> None:
        """A user of its own, no way out but the allowed ones, a bounded journal, no telemetry."""
        service = read(name)["Service"]
        assert service["DynamicUser"] == "yes"
        assert service["IPAddressDeny"] == "any"
        assert service["LogNamespace"] == "fedmill"
        assert "ORT_DISABLE_TELEMETRY=1" in service["Environment"].splitlines()
        assert int(service["TasksMax"]) > 0

    @pytest.mark.parametrize("name", DAEMONS)
    def test_nothing_that_blinds_or_breaks(self, name: str) -> None:
        """The load of the machine is seen, and priorities can be set; torch makes code."""
        service = read(name)["Service"]
        assert "ProcSubset" not in service
        assert "~@resources" not in service["SystemCallFilter"]
        makes_none = service.get("MemoryDenyWriteExecute", "no") == "yes"
        assert makes_none == (name == "fedmill-agent.service")

    @pytest.mark.parametrize("name", ["fedmill-agent.service", "fedmill-coordinator.service"])
    def test_watched_and_never_given_up(self, name: str) -> None:
        """Ready is told, life is watched, and whatever ends it, it comes back."""
        unit = read(name)
        assert unit["Service"]["Type"] == "notify"
        assert int(unit["Service"]["WatchdogSec"]) > 0
        assert unit["Service"]["Restart"] == "always"
        assert unit["Unit"]["StartLimitIntervalSec"] == "0"
        assert "mosquitto" not in unit["Unit"].get("Requires", "")

    def test_training_takes_what_is_left(self) -> None:
        """Less than the agent of everything, and it goes first when memory runs out."""
        slice_ = read("fedmill-train.slice")["Slice"]
        agent, trainer = (
            read(f"fedmill-{name}.service")["Service"] for name in ("agent", "trainer@")
        )
        assert int(slice_["CPUWeight"]) < 100 < int(agent["CPUWeight"])
        assert slice_["MemorySwapMax"] == "0"
        assert int(trainer["OOMScoreAdjust"]) > 0 > int(agent["OOMScoreAdjust"])
        assert trainer["Slice"] == "fedmill-train.slice"
        assert trainer["PrivateNetwork"] == "yes"
