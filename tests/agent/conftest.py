# SPDX-License-Identifier: Apache-2.0
"""What tests of whole agents share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.whole import Plant, whole_plant


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """A broker in memory, and what agents are made of."""
    with whole_plant(tmp_path, monkeypatch) as plant:
        yield plant
