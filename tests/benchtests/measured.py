# SPDX-License-Identifier: Apache-2.0
"""A whole bench, run as a user runs it."""

import subprocess
import sys
from pathlib import Path

import msgspec
from tests.bench.harness import Figure, Outcome

ROOT = Path(__file__).parents[2]


def command(name: str, *options: str) -> list[str]:
    """As it is given in ``ROOT``."""
    return [sys.executable, "-m", "tests.bench", name, "--json", *options]


def measured(name: str, *options: str) -> dict[str, Figure]:
    """The figures by their names, whatever the machine makes of their targets."""
    run = command(name, *options)
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    (line,) = done.stdout.splitlines()
    result = msgspec.json.decode(line, type=Outcome)
    assert done.returncode == (0 if result.ok else 1), done.stderr
    figures = {each.name: each for each in result.figures}
    assert len(figures) == len(result.figures)
    return figures
