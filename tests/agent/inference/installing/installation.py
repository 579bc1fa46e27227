# SPDX-License-Identifier: Apache-2.0
"""An agent that installs a release and may die of it; a process of its own, without torch.

``python installation.py FOLDER ACTION DEATH``: with ``begin`` the release in FOLDER comes, with
``resume`` nothing does. DEATH is a number: 2k dies before the k-th step is on disk, 2k + 1 right
behind it, -1 never. It prints which version serves at first and at last, and the last state.
"""

import os
import sys
from pathlib import Path

import msgspec
import numpy as np
from msgspec import structs

from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.installing import states
from fedmill_agent.inference.installing.around import Around
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import ManualClock
from fedmill_shared.files import write_atomic
from fedmill_shared.job import Serving as Wanted
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.log import get_logger
from fedmill_shared.messages import ReleaseNotice, decode
from fedmill_shared.signals.windows import Window

DEAD = 9
WINDOWS = 4


class Reaper:
    """Stands in for the disk of the slots: this process ends at one of its writes."""

    def __init__(self, death: int) -> None:
        self.death = death
        self.writes = 0

    def write(self, path: Path, data: bytes) -> None:
        """Write, or die before or behind it."""
        if self.death == 2 * self.writes:
            os._exit(DEAD)
        write_atomic(path, data)
        if self.death == 2 * self.writes + 1:
            os._exit(DEAD)
        self.writes += 1


def main(folder: Path, action: str, death: int) -> None:
    """Install, or go on with it, until there is a last word."""
    job = job_from_canonical((folder / "job.json").read_bytes())
    wanted = Wanted(shadow_windows=WINDOWS, soak_windows=WINDOWS)
    job = structs.replace(job, serving=wanted)
    clock, log = ManualClock(), get_logger()
    states.write_atomic = Reaper(death).write
    scorer = Scorer(clock, log)
    deployment = Deployment(
        VersionShelf(folder / "versions"),
        scorer,
        Serving(folder, job, log),
        Around(job, clock, log),
        request=lambda _: None,
    )
    deployment.resume()
    first = scorer.version
    if action == "begin":
        release = decode((folder / "release.msgpack").read_bytes(), ReleaseNotice)
        deployment.release(release, retained=True)
    scored = []
    for number in range(4 * WINDOWS):
        values = np.random.default_rng(number).normal(0, 1, (1, job.window.length))
        window = Window("r", "u", 0, number, values.astype(np.float32), 1.0, 0)
        scored += scorer.score([window])
    report = deployment.installer.report()
    told = {
        "first": first,
        "last": scorer.version,
        "state": report.state if report is not None else "",
        "scored": len(scored),
        "shown": sorted({each.version for each in scored}),
    }
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
