# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench NAME [--json] [options]``, run from the root of the repository."""

import argparse
import sys
from types import ModuleType

from tests.bench import (
    aggregate,
    asynchronous,
    byzantine,
    chaos,
    codec,
    demo,
    drift,
    feedback,
    fuzz,
    harness,
    heterogeneity,
    inference,
    ingest,
    int8,
    memory,
    recovery,
    skab,
    store,
    swap,
    tep,
    transfer,
    uplink,
)
from tests.bench import round as rounds

from fedmill_shared.errors import FedmillError

BENCHES: dict[str, ModuleType] = {
    "round": rounds,
    "memory": memory,
    "demo": demo,
    "drift": drift,
    "inference": inference,
    "fuzz": fuzz,
    "transfer": transfer,
    "chaos": chaos,
    "recovery": recovery,
    "async": asynchronous,
    "codec": codec,
    "aggregate": aggregate,
    "uplink": uplink,
    "byzantine": byzantine,
    "heterogeneity": heterogeneity,
    "ingest": ingest,
    "store": store,
    "swap": swap,
    "int8": int8,
    "skab": skab,
    "tep": tep,
    "feedback": feedback,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one bench; 0 only if every target holds, otherwise 1 or the exit code of the error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        for name, bench in BENCHES.items():
            print(f"{name:<13} {bench.SUMMARY}")
        return 0
    if options.bench is None:
        parser.error("give the NAME of a bench, or --list")
    harness.end_on_signals()
    surroundings = harness.environment()
    figures: list[harness.Figure] = []
    code = 1
    try:
        figures = BENCHES[options.bench].run(options)
    except FedmillError as error:
        print(f"{options.bench}: {error}", file=sys.stderr)
        code = error.exit_code
    result = harness.outcome(options.bench, figures, surroundings)
    if not options.json:
        print(*harness.lines(result), sep="\n")
    print(harness.encode(result), flush=True)
    return 0 if result.ok else code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name all benches and end")
    names = parser.add_subparsers(dest="bench", metavar="NAME")
    for name, bench in BENCHES.items():
        own = names.add_parser(name, help=bench.SUMMARY, description=bench.__doc__)
        own.add_argument("--json", action="store_true", help="print only the JSON line")
        bench.add_arguments(own)
    return parser


if __name__ == "__main__":
    sys.exit(main())
