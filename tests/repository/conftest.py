# SPDX-License-Identifier: Apache-2.0
"""The source trees, parsed once."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "agent", "coordinator")


@dataclass(frozen=True)
class Import:
    """One imported name: ``target`` is what stands behind ``import`` or ``from``."""

    target: str
    names: tuple[str, ...]
    line: int
    relative: bool
    at_import_time: bool


@dataclass(frozen=True)
class Module:
    """One file of a source tree."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    @property
    def place(self) -> str:
        """Its path from the root of the repository."""
        return str(self.path.relative_to(ROOT)) if self.path.is_absolute() else str(self.path)

    @cached_property
    def imports(self) -> list[Import]:
        """Every import, also in functions and for type checkers."""
        return list(_imports(self.tree, at_import_time=True))


def _imports(node: ast.AST, *, at_import_time: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, (), child.lineno, False, at_import_time)
        elif isinstance(child, ast.ImportFrom):
            names = tuple(alias.name for alias in child.names)
            relative = child.level > 0
            yield Import(child.module or "", names, child.lineno, relative, at_import_time)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(ast.Module(child.body, []), at_import_time=False)
            yield from _imports(ast.Module(child.orelse, []), at_import_time=at_import_time)
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, at_import_time=at_import_time and not later)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    """Every module of the three packages."""
    found = []
    for package in PACKAGES:
        source = ROOT / package / "src"
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            found.append(Module(name, path, path.read_text(encoding="utf-8")))
    return found


@pytest.fixture(scope="session")
def parse() -> type[Module]:
    """Makes a module of a text, to try the rules on."""
    return Module
