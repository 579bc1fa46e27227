# SPDX-License-Identifier: Apache-2.0
"""``fedmill job``: what can be said of a job file without running it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from msgspec import json

from fedmill_shared.job import Job

Run = Callable[..., Result]
SMALLEST = """
[job]
name = "bearing"

[[signals]]
name = "vibration"

[labels]
classes = ["good", "worn"]

[model]
architecture = "wdcnn"
"""
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


class TestCheck:
    """``fedmill job check``."""

    @pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
    def test_the_examples_are_well_formed(self, run: Run, path: Path) -> None:
        """What it learns, from what, with what, and the schema that agents compare."""
        result = run("job", "check", path)
        assert result.exit_code == 0, result.output
        for word in ("learns", "from", "model", "federation", "codecs", "schema"):
            assert f"  {word} " in result.output

    @pytest.mark.parametrize(
        ("table", "told"),
        [
            ("", "codecs     int8 up, int8 down\n"),
            (
                'compression]\nuplink = "stc-25"\ndense_rounds = 3',
                "codecs     stc-25 up, int8 down, eden-1 in the first 3 rounds\n",
            ),
            (
                "compression]\nplateau_rounds = 4",
                "codecs     int8 up, int8 down, eden-1 where 4 rounds gain nothing\n",
            ),
            ('robustness]\nrule = "krum"', "robustness krum\n"),
            (
                'robustness]\nrule = "trust"',
                "robustness trust, which needs golden windows (coordinator.golden)\n",
            ),
            (
                "robustness]\nquarantine_rounds = 5",
                "quarantine after 5 rounds apart\n",
            ),
            (
                "federation]\nminimum = 1\ngoal = 2",
                "quarantine after 5 rounds apart; never in rounds of 2, where nobody can tell\n",
            ),
            ('learning]\npersonal = "head"', "at home    the head of each agent\n"),
            (
                'serving]\ncandidates = "best"\n[evaluation]\nvalidation = 0.1',
                "serves     the best of global, personal and local, by validation windows\n",
            ),
            ('feedback]\nmethod = "ridge"', "feedback   ridge, from 5 labels on\n"),
            (
                'drift]\nwatch = ["input", "output"]',
                "drift      of input, output; on an alarm: round\n",
            ),
            (
                'drift]\nwatch = ["input"]\non_alarm = []',
                "drift      of input; on an alarm: it is told\n",
            ),
            ('[alarms]]\nname = "wear"\nclasses = ["worn"]', "alarms     wear\n"),
        ],
    )
    def test_methods(self, run: Run, tmp_path: Path, table: str, told: str) -> None:
        """How deltas travel, and what else is not as by default."""
        path = tmp_path / "job.toml"
        path.write_text(SMALLEST + (f"[{table}\n" if table else ""))
        result = run("job", "check", path)
        assert result.exit_code == 0, result.output
        assert f"  {told}" in result.output
        assert "  from       1 signal, windows" in result.output

    @pytest.mark.parametrize(
        ("tables", "told"),
        [
            ("", ""),
            ('[rollout]\nrelease = "better"', ""),
            ('[rollout]\nrelease = "last"', "no agent would notice"),
            ('[rollout]\nrelease = "manual"', "no agent would notice"),
            ('[rollout]\nrelease = "last"\n[evaluation]\nvalidation = 0.1', ""),
            ('[rollout]\nrelease = "last"\n[serving]\nsoak_windows = 50', ""),
            ('[rollout]\nrelease = "last"\n[serving]\nshadow_windows = 50', ""),
        ],
    )
    def test_warns_of_releases_that_nobody_compares(
        self, run: Run, tmp_path: Path, tables: str, told: str
    ) -> None:
        """A model whose weights are worth nothing would be committed by all."""
        path = tmp_path / "job.toml"
        path.write_text(f"{SMALLEST}\n{tables}\n")
        output = run("job", "check", path).output
        assert ("  warning    " in output) == bool(told)
        assert told in output

    def test_warns_of_windows_that_are_compared_in_vain(self, run: Run, tmp_path: Path) -> None:
        """Of a number, agents must be told how far two models may be apart."""
        path = tmp_path / "job.toml"
        number = SMALLEST.replace('classes = ["good", "worn"]', 'unit = "g"')
        number = number.replace('name = "bearing"', 'name = "bearing"\ntask = "regression"')
        serving = '[rollout]\nrelease = "last"\n[serving]\nshadow_windows = 50\n'
        path.write_text(number + serving)
        assert "  warning    agents compare live windows" in run("job", "check", path).output
        path.write_text(number + serving + "least_agreement = 0.9\n")
        result = run("job", "check", path)
        assert "  warning    " not in result.output
        assert "  releases   the last version, to fleet\n" in result.output

    def test_json_is_the_whole_job(self, run: Run) -> None:
        """With every default written out."""
        result = run("job", "check", EXAMPLES / "rig.toml", "--json")
        job = json.decode(result.output, type=Job)
        assert job.name == "bearing-rig"
        assert b'"minimum"' in result.output.encode()

    def test_a_wrong_file(self, run: Run, tmp_path: Path) -> None:
        """Line, field and value in one line."""
        path = tmp_path / "job.toml"
        path.write_text((EXAMPLES / "rig.toml").read_text().replace("= 1024", "= 0"))
        result = run("job", "check", path)
        assert result.exit_code == 11
        assert result.stderr.startswith(f"fedmill: {path}:")
        assert "window.length is 0" in result.stderr
        assert result.stderr.count("\n") == 1

    def test_a_missing_file(self, run: Run, tmp_path: Path) -> None:
        """Named."""
        result = run("job", "check", tmp_path / "none.toml")
        assert result.exit_code == 11
        assert "none.toml" in result.stderr


class TestSchema:
    """``fedmill job schema``."""

    def test_is_a_json_schema(self, run: Run) -> None:
        """For editors: the sections of a job file with their descriptions."""
        schema = json.decode(run("job", "schema").output)
        assert schema["$schema"].startswith("https://json-schema.org/")
        assert "Job" in schema["$defs"]
        assert "federation" in schema["$defs"]["Job"]["properties"]
