# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent``: one file for each command, and what they share.

argparse, because the daemon starts through it.
"""

import argparse
import errno
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from fedmill_shared import __version__
from fedmill_shared.errors import ConfigError, FedmillError, Interrupted, StoreError, UsageError
from fedmill_shared.printable import printable

SUMMARY = "The agent on a gateway: scores sensor streams, and learns from them."
COMMANDS = {
    "run": "read the sources, score them, and take part in jobs until stopped",
    "reload": "have the running agent take a changed configuration",
    "check": "check a configuration: broker, sources and, with --job, whether they fit",
    "discover": "list the tags that live sources offer",
    "status": "what the agent with this configuration is doing",
    "label": "say what was true of a machine, part or batch; correct it; see what became of it",
    "replay": "score a recording with an exported model and print the predictions",
    "simulate": "play recordings behind a real OPC UA, Modbus or Sparkplug server",
    "fit": "train offline on the windows of one or more agents and score the result",
    "golden": "release labelled windows of this agent to its coordinator, as a file",
}

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why a file or device that the output goes to takes no more."""


class Parser(argparse.ArgumentParser):
    """Tells a wrong command line as every other error is told, in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong.

        Raises:
            UsageError: always.
        """
        raise UsageError(message, remedy=f"see `{self.prog} --help`")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on standard error."""
    # Threads of numpy's BLAS cost memory and gain a gateway nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    parser = Parser(prog="fedmill-agent", description=SUMMARY)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    given = sys.argv[1:] if arguments is None else arguments
    try:
        for name, summary in COMMANDS.items():
            command = commands.add_parser(name, help=summary, description=summary)
            if name in given[:1]:  # only the command that is asked for is imported
                import_module(f"fedmill_agent.cli.{name}").add_arguments(command)
        options = parser.parse_args(given)
        code = _run(options)
        sys.stdout.flush()
    except FedmillError as error:
        print(f"fedmill-agent: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return Interrupted.exit_code
    except BrokenPipeError:
        # the reader of our output has gone, as `head` does
        _drop_output()
        return 0
    except OSError as error:
        if error.filename is not None or error.errno not in NO_ROOM:
            raise
        print(f"fedmill-agent: the output cannot be written: {error.strerror}", file=sys.stderr)
        _drop_output()
        return FedmillError.exit_code
    return code


def config_argument(parser: argparse.ArgumentParser) -> None:
    """Add the configuration file that most commands take."""
    parser.add_argument("config", type=Path, help="configuration file of the agent (TOML)")


def _run(options: argparse.Namespace) -> int:
    """Run the command; what a person can mend is told, and no traceback shown.

    Raises:
        FedmillError: the command's own, a file of another user, or a package that is missing.
    """
    try:
        code: int = import_module(f"fedmill_agent.cli.{options.command}").run(options)
    except PermissionError as error:
        if error.filename is None:
            raise
        raise StoreError(
            f"{error.filename}: {error.strerror}", remedy="run this as the user of the agent"
        ) from error
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ConfigError(
            f"`fedmill-agent {options.command}` trains, and torch is not installed here",
            remedy="pip install fedmill-agent[train]",
        ) from error
    return code


def _drop_output() -> None:
    """Let go what is left in the buffer, which would fail once more at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
