# SPDX-License-Identifier: Apache-2.0
"""What the benches that run federations in one process (tests/laboratory) are asked."""

import argparse

from fedmill_shared.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser, rounds: int, quick: str) -> None:
    """Options; ``rounds`` of a federation by default, ``quick`` says what is done in a hurry."""
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--rounds", type=int, default=rounds, help="of every federation")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--workers", type=int, default=2, help="processes")


def check(options: argparse.Namespace, *, least_rounds: int = 1) -> None:
    """Refuse numbers with which nothing can be done.

    Raises:
        UsageError: one is too small.
    """
    least = {"seeds": 1, "rounds": least_rounds, "workers": 1}
    for name, number in least.items():
        found = getattr(options, name)
        if found < number:
            raise UsageError(f"--{name} {found} is impossible", remedy=f"give {number} or more")
