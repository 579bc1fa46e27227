# SPDX-License-Identifier: Apache-2.0
"""The events in ``docs/operations.md`` are those in the source, no more and no fewer."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

LEVELS = {"debug", "info", "warning", "error"}
EVENT = re.compile(r"[a-z][a-z0-9]*\.[a-z_]+")
ROW = re.compile(r"^\| `([a-z][a-z0-9]*\.[a-z_]+)` \| (\w+) \| .+\. \|$", re.MULTILINE)
PACKAGES = {"Agent": "agent", "Coordinator": "coordinator", "Both": "shared"}


def logged(source: Path) -> Iterator[tuple[str, str]]:
    """Event and level of every call of a logger in one file."""
    for node in ast.walk(ast.parse(source.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in LEVELS or not node.args:
            continue
        for part in ast.walk(node.args[0]):
            if isinstance(part, ast.Constant) and EVENT.fullmatch(str(part.value)):
                yield str(part.value), node.func.attr


def emitted(root: Path, package: str) -> set[tuple[str, str]]:
    """Events of one package."""
    files = (root / package / "src").rglob("*.py")
    return {event for source in files for event in logged(source)}


def documented(root: Path, title: str) -> list[tuple[str, str]]:
    """Event and level of every row below a heading of the page."""
    page = (root / "docs/operations.md").read_text()
    section = page.partition(f"### {title}\n")[2].partition("\n#")[0]
    rows = ROW.findall(section)
    assert len(rows) == section.count("\n| `"), "a row is not well formed"
    return rows


class TestEvents:
    @pytest.mark.parametrize("title", PACKAGES)
    def test_each_is_documented_with_its_level(self, root: Path, title: str) -> None:
        """An event that is added, renamed or dropped is noticed here."""
        rows = documented(root, title)
        assert sorted(rows) == sorted(set(rows))
        assert set(rows) == emitted(root, PACKAGES[title])

    def test_names_are_dotted(self, root: Path) -> None:
        """A logger is never given prose: events are searched for by name."""
        wrong = []
        for package in PACKAGES.values():
            for source in (root / package / "src").rglob("*.py"):
                for node in ast.walk(ast.parse(source.read_text())):
                    match node:
                        case ast.Call(
                            ast.Attribute(ast.Name("log") | ast.Attribute(attr="_log"), level),
                            [ast.Constant(str(name)), *_],
                        ) if level in LEVELS and not EVENT.fullmatch(name):
                            wrong.append(f"{source}: {name}")
        assert wrong == []
