# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent identity``: request, install and show what the agent signs in with.

This is the way for machines that are set up by others: the key is made here, the request carried
to who issues, and the certificate carried back.
"""

import argparse
import time
from pathlib import Path

import msgspec

from fedmill_agent.audited import audit_log
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.identity import operations
from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_agent.identity.owner import as_owner
from fedmill_agent.identity.place import check_ours, identity_folder, place_of
from fedmill_agent.identity.term import IdentityTold, standing
from fedmill_shared.audit.person import who
from fedmill_shared.clock import SystemClock
from fedmill_shared.crypto.validity import moment, read_file
from fedmill_shared.errors import IdentityError, StoreError
from fedmill_shared.files import write_atomic
from fedmill_shared.printable import printable

DEFAULT_CONFIG = Path("/etc/fedmill/agent.toml")
USABLE = ("valid", "ending")


def optional_config(parser: argparse.ArgumentParser) -> None:
    """Add the configuration file, which is where services have it unless it is given."""
    parser.add_argument(
        "config",
        type=Path,
        nargs="?",
        default=DEFAULT_CONFIG,
        help=f"configuration file of the agent (default: {DEFAULT_CONFIG})",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the three commands."""
    places = parser.add_subparsers(dest="act", required=True, metavar="ACT")
    request = places.add_parser("request", help="write a certificate request")
    optional_config(request)
    request.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to")
    request.add_argument(
        "--new-key",
        action="store_true",
        help="ask for the certificate of another key although that in use still holds",
    )
    install = places.add_parser("install", help="use a certificate that was issued for a request")
    optional_config(install)
    install.add_argument("--certificate", type=Path, required=True, metavar="FILE", help="PEM")
    install.add_argument("--ca", type=Path, required=True, metavar="FILE", help="of who issued it")
    show = places.add_parser("show", help="what the agent signs in with, and until when")
    optional_config(show)
    for each in (request, install, show):
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Do what is asked for.

    Raises:
        ConfigError: the configuration is wrong, or names files elsewhere.
        IdentityError: key, certificate, authority, agent and time do not fit.
        StoreError: a file cannot be written.
    """
    config = load(options.config)
    if options.act == "show":
        return _show(config, as_json=options.json)
    check_ours(config, options.config)
    return _request(config, options) if options.act == "request" else _install(config, options)


def _request(config: AgentConfig, options: argparse.Namespace) -> int:
    with as_owner(Path(config.agent.state)) as state:
        folder, agent = IdentityFolder(identity_folder(state)), config.agent.id
        audit = audit_log(config.agent, SystemClock(), state)
        asked = operations.request_again(
            folder,
            agent,
            time.time_ns(),
            new_key=options.new_key,
            note=lambda key: audit.record(who=who(), what="key.made", subject=agent, after=key),
        )
    try:
        same = options.out.read_bytes() == asked.pem
    except FileNotFoundError:
        same = False
    except OSError as error:
        raise StoreError(f"{options.out}: {error.strerror}", remedy="give another FILE") from error
    if not same:
        write_atomic(options.out, asked.pem)
    body = {"agent": config.agent.id, "changed": not same, "key": asked.key}
    told = f"request for agent {config.agent.id}, key {asked.key}: {options.out}"
    _print(f"{_changed(changed=not same)}: {told}", body, as_json=options.json)
    return 0


def _install(config: AgentConfig, options: argparse.Namespace) -> int:
    certificate = read_file(options.certificate, "certificate")
    ca = read_file(options.ca, "certificate of the authority")
    with as_owner(Path(config.agent.state)) as state:
        folder = IdentityFolder(identity_folder(state))
        before = folder.serial()
        facts, changed = operations.install(
            folder, config.agent.id, certificate, ca, time.time_ns()
        )
        if changed:
            audit_log(config.agent, SystemClock(), state).record(
                who=who(),
                what="certificate.installed",
                subject=config.agent.id,
                before=before,
                after=facts.serial,
            )
    told = f"certificate {facts.serial} of {facts.agent} until {moment(facts.not_after_ns)}"
    body = {"changed": changed} | msgspec.to_builtins(facts)
    _print(f"{_changed(changed=changed)}: {told}", body, as_json=options.json)
    return 0


def _show(config: AgentConfig, *, as_json: bool) -> int:
    state = Path(config.agent.state)
    place = place_of(config)
    ours = place is None or place.ours
    facts, waiting, fault = None, "", None
    try:
        if place is not None and not place.ours:
            facts = operations.look_at(place.certificate, place.key, place.ca)
        elif identity_folder(state).exists():
            with as_owner(state) as here:
                folder = IdentityFolder(identity_folder(here))
                facts = operations.look(folder, config.agent.id)
                waiting = operations.waiting_key(folder)
    except IdentityError as error:
        fault = error
    told = standing(facts, time.time_ns(), ours=ours)
    if fault is not None:
        told = IdentityTold(state="unknown", problem=fault.message, remedy=fault.remedy)
    if as_json:
        body = {"agent": config.agent.id, "waiting_key": waiting} | msgspec.to_builtins(told)
        known = msgspec.to_builtins(facts) if facts is not None and fault is None else {}
        print(msgspec.json.encode(known | body).decode())
    else:
        _show_lines(config.agent.id, facts, told, waiting)
    return 0 if told.state in USABLE else IdentityError.exit_code


def _show_lines(agent: str, facts: Facts | None, told: IdentityTold, waiting: str) -> None:
    lines = {"agent": agent, "state": told.state}
    if facts is not None:
        lines["certificate"] = facts.serial
        lines["valid"] = f"{moment(facts.not_before_ns)} to {moment(facts.not_after_ns)}"
        lines["sha256"] = facts.fingerprint
        lines["key"] = facts.key
        lines["authority"] = facts.authority
    if told.renewal_ns:
        lines["renewal"] = moment(told.renewal_ns)
    if waiting:
        lines["waiting"] = f"key {waiting} has no certificate yet"
    if told.problem:
        lines["problem"] = f"{told.problem} ({told.remedy})" if told.remedy else told.problem
    for label, text in lines.items():
        print(f"{label:<12}{printable(text)}")


def _changed(*, changed: bool) -> str:
    return "changed" if changed else "unchanged"


def _print(line: str, body: dict[str, object], *, as_json: bool) -> None:
    print(msgspec.json.encode(body).decode() if as_json else printable(line))
