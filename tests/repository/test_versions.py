# SPDX-License-Identifier: Apache-2.0
"""Four distributions that are released together, and what they may ask for."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import fedmill_agent
import fedmill_coordinator
import fedmill_shared

FOLDERS = {
    "fedmill": ".",
    **{f"fedmill-{side}": side for side in ("shared", "agent", "coordinator")},
}
GATEWAY = {
    "fedmill-shared": {
        "cryptography",
        "msgspec",
        "numpy",
        "onnxruntime",
        "paho-mqtt",
        "structlog",
    },
    "fedmill-agent": {"fedmill-shared", "psutil", "tuf"},
}
EXTRAS = {
    "fedmill-shared": {"train": {"torch"}},
    "fedmill-agent": {
        "train": {"fedmill-shared"},
        "modbus": {"pymodbus"},
        "opcua": {"asyncua", "cryptography"},
        "parquet": {"pyarrow"},
    },
}

PINNED = {"pyarrow", "pymodbus"}


@pytest.fixture(scope="module")
def projects(root: Path) -> dict[str, dict[str, Any]]:
    """The ``[project]`` tables by the name of their distribution."""
    return {
        name: tomllib.loads((root / folder / "pyproject.toml").read_text())["project"]
        for name, folder in FOLDERS.items()
    }


def _wanted(project: dict[str, Any]) -> list[str]:
    extras = project.get("optional-dependencies", {}).values()
    return [*project["dependencies"], *(line for extra in extras for line in extra)]


def _names(lines: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", line)[0] for line in lines}


class TestVersions:
    def test_in_step(self, projects: dict[str, dict[str, Any]]) -> None:
        """One version in four files and three packages."""
        versions = {project["version"] for project in projects.values()}
        packages = (fedmill_shared, fedmill_agent, fedmill_coordinator)
        versions |= {package.__version__ for package in packages}
        assert len(versions) == 1

    def test_files_are_what_they_are_called(self, projects: dict[str, dict[str, Any]]) -> None:
        """Names, licence and Python are the same everywhere."""
        assert [project["name"] for project in projects.values()] == list(FOLDERS)
        common = {(each["requires-python"], each["license"]) for each in projects.values()}
        assert common == {(">=3.11", "Apache-2.0")}

    def test_our_own_are_pinned(self, projects: dict[str, dict[str, Any]]) -> None:
        """Packages of two releases never mix: both sides must agree on every byte."""
        version = projects["fedmill"]["version"]
        lines = [line for project in projects.values() for line in _wanted(project)]
        ours = [line for line in lines if line.startswith("fedmill")]
        assert ours
        assert {line.split("==")[-1] for line in ours} == {version}
        assert all(line.count("==") == 1 for line in ours)

    def test_others_have_bounds(self, projects: dict[str, dict[str, Any]]) -> None:
        """A lower one that was tried, and an upper one before the next breaking release.

        Those that break their interface between any two releases are pinned.
        """
        lines = [line for project in projects.values() for line in _wanted(project)]
        others = [line for line in lines if not line.startswith("fedmill")]
        loose = [line for line in others if not re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", line)]
        assert [line for line in loose if not re.fullmatch(r"[\w-]+==[\d.]+", line)] == []
        assert _names(loose) <= PINNED


class TestGateway:
    @pytest.mark.parametrize("name", GATEWAY)
    def test_installs_no_more_than_it_needs(
        self, projects: dict[str, dict[str, Any]], name: str
    ) -> None:
        """A new dependency is 10 MB on every gateway: it is a decision, and changes this list."""
        assert _names(projects[name]["dependencies"]) == GATEWAY[name]
        extras = projects[name].get("optional-dependencies", {})
        assert {key: _names(lines) for key, lines in extras.items()} == EXTRAS[name]

    def test_never_sees_the_coordinator(self, projects: dict[str, dict[str, Any]]) -> None:
        """Neither of the two distributions on a gateway asks for the third."""
        lines = [line for name in GATEWAY for line in _wanted(projects[name])]
        assert "fedmill-coordinator" not in _names(lines)
