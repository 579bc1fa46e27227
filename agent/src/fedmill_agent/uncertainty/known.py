# SPDX-License-Identifier: Apache-2.0
"""Calibrations of the last versions on disk."""

from pathlib import Path

from fedmill_agent import known
from fedmill_agent.uncertainty.calibration import Calibration


class _File(known.Versions[Calibration], frozen=True):
    """The file."""


class Known(known.Known[Calibration]):
    """Owns the calibrations of one job."""

    def __init__(self, path: Path) -> None:
        """``path`` need not exist."""
        super().__init__(path, _File)
