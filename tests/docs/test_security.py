# SPDX-License-Identifier: Apache-2.0
"""What the pages on security and trust claim has code, and a test that exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
TRUST = ROOT / "docs" / "trust.md"
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)*)`")
UNCLAIMED = ("No, ", "Not prevented: ")
PLACE = re.compile(r"`((?:shared|agent|coordinator|deploy)/[\w./-]+)`")


def _references() -> list[tuple[str, str]]:
    return sorted({each for page in (PAGE, TRUST) for each in REFERENCE.findall(page.read_text())})


def _defined(path: Path) -> set[str]:
    """Names of tests and classes in a file, as a reference writes them."""
    found = {""}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found.add(f"::{node.name}")
            inner = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            found |= {f"::{node.name}::{each.name}" for each in inner}
        elif isinstance(node, ast.FunctionDef):
            found.add(f"::{node.name}")
    return found


def _rows(heading: str, page: Path = PAGE) -> list[list[str]]:
    section = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row[-1] not in ("Test", "---")]


@pytest.mark.parametrize(("file", "name"), _references())
def test_each_test_that_is_named_exists(file: str, name: str) -> None:
    """File, class and function."""
    assert (ROOT / file).is_file(), file
    assert name in _defined(ROOT / file)


@pytest.mark.parametrize("place", sorted(set(PLACE.findall(PAGE.read_text()))))
def test_each_place_that_is_named_exists(place: str) -> None:
    """File or folder."""
    assert (ROOT / place).exists()


@pytest.mark.parametrize(
    ("heading", "page"),
    [("Attacks", PAGE), ("IEC 62443-4-2", PAGE), ("NIST IR 8259A", PAGE), ("Threats", TRUST)],
)
def test_each_claim_names_its_test(heading: str, page: Path) -> None:
    """What is left to others says so, and claims nothing."""
    claims = [row for row in _rows(heading, page) if not row[1].startswith(UNCLAIMED)]
    assert len(claims) >= 6
    assert [row[0] for row in claims if not REFERENCE.search(row[-1])] == []
