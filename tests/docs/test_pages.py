# SPDX-License-Identifier: Apache-2.0
"""What README and the other pages say about files, commands and versions is true."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import fedmill_agent.cli
import fedmill_coordinator.cli
import fedmill_shared

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROJECTS = [ROOT, ROOT / "shared", ROOT / "agent", ROOT / "coordinator"]
PROGRAMS = {
    "fedmill": ("docs/coordinator.md", set(fedmill_coordinator.cli.COMMANDS)),
    "fedmill-agent": ("docs/agent.md", set(fedmill_agent.cli.COMMANDS)),
}
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Names of the headings of a page, as links write them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def every_page(test: Callable[..., None]) -> Callable[..., None]:
    """Run ``test`` on each page."""
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)(test)


class TestPages:
    @every_page
    def test_links_lead_somewhere(self, page: Path) -> None:
        """Every relative link names a file or folder, and a heading in it."""
        broken = []
        for link in LINK.findall(page.read_text()):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
        assert broken == []

    @every_page
    def test_commands_exist(self, page: Path) -> None:
        """Every command that is named is one."""
        text = page.read_text()
        agent, own = (
            set(re.findall(rf"(?:`|^){program} ([a-z][a-z-]*)", text, re.MULTILINE))
            for program in ("fedmill-agent", "fedmill")
        )
        assert agent - set(fedmill_agent.cli.COMMANDS) == set()
        assert own - set(fedmill_coordinator.cli.COMMANDS) == set()

    @pytest.mark.parametrize("page", ["README.md", ""])
    @pytest.mark.parametrize("program", PROGRAMS)
    def test_each_command_has_a_row(self, program: str, page: str) -> None:
        """In README, and on the page of its program."""
        own_page, commands = PROGRAMS[program]
        text = (ROOT / (page or own_page)).read_text()
        cells = re.findall(rf"^\| (`{program} .*?) \| ", text, re.MULTILINE)
        named = re.findall(rf"`(?:{program} )?([a-z-]+)", " ".join(cells))
        assert commands - set(named) == set()

    @every_page
    def test_make_targets_exist(self, page: Path) -> None:
        """Every `make` verb that is named is in the Makefile."""
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(), re.MULTILINE))
        assert named <= targets

    def test_index_names_every_page(self) -> None:
        """Nothing in the folder is left out."""
        linked = {
            link.partition("#")[0] for link in LINK.findall((ROOT / "docs/index.md").read_text())
        }
        pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
        assert pages <= linked


class TestReadme:
    def test_files_are_those_of_getting_started(
        self, files: Callable[[str], dict[str, str]]
    ) -> None:
        """The shorter copies are the beginnings of the files that a test runs."""
        shown = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        full = files("docs/getting-started.md")
        assert len(shown) == 3
        for text in shown:
            assert any(file.startswith(text) for file in full.values()), text

    def test_names_every_page(self) -> None:
        """Who reads no further than its end has seen what there is."""
        linked = set(LINK.findall((ROOT / "README.md").read_text()))
        assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= linked

    def test_ci_runs_its_test_commands(self) -> None:
        """A change is tested with the very commands that README names."""
        named = re.findall(r"^make (test\S*)", (ROOT / "README.md").read_text(), re.MULTILINE)
        run = re.findall(r"^suite make (\S+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
        assert named == run
        assert run[0] == "test"


class TestAgent:
    def test_names_every_small_file_of_its_state(self) -> None:
        """Who backs up or cleans a state folder finds there what each file is."""
        sources = (path.read_text() for path in (ROOT / "agent/src").rglob("*.py"))
        files = {name for text in sources for name in re.findall(r'"([a-z]+\.msgpack)"', text)}
        page = (ROOT / "docs/agent.md").read_text()
        assert len(files) > 5
        assert {name for name in files if f"{name}`" not in page} == set()


class TestVersions:
    def test_all_are_in_step(self) -> None:
        """Four projects, the code, the pins between them and the changelog agree."""
        projects = [tomllib.loads((p / "pyproject.toml").read_text())["project"] for p in PROJECTS]
        assert {project["version"] for project in projects} == {fedmill_shared.__version__}
        extras = [
            d for p in projects for e in p.get("optional-dependencies", {}).values() for d in e
        ]
        needed = [d for p in projects for d in p.get("dependencies", [])] + extras
        ours = [d for d in needed if d.startswith("fedmill")]
        assert len(ours) == 5
        assert {d.partition("==")[2] for d in ours} == {fedmill_shared.__version__}
        assert f"\n## {fedmill_shared.__version__} " in (ROOT / "CHANGELOG.md").read_text()
