# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent``: one file for each command, and what they share."""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from fedmill_agent.memory import import_numpy
from fedmill_shared.errors import ConfigError, FedmillError, Interrupted, StoreError
from fedmill_shared.printable import printable

if TYPE_CHECKING:
    import argparse

COMMANDS = {
    "run": "read the sources, score them, and take part in jobs until stopped",
    "reload": "have the running agent take a changed configuration",
    "check": "check a configuration: broker, sources and, with --job, whether they fit",
    "discover": "list the tags that live sources offer",
    "status": "what the agent with this configuration is doing",
    "enrol": "get this machine its certificate, with the code that the coordinator printed",
    "identity": "request, install or show the certificate by other ways than enrolment",
    "label": "say what was true of a machine, part or batch; correct it; see what became of it",
    "replay": "score a recording with an exported model and print the predictions",
    "simulate": "play recordings behind a real OPC UA, Modbus or Sparkplug server",
    "import": "check a bundle from a stick, and hand it to the agent",
    "fit": "train offline on the windows of one or more agents and score the result",
    "audit": "verify or show the log of what was done to this agent, and by whom",
    "support-bundle": "write what others need to help, without secrets and data",
    "golden": "release labelled windows of this agent to its coordinator, as a file",
}

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why a file or device that the output goes to takes no more."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on standard error."""
    # Threads of numpy's BLAS cost memory and gain a gateway nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    given = sys.argv[1:] if arguments is None else arguments
    try:
        code = _run(_options(given))
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


def module_of(command: str) -> str:
    """Module of a command: a word of Python has a stroke behind it, others none within."""
    return f"fedmill_agent.cli.{'import_' if command == 'import' else command.replace('-', '_')}"


def config_argument(parser: "argparse.ArgumentParser") -> None:
    """Add the configuration file that most commands take."""
    parser.add_argument("config", type=Path, help="configuration file of the agent (TOML)")


def _options(given: Sequence[str]) -> "argparse.Namespace | SimpleNamespace":
    """What the command line asks for.

    Raises:
        UsageError: it is wrong.
    """
    match given:
        case ["run", config] if not config.startswith("-"):
            # What lives for months need not carry a parser of command lines, which is 0.7 MiB.
            import_numpy()
            return SimpleNamespace(command="run", config=Path(config))
    from fedmill_agent.cli.parsing import parse  # noqa: PLC0415  see above

    return parse(given, COMMANDS)


def _run(options: "argparse.Namespace | SimpleNamespace") -> int:
    """Run the command; what a person can mend is told, and no traceback shown.

    Raises:
        FedmillError: the command's own, a file of another user, or a package that is missing.
    """
    try:
        code: int = import_module(module_of(options.command)).run(options)
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
