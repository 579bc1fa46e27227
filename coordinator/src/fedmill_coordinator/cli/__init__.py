# SPDX-License-Identifier: Apache-2.0
"""``fedmill``: one file for each command."""

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

from fedmill_shared import __version__
from fedmill_shared.errors import FedmillError, Interrupted, StoreError, UsageError
from fedmill_shared.printable import printable

COMMANDS = {
    "serve": "Run the coordinator.",
    "job": "Check a job file, or print its JSON Schema.",
    "jobs": "List jobs; pause, resume or abort one of them.",
    "fleet": "List agents.",
    "rounds": "List rounds of a job, or close the open one now.",
    "models": "List, compare and export versions; say which one agents are to serve.",
    "clusters": "Say whether a job should become several, and write them.",
    "ca": "Make and show the plant's certificate authority.",
    "enrol": "Let boxes become agents, or not.",
    "certificates": "List certificates.",
    "revoke": "Take away the certificates of an agent.",
    "metrics": "Print counters for Prometheus.",
    "trust": "Sign jobs, configuration and software; keep the keys.",
    "bundle": "Write what is signed to a stick, for machines without a network.",
    "audit": "Verify and show the audit log, and judge those of agents.",
    "backup": "Write the whole coordinator to one file.",
    "restore": "Put a coordinator back from its backup.",
    "doctor": "Check everything that a coordinator needs, with a remedy each.",
    "support-bundle": "Write what others need to help, without secrets and data.",
    "demo": "Show a whole federation on this machine.",
}

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why a file or device that the output goes to takes no more."""


class LazyGroup(click.Group):
    """Imports a command when it is asked for: torch and SQLAlchemy are not needed by all."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Names of the commands."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """The command called ``name``."""
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(
            f"fedmill_coordinator.cli.{name.replace('-', '_')}"
        ).command
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, context: click.Context) -> Any:
        """Turn our errors into one line and an exit code."""
        try:
            return super().invoke(context)
        except FedmillError as error:
            click.echo(f"fedmill: {printable(' '.join(str(error).split()))}", err=True)
            sys.exit(error.exit_code)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            click.echo(f"fedmill: {_in_words(error, error.ctx or context)}", err=True)
            sys.exit(UsageError.exit_code)
        except PermissionError as error:
            if error.filename is None:
                raise
            told = f"{error.filename}: {error.strerror} (run this as the user of the coordinator)"
            click.echo(f"fedmill: {told}", err=True)
            sys.exit(StoreError.exit_code)
        except KeyboardInterrupt:
            click.echo("fedmill: interrupted", err=True)
            sys.exit(Interrupted.exit_code)
        except OSError as error:
            if error.filename is not None or error.errno not in NO_ROOM:
                raise
            click.echo(f"fedmill: the output cannot be written: {error.strerror}", err=True)
            # what is left in the buffer would fail once more at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FedmillError.exit_code)


def _in_words(error: click.UsageError, context: click.Context) -> str:
    """What is wrong with the command line, and where to look; jobs are named by an option."""
    told, command = error.format_message(), context.command
    options = {name for each in command.params for name in each.opts}
    if told.startswith("Got unexpected extra argument (") and "--job" in options:
        return f"{told} (a job is named by --job, see `{context.command_path} --help`)"
    return f"{told} (see `{context.command_path} --help`)"


@click.command("fedmill", cls=LazyGroup)
@click.version_option(__version__, prog_name="fedmill")
def main() -> None:
    """Federated machine learning for factories."""
