# SPDX-License-Identifier: Apache-2.0
"""Writes what agents and coordinators are made of: ``dist/sbom-{agent,coordinator}.cdx.json``.

CycloneDX, from the pinned versions that ``make bundle`` ships, so that it says what is installed on
machines and not what happens to be here.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIDES = ("agent", "coordinator")
SECONDS = 300


def command(side: str, out: Path) -> list[str]:
    """The command that writes the bill of ``side`` to ``out``; it validates what it writes."""
    pins = Path(__file__).with_name(f"{side}.txt")
    words = [sys.executable, "-m", "cyclonedx_py", "requirements", str(pins)]
    words += ["--pyproject", str(ROOT / side / "pyproject.toml"), "--mc-type", "application"]
    words += ["--output-reproducible", "--of", "JSON", "--validate", "-o", str(out)]
    return words


def main() -> int:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for side in SIDES:
        path = out / f"sbom-{side}.cdx.json"
        subprocess.run(command(side, path), check=True, timeout=SECONDS)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
