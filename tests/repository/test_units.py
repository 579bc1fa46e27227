# SPDX-License-Identifier: Apache-2.0
"""What the unit files promise, tried without a machine that boots; see also tests/deploy."""

import re
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy/systemd"


def said(unit: str, key: str) -> list[str]:
    """All values of a setting, in their order."""
    return re.findall(rf"^{key}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


class TestPython:
    @pytest.mark.parametrize(
        "unit", ["fedmill-agent.service", "fedmill-coordinator.service", "fedmill-trainer@.service"]
    )
    def test_nothing_is_imported_from_the_state_folder(self, unit: str) -> None:
        """Programs work in it, and ``python -m`` would look there first."""
        assert said(unit, "WorkingDirectory")
        assert "PYTHONSAFEPATH=1" in said(unit, "Environment")
