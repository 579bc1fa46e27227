# SPDX-License-Identifier: Apache-2.0
"""The coordinator's audit log: how large it becomes."""

from pathlib import Path

import pytest

from fedmill_coordinator.audited import audit_log
from fedmill_coordinator.config import CoordinatorConfig, CoordinatorSection, load
from fedmill_shared.audit import MAX_BYTES
from fedmill_shared.audit.files import full_files
from fedmill_shared.audit.verifying import verify
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError


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
