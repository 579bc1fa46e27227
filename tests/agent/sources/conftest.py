# SPDX-License-Identifier: Apache-2.0
"""The real recordings, where they are installed."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def data_folder() -> Path:
    """Folder of the real data sets: FEDMILL_DATA, or shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("FEDMILL_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set FEDMILL_DATA")
    return folder
