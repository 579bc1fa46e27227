# SPDX-License-Identifier: Apache-2.0
"""The bills of materials name all that is installed on machines."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PINS = ROOT / "deploy" / "requirements"


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both, written as `make sbom` does; the tool checks them against the schema."""
    out = tmp_path_factory.mktemp("dist")
    program = [sys.executable, str(PINS / "sbom.py"), "--out", str(out)]
    subprocess.run(program, check=True, capture_output=True)
    return {
        side: json.loads((out / f"sbom-{side}.cdx.json").read_text())
        for side in ("agent", "coordinator")
    }


@pytest.mark.parametrize("side", ["agent", "coordinator"])
def test_names_every_package_with_its_version(bills: dict[str, Any], side: str) -> None:
    """As pinned, each by a package URL that vulnerability scanners know."""
    bill = bills[side]
    lines = (PINS / f"{side}.txt").read_text().splitlines()
    pinned = {line.split()[0].split(";")[0] for line in lines if line and line[0] not in "#- \t"}
    found = {f"{each['name'].lower()}=={each['version']}" for each in bill["components"]}
    assert {each.lower() for each in pinned} == found
    assert all(each["purl"].startswith("pkg:pypi/") for each in bill["components"])


@pytest.mark.parametrize("side", ["agent", "coordinator"])
def test_is_about_our_package(bills: dict[str, Any], side: str) -> None:
    """By its name and version, in the CycloneDX format."""
    project = tomllib.loads((ROOT / side / "pyproject.toml").read_text())["project"]
    about = bills[side]["metadata"]["component"]
    assert (about["name"], about["version"]) == (project["name"], project["version"])
    assert bills[side]["bomFormat"] == "CycloneDX"


def test_make_writes_them() -> None:
    """`make sbom`."""
    assert "deploy/requirements/sbom.py" in (ROOT / "Makefile").read_text()
