# SPDX-License-Identifier: Apache-2.0
"""Folders of recordings, shaped like the real ones and tiny."""

import gzip
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

Faults = Iterable[str]


@pytest.fixture
def cwru(tmp_path: Path) -> Callable[..., Path]:
    """``<fault>_<load>.mat`` files of 2048 samples at 12 kHz, the healthy one at 48 kHz."""

    def make(loads: Iterable[int] = (0, 1), faults: Faults = "", healthy: str = "Normal") -> Path:
        from scipy.io import savemat

        folder = tmp_path / "cwru" / "12k_DE"
        folder.mkdir(parents=True)
        names = list(faults or ("B007", "B014", "IR007", "IR014", "OR007@6"))
        for load in loads:
            for name in [*names, *([healthy] if healthy else [])]:
                rows = 8192 if name == healthy else 2048
                series = np.random.default_rng(rows).normal(0, 1, (rows, 1))
                number = f"X{100 + load}"
                savemat(
                    folder / f"{name}_{load}.mat",
                    {
                        f"{number}_DE_time": series,
                        f"{number}_FE_time": series,
                        f"{number}RPM": 1797.0,
                    },
                )
        return folder.parent

    return make


@pytest.fixture
def cmapss(tmp_path: Path) -> Callable[..., Path]:
    """``train_*``, ``test_*`` and ``RUL_*`` of a set, gzipped or not."""

    def make(name: str = "FD001", engines: int = 12, *, zipped: bool = True) -> Path:
        folder = tmp_path / "cmapss"
        folder.mkdir(exist_ok=True)
        for part in ("train", "test"):
            lines = [
                f"{engine} {cycle} " + " ".join(["0.5"] * 24)
                for engine in range(1, engines + 1)
                for cycle in range(1, 5 + engine % 3)
            ]
            text = "  \n".join([*lines, ""]).encode()
            path = folder / f"{part}_{name}.txt{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(text) if zipped else text)
        (folder / f"RUL_{name}.txt").write_text("112 \n" * engines)
        return folder

    return make


@pytest.fixture
def tep(tmp_path: Path) -> Callable[..., Path]:
    """``dNN.dat`` and ``dNN_te.dat`` of some states, gzipped or not; whole ones can be read."""

    def make(states: Iterable[int], *, zipped: bool = False, whole: bool = False) -> Path:
        folder = tmp_path / "tep"
        folder.mkdir()
        line = b"  ".join([b"1.5e+00"] * 52) + b"\n"
        for state in states:
            for end, rows in (("", 500 if state == 0 else 480), ("_te", 960)):
                data = line * (rows if whole else 1)
                path = folder / f"d{state:02d}{end}.dat{'.gz' if zipped else ''}"
                path.write_bytes(gzip.compress(data) if zipped else data)
        return folder

    return make
