# SPDX-License-Identifier: Apache-2.0
"""What roles promise: every variable described, secrets silent, handlers harmless in a check."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ANSIBLE = Path(__file__).resolve().parents[2] / "deploy" / "ansible"
ROLES = sorted(path.name for path in (ANSIBLE / "roles").iterdir())


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _tasks(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All of them, those inside of blocks too."""
    for task in tasks:
        inner = [each for key in ("block", "rescue", "always") for each in task.get(key, [])]
        yield from _tasks(inner) if inner else [task]


def _all_tasks(role: str) -> Iterator[dict[str, Any]]:
    for path in sorted((ANSIBLE / "roles" / role / "tasks").glob("*.yml")):
        yield from _tasks(_load(path))


@pytest.mark.parametrize("role", ROLES)
class TestRole:
    def test_describes_every_variable(self, role: str) -> None:
        """`argument_specs` and `defaults` name the same, with a type and a sentence each."""
        options = _load(ANSIBLE / "roles" / role / "meta/argument_specs.yml")["argument_specs"]
        described = options["main"]["options"]
        assert described.keys() == _load(ANSIBLE / "roles" / role / "defaults/main.yml").keys()
        assert all(each["type"] and each["description"] for each in described.values())

    def test_defaults_are_those_that_it_describes(self, role: str) -> None:
        """Whoever reads the description knows what happens without the variable."""
        folder = ANSIBLE / "roles" / role
        described = _load(folder / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
        for name, value in _load(folder / "defaults/main.yml").items():
            if "groups[" not in str(value):  # a sentence says it better
                assert described[name]["default"] == value, name

    def test_variables_have_its_name(self, role: str) -> None:
        """So that two roles never mean different things by one name."""
        for place in ("defaults/main.yml", "vars/main.yml"):
            names = _load(ANSIBLE / "roles" / role / place) or {}
            assert [name for name in names if not name.startswith(f"{role}_")] == []

    def test_says_nothing_of_secrets(self, role: str) -> None:
        """What touches them prints neither values nor differences."""
        touching = [task for task in _all_tasks(role) if "_secrets[" in str(task)]
        assert all(task["no_log"] for task in touching)

    def test_handlers_do_nothing_in_a_check(self, role: str) -> None:
        """On a fresh machine there is no service yet that they could restart."""
        path = ANSIBLE / "roles" / role / "handlers/main.yml"
        handlers = _load(path) if path.exists() else []
        assert all(each["when"] == "not ansible_check_mode" for each in handlers)


class TestPlays:
    def test_an_upgrade_goes_in_waves_and_ends_with_the_first_failure(self) -> None:
        """One gateway, a tenth, the rest."""
        plays = {play["name"]: play for play in _load(ANSIBLE / "upgrade.yml")}
        waves = plays["The gateways, in waves"]
        assert waves["serial"] == [1, "10%", "100%"]
        assert waves["max_fail_percentage"] == 0

    def test_the_example_has_no_secret(self) -> None:
        """The vault of the example is one to be copied, and says so."""
        files = {path.name for path in (ANSIBLE / "inventory").rglob("*vault*")}
        assert files == {"vault.yml.example"}
