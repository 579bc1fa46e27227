# SPDX-License-Identifier: Apache-2.0
"""Configuration tables: current on their pages, and complete."""

from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, Struct, defstruct, field

from fedmill_agent.config import AgentConfig
from fedmill_coordinator.config import CoordinatorConfig
from fedmill_shared.config_reference import main, rewritten, tables
from fedmill_shared.errors import UsageError

PAGES = {"docs/agent.md": AgentConfig, "docs/coordinator.md": CoordinatorConfig}


class Speed(Struct, frozen=True, kw_only=True):
    """How fast.

    Attributes:
        limit: largest speed,
            in ``rpm``.
    """

    limit: float = 3.0


class Reader(Struct, kw_only=True, tag_field="kind"):
    """What every reader has."""

    name: Annotated[str, Meta(description="Its name | or title.")]
    tags: dict[str, str] = field(default_factory=dict)


class Slow(Reader, kw_only=True, tag="slow"):
    """A slow reader."""

    wait: int = 1


class Fast(Reader, kw_only=True, tag="fast"):
    """A fast reader."""


class Config(Struct, kw_only=True):
    """A configuration."""

    speed: Speed = Speed()
    readers: list[Slow | Fast] = field(default_factory=list)


class TestPages:
    @pytest.mark.parametrize("page", PAGES)
    def test_tables_are_current(self, root: Path, page: str) -> None:
        """The committed tables are what the types say."""
        text = (root / page).read_text()
        stale = f"{page} is stale: run python -m fedmill_shared.config_reference {page}"
        assert rewritten(text) == text, stale

    @pytest.mark.parametrize("page", PAGES)
    def test_every_field_has_a_meaning(self, page: str) -> None:
        """A row ends in a sentence."""
        rows = [row for row in tables(PAGES[page]).splitlines() if row.startswith("| `")]
        assert len(rows) > 5
        assert [row for row in rows if not row.endswith(". |")] == []


class TestTables:
    def test_literal(self) -> None:
        """Sections, what all members of a union share, and what each adds."""
        assert tables(Config) == (
            "### `[speed]`\n\nHow fast.\n\n"
            "| Field | Accepts | Default | Meaning |\n|---|---|---|---|\n"
            "| `limit` | a number | `3.0` | Largest speed, in `rpm`. |\n\n"
            "### `[[readers]]`\n\nWhat every reader has.\n\n"
            "| Field | Accepts | Default | Meaning |\n|---|---|---|---|\n"
            "| `name` | text | required | Its name \\| or title. |\n"
            "| `tags` | a table whose values are each text | `{}` |  |\n\n"
            '### `[[readers]]` with `kind = "fast"`\n\nA fast reader.\n\n'
            '### `[[readers]]` with `kind = "slow"`\n\nA slow reader.\n\n'
            "| Field | Accepts | Default | Meaning |\n|---|---|---|---|\n"
            "| `wait` | an integer | `1` |  |\n\n"
        )

    def test_what_several_kinds_have_is_said_once(self) -> None:
        """Between what all have and what one has; a changed default is said again."""

        class Moving(Reader, kw_only=True):
            """What moves."""

            speed: int = 1

        class Car(Moving, kw_only=True, tag="car"):
            """A car."""

            speed: int = 2

        class Boat(Moving, kw_only=True, tag="boat"):
            """A boat."""

        made = defstruct("Fleet", [("readers", list[Slow | Car | Boat])])
        head = "| Field | Accepts | Default | Meaning |\n|---|---|---|---|\n"
        written = tables(made)
        assert (
            "### `[[readers]]` with `kind` one of `boat`, `car`\n\nWhat moves.\n\n"
            f"{head}| `speed` | an integer | `1` |  |\n\n"
            '### `[[readers]]` with `kind = "boat"`\n\nA boat.\n\n'
            '### `[[readers]]` with `kind = "car"`\n\nA car.\n\n'
            f"{head}| `speed` | an integer | `2` |  |\n\n"
            '### `[[readers]]` with `kind = "slow"`\n\nA slow reader.\n\n'
        ) in written


class TestRewriting:
    def test_only_the_region_changes(self, tmp_path: Path) -> None:
        """Text around the markers stays; doing it twice changes nothing."""
        page = tmp_path / "page.md"
        marker = "<!-- fields of fedmill_coordinator.config:CoordinatorConfig -->\n"
        page.write_text(f"before\n{marker}old\n<!-- end of fields -->\nafter\n")
        assert main([str(page)]) == 0
        text = page.read_text()
        assert text.startswith(f"before\n{marker}### `[coordinator]`\n")
        assert text.endswith("|\n\n<!-- end of fields -->\nafter\n")
        assert rewritten(text) == text

    @pytest.mark.parametrize(
        ("page", "message"),
        [
            ("no marker", "no region is marked"),
            ("<!-- fields of json:Nothing -->\n<!-- end of fields -->", "json:Nothing is no type"),
            ("<!-- fields of nowhere:X -->\n<!-- end of fields -->", "nowhere:X is no type"),
        ],
    )
    def test_wrong_pages(self, page: str, message: str) -> None:
        """A page that cannot be rewritten says why."""
        with pytest.raises(UsageError, match=message):
            rewritten(page)

    def test_command_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Without pages, and with a missing one, it is a usage error."""
        assert main([]) == UsageError.exit_code
        assert main([str(tmp_path / "missing.md")]) == UsageError.exit_code
        assert "missing.md" in capsys.readouterr().err
