# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent enrol``: get this machine its first certificate, or the next after a gap."""

import argparse
import getpass
import sys
from pathlib import Path

from fedmill_agent.audited import audit_log
from fedmill_agent.cli.identity import optional_config
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.identity.enrolling import Box, enrol
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_agent.identity.listener import Listener
from fedmill_agent.identity.owner import as_owner
from fedmill_agent.identity.place import check_ours, identity_folder
from fedmill_shared.audit.person import who
from fedmill_shared.clock import SystemClock
from fedmill_shared.crypto.codes import LONGEST_TYPED, EnrolmentCode, parse_code
from fedmill_shared.crypto.validity import moment
from fedmill_shared.errors import UsageError
from fedmill_shared.printable import printable

PATIENCE_SECONDS = 600.0
NO_TLS = (
    "this agent does not use its certificate yet: add [broker.tls] and the broker's TLS port, "
    "usually 8883, to {path}, and restart it"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    optional_config(parser)
    code = parser.add_mutually_exclusive_group()
    code.add_argument(
        "--code",
        metavar="CODE",
        help="the enrolment code; others on this machine may see it, and it stays in the shell's "
        "history: better type it when asked",
    )
    code.add_argument("--code-file", type=Path, metavar="FILE", help="read the code from a file")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=PATIENCE_SECONDS,
        metavar="SECONDS",
        help="how long to wait for the coordinator, and for somebody to accept (default: 600)",
    )


def run(options: argparse.Namespace) -> int:
    """Enrol; running it again goes on with the same key.

    Raises:
        ConfigError: the configuration is wrong, or names other files.
        BrokerError: the enrolment listener cannot be reached, or nobody answers there.
        IdentityError: code, authority, clock or coordinator do not allow it.
        StoreError: the identity cannot be written.
    """
    config = load(options.config)
    check_ours(config, options.config)
    code = _code(options)
    listener = _listener(config)
    _say(f"agent {config.agent.id} enrols at {listener.address}")
    clock = SystemClock()
    with as_owner(Path(config.agent.state)) as state:
        folder = IdentityFolder(identity_folder(state))
        before = folder.serial()
        box = Box(config.agent.id, code, folder, clock, _say)
        facts = enrol(box, listener, options.timeout)
        audit_log(config.agent, clock, state).record(
            who=who(),
            what="certificate.enrolled",
            subject=config.agent.id,
            before=before,
            after=facts.serial,
        )
    _say(f"enrolled: certificate {facts.serial} until {moment(facts.not_after_ns)}")
    if config.broker.tls is None:
        _say(NO_TLS.format(path=options.config))
    return 0


def _listener(config: AgentConfig) -> Listener:
    broker = config.broker
    name = broker.tls.server_name if broker.tls is not None else ""
    return Listener(broker.host, broker.enrol_port, name or broker.host)


def _code(options: argparse.Namespace) -> EnrolmentCode:
    if options.code is not None:
        return parse_code(options.code)
    if options.code_file is not None:
        return parse_code(_read(options.code_file))
    if sys.stdin.isatty():
        return parse_code(getpass.getpass("enrolment code: "))
    return parse_code(sys.stdin.readline(LONGEST_TYPED + 1))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_TYPED + 1).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror or error}",
            remedy="give a file that has the enrolment code, and nothing else",
        ) from error


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _say(text: str) -> None:
    print(printable(text), flush=True)
