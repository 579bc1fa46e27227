# SPDX-License-Identifier: Apache-2.0
"""A command line as people write it; the daemon's usual one is read without this."""

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NoReturn

from fedmill_agent.cli import module_of
from fedmill_shared import __version__
from fedmill_shared.errors import UsageError

SUMMARY = "The agent on a gateway: scores sensor streams, and learns from them."


class Parser(argparse.ArgumentParser):
    """Tells a wrong command line as every other error is told, in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong.

        Raises:
            UsageError: always.
        """
        raise UsageError(message, remedy=f"see `{self.prog} --help`")


def parse(given: Sequence[str], commands: Mapping[str, str]) -> argparse.Namespace:
    """What is asked for by ``given``, of ``commands`` by name with a line about each.

    Raises:
        UsageError: there is no such command, or it has no such options.
    """
    parser = Parser(prog="fedmill-agent", description=SUMMARY)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    places = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in commands.items():
        command = places.add_parser(name, help=summary, description=summary)
        if name in given[:1]:  # only the command that is asked for is imported
            import_module(module_of(name)).add_arguments(command)
    return parser.parse_args(given)
