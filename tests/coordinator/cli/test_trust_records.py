# SPDX-License-Identifier: Apache-2.0
"""What was signed before and is signed after each act of ``fedmill trust`` is on record."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.trusted import JOB_FILE

from fedmill_coordinator.cli import main
from fedmill_coordinator.trust.keys import read_public
from fedmill_shared.audit import FILE
from fedmill_shared.audit.entry import Entry
from fedmill_shared.audit.person import who
from fedmill_shared.audit.verifying import entries
from fedmill_shared.files import sha256


class Desk:
    """Somebody who types, in a folder with a configuration and all keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "coordinator.toml").write_text("[trust]\n")
        self.trust("init", "--keys", folder / "sticks")

    def trust(self, *words: object) -> None:
        """Type a command that must work."""
        typed = ["trust", *map(str, words), "--config", str(self.folder / "coordinator.toml")]
        result = CliRunner().invoke(main, typed)
        assert result.exit_code == 0, result.output

    def key(self, name: str) -> Path:
        """Where a key is."""
        return self.folder / "sticks" / name / f"{name}.pem"

    def acts(self) -> list[Entry]:
        """What is on record since the keys were made."""
        return list(entries(self.folder / "state" / FILE))[1:]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A plant whose keys were just made."""
    return Desk(tmp_path)


def test_files_by_their_digests(desk: Desk) -> None:
    """Empty where nothing was signed under that name, or is no longer."""
    key, job, overlay = (
        ("--key", desk.key("targets")),
        desk.folder / "p.toml",
        desk.folder / "o.toml",
    )
    overlay.write_text("[training]\nnice = 5\n")
    for text in (JOB_FILE, JOB_FILE + "\n"):
        job.write_text(text)
        desk.trust("add-job", job, *key)
    desk.trust("remove-job", "press", *key)
    desk.trust("set-config", "all", overlay, *key)
    desk.trust("set-config", "all", "--remove", *key)
    desk.trust("add-software", overlay, "--key", desk.key("software"))
    first, second, tuned = (
        sha256(data) for data in (JOB_FILE.encode(), job.read_bytes(), overlay.read_bytes())
    )
    told = [(each.what, each.subject, each.before, each.after) for each in desk.acts()]
    assert told == [
        ("trust.job_signed", "jobs/press.toml", "", first),
        ("trust.job_signed", "jobs/press.toml", first, second),
        ("trust.job_removed", "jobs/press.toml", second, ""),
        ("trust.config_signed", "config/all.toml", "", tuned),
        ("trust.config_removed", "config/all.toml", tuned, ""),
        ("trust.software_signed", "software/o.toml", "", tuned),
    ]
    assert {each.who for each in desk.acts()} == {who()}


def test_terms_by_their_versions(desk: Desk) -> None:
    """Of the role that was signed anew."""
    desk.trust("renew", "targets", "--key", desk.key("targets"))
    (act,) = desk.acts()
    assert (act.subject, act.before, act.after) == ("targets", "version 1", "version 2")


def test_keys_by_their_ids(desk: Desk) -> None:
    """Which one does not count any more, and which one does."""
    new = desk.folder / "new.pem"
    assert CliRunner().invoke(main, ["trust", "key", str(new)]).exit_code == 0
    desk.trust("replace-key", "software", new, "--key", desk.key("targets"))
    (act,) = desk.acts()
    before, after = (read_public(path, "software").keyid for path in (desk.key("software"), new))
    assert (act.subject, act.before, act.after) == ("software", before, after)


def test_roots_by_their_digests(desk: Desk) -> None:
    """The one that counted, and the one that does."""
    before = (desk.folder / "trust" / "metadata" / "1.root.json").read_bytes()
    file = desk.folder / "next.json"
    desk.trust("root", "prepare", "--out", file)
    for name in ("root-1", "root-2"):
        words = ["trust", "root", "sign", str(file), "--yes", "--key", str(desk.key(name))]
        assert CliRunner().invoke(main, words).exit_code == 0
    desk.trust("root", "import", file)
    (act,) = desk.acts()
    assert (act.what, act.subject) == ("trust.root_imported", "root 2")
    assert (act.before, act.after) == (sha256(before), sha256(file.read_bytes()))
