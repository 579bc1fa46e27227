# SPDX-License-Identifier: Apache-2.0
"""``fedmill demo``."""

import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Event

import click
import msgspec

from fedmill_coordinator.demo.floor import PROTOCOLS, Protocol
from fedmill_coordinator.demo.recipes import plan_for
from fedmill_coordinator.demo.report import print_table
from fedmill_coordinator.demo.run import run_demo
from fedmill_coordinator.demo.watch import LogView, View, live_view
from fedmill_shared import log
from fedmill_shared.errors import UsageError
from fedmill_shared.stopping import on_stop


@click.command(name="demo", short_help="Show a whole federation on this machine.")
@click.option("--data", type=click.Path(path_type=Path), help="Recordings; default: built-in rig.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Decides every random choice.",
)
@click.option(
    "--source",
    type=click.Choice(PROTOCOLS),
    help="Play the rig behind a real server of this protocol, and let the agents read that.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, as last line.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: runs/NAME-SEED].")
@click.option("--rounds", type=click.IntRange(1), help="Rounds instead of the job file's.")
def command(
    data: Path | None,
    seed: int,
    *,
    source: Protocol | None,
    as_json: bool,
    out: Path | None,
    rounds: int | None,
) -> None:
    """Run broker, coordinator and agents on this machine and compare with the baselines.

    The agents replay the recordings in --data as sensor streams: C-MAPSS, CWRU or Tennessee
    Eastman files, recognised by their names. Without --data they simulate a bearing test rig;
    with --source it is played in real time by simulated devices that speak a protocol of the plant.
    """
    if source is not None and data is not None:
        raise UsageError("--source plays the built-in rig", remedy="omit --data")
    name, plan = plan_for(data.resolve() if data is not None else None, seed)
    if rounds is not None:
        federation = msgspec.structs.replace(plan.job.federation, rounds=rounds)
        plan = type(plan)(msgspec.structs.replace(plan.job, federation=federation), plan.plants)
    name = f"{name}-{source}" if source is not None else name
    folder = _fresh(out or Path("runs") / f"{name}-{seed}")
    log.configure()
    stopping = Event()
    on_stop(stopping.set)
    with _view() as view:
        report = run_demo(str(data or name), plan, folder, view, stopping.is_set, protocol=source)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        print_table(report)


def _view() -> AbstractContextManager[View]:
    return live_view() if sys.stderr.isatty() else nullcontext(LogView(log.get_logger()))


def _fresh(folder: Path) -> Path:
    """An empty folder; one that an earlier demo left is replaced, any other is left alone.

    Raises:
        UsageError: the folder holds something that is not a demo's.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is no folder", remedy="give an empty folder")
    if folder.exists() and any(folder.iterdir()):
        # A demo begins with a broker of its own, which no real coordinator has in its folder.
        if not (folder / "broker" / "mosquitto.conf").exists():
            raise UsageError(f"--out {folder} holds something else", remedy="give an empty folder")
        shutil.rmtree(folder)
    return folder
