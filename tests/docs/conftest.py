# SPDX-License-Identifier: Apache-2.0
"""Pages of the documentation, and the files that stand in them as code blocks."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_FILE = re.compile(r"^\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)

Files = Callable[[str], dict[str, str]]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def files() -> Files:
    """Of a page: path -> content of every block that is introduced as a file, **`path`**."""

    def read(page: str) -> dict[str, str]:
        found = dict(_FILE.findall((ROOT / page).read_text(encoding="utf-8")))
        assert found, f"{page} shows no files"
        return found

    return read
