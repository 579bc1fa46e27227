# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the borders between the packages, on the syntax trees."""

import graphlib
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Module = Any  # tests/repository/conftest.py
SIDES = ("fedmill_shared", "fedmill_agent", "fedmill_coordinator")
FORBIDDEN = {
    "fedmill_shared": {"fedmill_agent", "fedmill_coordinator"},
    "fedmill_agent": {"fedmill_coordinator"},
    "fedmill_coordinator": {"fedmill_agent"},
}
ONLY_IN = {
    "cryptography": (
        "fedmill_shared.crypto",
        "fedmill_agent.sources.opcua",
        "fedmill_coordinator.pki",
        "fedmill_coordinator.trust",
    ),
    "tuf": ("fedmill_agent.trust", "fedmill_coordinator.trust"),
    "securesystemslib": ("fedmill_agent.trust", "fedmill_coordinator.trust"),
    "prometheus_client": ("fedmill_coordinator.exposition",),
    "paho": ("fedmill_shared.link",),
    "torch": (
        "fedmill_shared.models",
        "fedmill_shared.learning",
        "fedmill_agent.training",
        "fedmill_coordinator",
    ),
    "onnxruntime": ("fedmill_shared.onnx_session",),
    "asyncua": ("fedmill_agent.sources.opcua", "fedmill_agent.simulate"),
    "pymodbus": ("fedmill_agent.sources.modbus.frames", "fedmill_agent.simulate"),
    "onnx": ("fedmill_coordinator",),
    "onnxscript": ("fedmill_coordinator",),
    "sqlalchemy": ("fedmill_coordinator",),
    "click": ("fedmill_coordinator",),
    "rich": ("fedmill_coordinator",),
}
# Distributions by import name; onnx_ir is the data model that onnxscript hands out and depends on.
DISTRIBUTIONS = {
    "paho": "paho-mqtt",
    "tomli_w": "tomli-w",
    "onnx_ir": "onnxscript",
    "prometheus_client": "prometheus-client",
    "securesystemslib": "tuf",
}


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _trespasses(module: Module) -> list[str]:
    """Imports that a rule forbids to ``module``."""
    found = []
    for each in module.imports:
        top = each.target.split(".")[0]
        forbidden = top in FORBIDDEN[module.name.split(".")[0]]
        misplaced = top in ONLY_IN and not _within(module.name, ONLY_IN[top])
        if each.relative or forbidden or misplaced:
            found.append(f"{module.place}:{each.line} imports {each.target or 'relatively'}")
    return found


def _graph(modules: list[Module]) -> dict[str, set[str]]:
    """Modules that each module needs before it can be imported."""
    names = {module.name for module in modules}
    graph: dict[str, set[str]] = {}
    for module in modules:
        needed: set[str] = set()
        for each in module.imports:
            if each.at_import_time:
                parts = {f"{each.target}.{name}" for name in each.names} & names
                # ``from package import module`` needs the module; any other name, the package.
                needed |= parts
                if each.target in names and len(parts) < max(1, len(each.names)):
                    needed.add(each.target)
        graph[module.name] = needed
    return graph


class TestBorders:
    def test_nobody_trespasses(self, modules: list[Module]) -> None:
        """Sides, wrapped libraries and absolute imports."""
        assert [line for module in modules for line in _trespasses(module)] == []

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("fedmill_shared.job", "import fedmill_agent.daemon"),
            ("fedmill_shared.job", "def f():\n    from fedmill_coordinator import cli"),
            ("fedmill_agent.daemon", "from fedmill_coordinator.cli import main"),
            ("fedmill_coordinator.fleet", "import fedmill_agent"),
            ("fedmill_agent.daemon", "import paho.mqtt.client"),
            ("fedmill_shared.linkage", "import paho"),
            ("fedmill_agent.daemon", "if True:\n    import torch.nn"),
            ("fedmill_agent.training_log", "import torch"),
            ("fedmill_shared.codec.int8", "from onnxruntime import InferenceSession"),
            ("fedmill_agent.store", "from . import windows"),
            ("fedmill_agent.store", "from .windows import WindowStore"),
        ],
    )
    def test_the_rule_bites(self, parse: Callable[..., Module], name: str, text: str) -> None:
        """Each of these is found."""
        assert len(_trespasses(parse(name, Path("x.py"), text))) == 1

    def test_every_import_is_declared(self, modules: list[Module], root: Path) -> None:
        """What a package imports, it or fedmill-shared depends on."""
        declared = {side: _declared(root, side) for side in SIDES}
        missing = []
        for module in modules:
            side = module.name.split(".")[0]
            known = declared[side] | declared["fedmill_shared"] | sys.stdlib_module_names
            for each in module.imports:
                top = each.target.split(".")[0]
                if top not in SIDES and DISTRIBUTIONS.get(top, top) not in known:
                    missing.append(f"{module.place}:{each.line} {top}")
        assert missing == []


def _declared(root: Path, side: str) -> set[str]:
    """Distributions in the dependencies and extras of a package."""
    text = (root / side.removeprefix("fedmill_") / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = project.get("optional-dependencies", {}).values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return {re.split(r"[\[<>=!~ ]", line)[0] for line in wanted}


class TestCycles:
    def test_there_is_none(self, modules: list[Module]) -> None:
        """Imports in functions and for type checkers do not count."""
        try:
            graphlib.TopologicalSorter(_graph(modules)).prepare()
        except graphlib.CycleError as error:
            pytest.fail(" imports ".join(reversed(error.args[1])))

    def test_the_rule_bites(self, parse: Callable[..., Module]) -> None:
        """A cycle over two modules is found, in either form of import, and excused where lazy."""
        eager = ("import a.y", "from a.y import f", "from a import y")
        lazy = (
            "def f():\n    import a.y",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a.y",
        )
        for text in (*eager, *lazy):
            modules = [
                parse("a", Path("a"), ""),
                parse("a.x", Path("x"), text),
                parse("a.y", Path("y"), "class A:\n    import a.x"),
            ]
            sorter = graphlib.TopologicalSorter(_graph(modules))
            if text in eager:
                with pytest.raises(graphlib.CycleError):
                    sorter.prepare()
            else:
                sorter.prepare()
