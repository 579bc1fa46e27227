# SPDX-License-Identifier: Apache-2.0
"""``fedmill trust``: the ceremony as a person holds it, at the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import json
from tests.trusted import JOB_FILE

from fedmill_coordinator.cli import main
from fedmill_shared.audit import FILE


class Desk:
    """A folder with a configuration, and somebody who types."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "coordinator.toml"
        self.config.write_text("[trust]\n")
        self.keys = folder / "sticks"
        self.job = folder / "press.toml"
        self.job.write_text(JOB_FILE)

    def trust(self, *words: object, config: bool = True) -> Result:
        """Type a command."""
        told = ["--config", str(self.config)] if config else []
        return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["trust", *map(str, words), *told])

    def key(self, name: str) -> Path:
        """Where a key is."""
        return self.keys / name / f"{name}.pem"

    def done(self, *words: object, config: bool = True) -> str:
        """Type a command that must work."""
        result = self.trust(*words, config=config)
        assert result.exit_code == 0, result.output
        return result.output

    def roles(self) -> dict[str, dict[str, object]]:
        """What status says."""
        rows = json.decode(self.done("status", "--json"), type=list[dict[str, object]])
        return {str(row["role"]): row for row in rows}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A plant whose keys were just made."""
    desk = Desk(tmp_path)
    told = desk.done("init", "--keys", desk.keys)
    assert "two of the three change the root" in told
    return desk


class TestCeremony:
    def test_a_root_is_renewed_with_two_sticks(self, desk: Desk) -> None:
        """One is too few, and it says how to go on."""
        file = desk.folder / "next.json"
        desk.done("root", "prepare", "--out", file)
        sign = ("root", "sign", file, "--yes", "--key")
        desk.done(*sign, desk.key("root-2"), config=False)
        few = desk.trust("root", "import", file)
        assert few.exit_code == 25
        assert "wants 2 signatures of its keys, and it has 1 (root-2)" in few.output
        desk.done(*sign, desk.key("root-3"), config=False)
        assert "root 2 counts" in desk.done("root", "import", file)
        assert desk.roles()["root"]["version"] == 2

    def test_a_lost_key_is_replaced(self, desk: Desk) -> None:
        """By one that was made for that."""
        new = desk.folder / "new.pem"
        desk.done("key", new, config=False)
        file = desk.folder / "next.json"
        replace = f"root-1={new.with_suffix('.pub.pem')}"
        desk.done("root", "prepare", "--out", file, "--replace", replace)
        for name in ("root-2", "root-3"):
            desk.done("root", "sign", file, "--yes", "--key", desk.key(name), config=False)
        desk.done("root", "import", file)
        desk.done("replace-key", "software", new, "--key", desk.key("targets"))
        assert desk.roles()["targets"]["version"] == 2

    def test_passphrases_are_asked_of_a_file(self, tmp_path: Path) -> None:
        """The offline keys are useless without."""
        desk, phrase = Desk(tmp_path), tmp_path / "phrase"
        phrase.write_text("correct horse\n")
        desk.done("init", "--keys", desk.keys, "--passphrase-file", phrase)
        add = ("add-job", desk.job, "--key", desk.key("targets"))
        bare = desk.trust(*add)
        assert (bare.exit_code, "it has a passphrase" in bare.output) == (25, True)
        assert "signed: press" in desk.done(*add, "--passphrase-file", phrase)


class TestSigning:
    """What the owner of a root key sees before it signs: the laptop knows nothing of the plant."""

    def prepared(self, desk: Desk) -> Path:
        """The next root, as it came on a stick."""
        file = desk.folder / "next.json"
        desk.done("root", "prepare", "--out", file)
        return file

    def shown(self, desk: Desk, file: Path, *more: object) -> list[str]:
        """What is told of it to the owner of root-2, who then signs."""
        first = desk.folder / "trust" / "metadata" / "1.root.json"
        words = ("root", "sign", file, "--key", desk.key("root-2"), "--before", first, *more)
        return desk.done(*words, "--yes", config=False).splitlines()

    def spoiled(self, desk: Desk, change: Callable[[Any], None]) -> list[str]:
        """What is told once somebody on the plant server has changed the file."""
        file = self.prepared(desk)
        content = json.decode(file.read_bytes())
        change(content["signed"])
        file.write_bytes(json.encode(content))
        return self.shown(desk, file)

    def test_keys_have_digests_from_their_making_on(self, tmp_path: Path) -> None:
        """Those that are told when one signs."""
        desk = Desk(tmp_path)
        made = desk.done("init", "--keys", desk.keys)
        told = self.shown(desk, self.prepared(desk))
        own = next(line for line in told if line.startswith("your key: ")).split()[-1]
        assert f"  root-2  {own}" in made
        new = desk.done("key", desk.folder / "new.pem", config=False).split()[-1]
        file = desk.folder / "next.json"
        replace = f"root-1={desk.folder / 'new.pub.pem'}"
        desk.done("root", "prepare", "--out", file, "--replace", replace)
        assert f"  root: root-1 ({new}) comes" in self.shown(desk, file)

    def test_names_version_term_and_keys(self, desk: Desk) -> None:
        """With the digest of each key, its own among them."""
        told = self.shown(desk, self.prepared(desk))
        assert told[0].startswith("root 2, good until 20")
        own = next(line for line in told if line.startswith("your key: ")).split()[-1]
        roles = [line for line in told if line.startswith("  root: 2 of root-1 (")]
        assert [f"root-2 ({own})" in line for line in roles] == [True]
        assert "  signed by nobody so far" in told
        assert told[-2:] == [f"your key: {own}", f"{desk.folder / 'next.json'}: 1 signature"]
        assert "  nothing but its term" in told

    def test_a_key_under_the_name_and_id_of_another_is_told(self, desk: Desk) -> None:
        """Whoever prepares the file writes both; the digest is of the key itself."""

        def exchange(signed: Any) -> None:
            (key,) = [k for k in signed["keys"].values() if k["x-fedmill-name"] == "root-1"]
            key["keyval"]["public"] = "ab" * 32

        told = self.spoiled(desk, exchange)
        changed = [line for line in told if line.endswith((" goes", " comes"))]
        assert [line.split("(")[0] for line in changed] == ["  root: root-1 "] * 2

    def test_fewer_signatures_are_told(self, desk: Desk) -> None:
        """One stick would be enough from then on."""

        def lower(signed: Any) -> None:
            signed["roles"]["root"]["threshold"] = 1

        assert "  root: 1 signatures are enough, before 2" in self.spoiled(desk, lower)

    def test_a_name_steers_no_terminal(self, desk: Desk) -> None:
        """Nor is it longer than a line."""

        def rename(signed: Any) -> None:
            for key in signed["keys"].values():
                key["x-fedmill-name"] = "\x1b[2J" + "x" * 5000

        told = "\n".join(self.spoiled(desk, rename))
        assert "\x1b" not in told
        assert "x" * 100 not in told

    def test_without_a_word_of_consent_nothing_is_signed(self, desk: Desk) -> None:
        """No terminal to ask on, and no --yes."""
        file = self.prepared(desk)
        before = file.read_bytes()
        result = desk.trust("root", "sign", file, "--key", desk.key("root-1"), config=False)
        assert (result.exit_code, "give --yes" in result.output) == (2, True)
        assert "root 2, good until" in result.output
        assert "give --before" in result.output
        assert file.read_bytes() == before

    @pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("", 130), ("y\n", 0)])
    def test_it_asks(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
    ) -> None:
        """And signs what was shown, if the answer is yes."""
        file = self.prepared(desk)
        before = file.read_bytes()
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        words = ["trust", "root", "sign", str(file), "--key", str(desk.key("root-1"))]
        assert CliRunner().invoke(main, words, input=answer).exit_code == code
        assert (file.read_bytes() != before) is (code == 0)


class TestActs:
    def test_each_is_on_record(self, desk: Desk) -> None:
        """Who did what, in the audit log of the coordinator."""
        key = ("--key", desk.key("targets"))
        overlay = desk.folder / "overlay.toml"
        overlay.write_text("[training]\nnice = 5\n")
        desk.done("add-job", desk.job, *key)
        desk.done("set-config", "all", overlay, *key)
        desk.done("set-config", "all", "--remove", *key)
        desk.done("remove-job", "press", *key)
        desk.done("renew", "targets", *key)
        desk.done("add-software", overlay, "--key", desk.key("software"))
        lines = (desk.folder / "state" / FILE).read_bytes().splitlines()
        acts = [json.decode(line, type=dict[str, object])["what"] for line in lines]
        assert acts == [
            "trust.founded",
            "trust.job_signed",
            "trust.config_signed",
            "trust.config_removed",
            "trust.job_removed",
            "trust.renewed",
            "trust.software_signed",
        ]

    def test_status_is_a_table_for_people(self, desk: Desk) -> None:
        """Roles, terms and who signs."""
        shown = desk.done("status")
        assert "2 of root-1, root-2, root-3" in shown
        assert "the coordinator, hourly" in shown

    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            (("add-job", "{job}", "--key", "{software}"), 25, "not the key of targets"),
            (("add-job", "{job}", "--key", "/nowhere.pem"), 25, "is the stick with it in place"),
            (("init", "--keys", "{folder}/other"), 25, "there is a repository already"),
            (("root", "prepare", "--out", "{folder}/x", "--replace", "root-1"), 2, "has no ="),
            (("set-config", "all", "--key", "{targets}"), 2, "give either FILE or --remove"),
        ],
    )
    def test_mistakes_are_told_in_a_line(
        self, desk: Desk, words: tuple[str, ...], code: int, told: str
    ) -> None:
        """With what to do, and an exit code of their own."""
        names = {"job": desk.job, "folder": desk.folder}
        keys = {name: desk.key(name) for name in ("targets", "software")}
        result = desk.trust(*(word.format(**names, **keys) for word in words))
        assert result.exit_code == code
        assert told in result.output

    def test_without_trust_there_is_nothing_to_sign(self, tmp_path: Path) -> None:
        """It says which section is missing."""
        desk = Desk(tmp_path)
        desk.config.write_text("")
        result = desk.trust("status")
        assert (result.exit_code, "has no section [trust]" in result.output) == (10, True)
