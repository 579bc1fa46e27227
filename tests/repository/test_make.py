# SPDX-License-Identifier: Apache-2.0
"""What the verbs that run tests ask pytest for, with a stand-in for pytest."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.repository.conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

STAND_IN = """#!/bin/sh
for each in "$@"; do printf '[%s]' "$each"; done; echo
exit {}
"""
KINDS = {"test": "not drill and not deploy", "test-drills": "drill"}


class Plan:
    """A folder with a program called pytest, which ends with the same exit code each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runs(self, verb: str, code: int) -> tuple[int, list[str]]:
        """The exit code of the verb, and what each run of pytest was given, in brackets."""
        program = self.folder / "pytest"
        program.write_text(STAND_IN.format(code))
        program.chmod(0o700)
        command = ["make", "-C", str(ROOT), "-o", "setup", verb, f"BIN={self.folder}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, [each for each in done.stdout.splitlines() if each[:1] == "["]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Nothing has run."""
    return Plan(tmp_path)


@pytest.mark.parametrize(("verb", "kind"), KINDS.items())
class TestRuns:
    def test_one_that_passes_is_the_only_one(self, plan: Plan, verb: str, kind: str) -> None:
        """Of its own kind of tests."""
        code, [only] = plan.runs(verb, 0)
        assert code == 0
        assert f"[-m][{kind}]" in only
        assert "last-failed" not in only

    def test_what_failed_runs_again_and_nothing_of_other_verbs(
        self, plan: Plan, verb: str, kind: str
    ) -> None:
        """Pytest remembers the failed drills of yesterday; they are not what `make test` runs."""
        code, [first, second] = plan.runs(verb, 1)
        assert code != 0
        assert "last-failed" not in first
        assert "[--last-failed]" in second
        for each in (first, second):
            assert f"[-m][{kind}]" in each

    def test_one_that_came_to_no_end_is_not_tried_again(
        self, plan: Plan, verb: str, kind: str
    ) -> None:
        """Interrupted, or called wrongly."""
        code, [only] = plan.runs(verb, 2)
        assert code != 0
        assert f"[-m][{kind}]" in only
