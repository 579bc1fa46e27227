# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from tests.coordinator.pki.kit import Office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """A coordinator's authority on a store in memory, with a clock that tests move."""
    return Office(tmp_path)
