# SPDX-License-Identifier: Apache-2.0
"""The coordinator's audit log: how large it becomes, and what of the configuration is in it."""

from pathlib import Path

import pytest
from tests.records import Records

from fedmill_coordinator.audited import CONFIG_DIGEST, audit_log, note_config
from fedmill_coordinator.config import CoordinatorConfig, CoordinatorSection, load
from fedmill_shared.audit import MAX_BYTES
from fedmill_shared.audit.files import full_files
from fedmill_shared.audit.verifying import verify
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError
from fedmill_shared.files import sha256


class TestBound:
    def test_is_kept(self, tmp_path: Path) -> None:
        """The oldest quarter goes with a record that says so; the newest records stay."""
        section = CoordinatorSection(state=str(tmp_path), audit_max_bytes=40_000)
        log = audit_log(CoordinatorConfig(coordinator=section), ManualClock())
        for number in range(120):
            log.record(who="anna", what="test.done", subject=str(number), after="x" * 800)
        sizes = [each.stat().st_size for each in [*full_files(log.path), log.path]]
        assert 25_000 < sum(sizes) <= 50_000
        verdict = verify(log.path)
        assert verdict.ok, verdict.flaws
        assert verdict.first > 50

    def test_is_read(self, tmp_path: Path) -> None:
        """A field of the configuration, or 256 MB; too little to find anything in is refused."""
        path = tmp_path / "coordinator.toml"
        for text, found in {"": MAX_BYTES, "audit_max_bytes = 2000000": 2_000_000}.items():
            path.write_text(f"[coordinator]\n{text}\n")
            assert load(path).coordinator.audit_max_bytes == found
        path.write_text("[coordinator]\naudit_max_bytes = 999999\n")
        with pytest.raises(ConfigError, match=r"toml:2: coordinator\.audit_max_bytes"):
            load(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a configuration is."""
    (tmp_path / "state").mkdir()
    made = tmp_path / "coordinator.toml"
    made.write_text("")
    return made


class TestConfiguration:
    def test_another_one_is_recorded(self, path: Path) -> None:
        """At the start that takes it up, by the digests of both; the same one is not."""
        audit, state = Records(), path.parent / "state"
        for text in ("", "", "[broker]\nport = 1884\n"):
            path.write_text(text)
            note_config(path, state, audit)
        assert [(each.what, each.subject) for each in audit] == [("config.changed", str(path))] * 2
        first, second = audit
        assert (first.before, first.after) == ("", sha256(b""))
        assert (second.before, second.after) == (first.after, sha256(path.read_bytes()))

    @pytest.mark.parametrize("left", [b"\xff", b"nonsense"])
    def test_what_is_known_is_damaged(self, path: Path, left: bytes) -> None:
        """It is told, and known from now on."""
        audit, known = Records(), path.parent / "state" / CONFIG_DIGEST
        known.write_bytes(left)
        note_config(path, known.parent, audit)
        note_config(path, known.parent, audit)
        assert [each.what for each in audit] == ["config.changed"]

    def test_disk_that_is_full_ends_nothing(self, path: Path) -> None:
        """The next start tells it again."""
        audit, state = Records(), path.parent / "none"
        note_config(path, state, audit)
        note_config(path, state, audit)
        assert [each.what for each in audit] == ["config.changed"] * 2
