# SPDX-License-Identifier: Apache-2.0
"""Checks of the machine: state folder, space, clock, certificates, port, versions."""

import os
import socket
import subprocess
from pathlib import Path

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.doctor import Finding, Findings
from fedmill_coordinator.pki.authority import list_validity
from fedmill_coordinator.pki.register import DAY_NS
from fedmill_coordinator.pki.terms import CA, OWN, REMEDIES, SOON_NS, Whose
from fedmill_shared.crypto.validity import Validity, moment, read_file, read_validity
from fedmill_shared.errors import FedmillError, IdentityError
from fedmill_shared.files import is_held
from fedmill_shared.support.machine import versions

LEAST_FREE = 1_000_000_000
CONNECT_SECONDS = 5.0
TIME_SECONDS = 5.0
LIST_SOON_NS = 20 * DAY_NS
"""The list of revocations is good for 30 days, and ten days old then."""
TIME_COMMAND = ("timedatectl", "show", "--property=NTPSynchronized", "--value")


def folder(config: CoordinatorConfig) -> Findings:
    """Whose the state folder is, who may read it, and how much space it has."""
    state = Path(config.coordinator.state)
    if not state.is_dir():
        yield Finding("state folder", "failed", f"{state} is not there", "run `fedmill serve` once")
        return
    stat = state.stat()
    if stat.st_mode & 0o077:
        mode = oct(stat.st_mode & 0o777)
        yield Finding("state folder", "warning", f"{state} has mode {mode}", f"chmod 700 {state}")
    elif not os.access(state, os.W_OK):
        remedy = "run this as the coordinator's user, or chown the folder to it"
        yield Finding("state folder", "failed", f"{state}: we may not write it", remedy)
    else:
        yield Finding("state folder", "ok", f"{state}, owner {stat.st_uid}")
    disk = os.statvfs(state)
    free = disk.f_bavail * disk.f_frsize
    told = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE:
        remedy = "free some space: rounds cannot close on a full disk"
        yield Finding("disk", "failed" if free < LEAST_FREE // 10 else "warning", told, remedy)
    else:
        yield Finding("disk", "ok", told)


def running(config: CoordinatorConfig) -> Findings:
    """Whether the daemon holds its state folder."""
    if is_held(Path(config.coordinator.state)):
        yield Finding("daemon", "ok", "the coordinator runs")
    else:
        remedy = "systemctl start fedmill-coordinator, or `fedmill serve`"
        yield Finding("daemon", "warning", "no coordinator runs with this state folder", remedy)


def certificates(config: CoordinatorConfig, now_ns: int) -> Findings:
    """Terms of our own certificate, of those of the authorities, and of what is revoked."""
    files: dict[str, tuple[str, Whose]] = {}
    if config.broker.tls is not None:
        files["certificate"] = (config.broker.tls.certificate, OWN)
        files["broker's authority"] = (config.broker.tls.ca, CA)
    if config.pki is not None:
        files["authority"] = (config.pki.ca_certificate, CA)
        yield _revocations(Path(config.pki.crl), now_ns)
    for name, (path, whose) in files.items():
        yield _term(name, Path(path), now_ns, whose)
    if not files:
        yield Finding("certificates", "warning", "the link is in the clear", "see docs/security.md")


def _revocations(path: Path, now_ns: int) -> Finding:
    """How long the list for the broker is good, which the coordinator writes anew each day."""
    remedy = (
        "run the coordinator, which writes it, or `fedmill ca crl`; then let the broker read it"
    )
    if not path.is_file():
        told = f"{path} is not there; the broker may refuse to start"
        return Finding("revocations", "failed", told, remedy)
    try:
        term = list_validity(path.read_bytes())
    except IdentityError as error:
        return Finding("revocations", "failed", f"{path}: {error.message}", remedy)
    return judged("revocations", term, now_ns, soon_ns=LIST_SOON_NS, remedy=remedy)


def _term(name: str, path: Path, now_ns: int, whose: Whose) -> Finding:
    try:
        term = read_validity(read_file(path, "certificate"))
    except FedmillError as error:
        return Finding(name, "failed", error.message, error.remedy or REMEDIES[whose])
    return judged(name, term, now_ns, soon_ns=SOON_NS[whose], remedy=REMEDIES[whose])


def judged(name: str, term: Validity, now_ns: int, *, soon_ns: int, remedy: str) -> Finding:
    """Whether something is good at ``now_ns``, and for longer than ``soon_ns``."""
    told = f"good until {moment(term.not_after_ns)}"
    if now_ns < term.not_before_ns:
        early = f"good from {moment(term.not_before_ns)} on only"
        return Finding(name, "failed", early, "put the clock of this machine right")
    if now_ns > term.not_after_ns:
        return Finding(name, "failed", f"over since {moment(term.not_after_ns)}", remedy)
    if now_ns > term.not_after_ns - soon_ns:
        return Finding(name, "warning", told, remedy)
    return Finding(name, "ok", told)


def clock() -> Findings:
    """Whether the service manager says that the time is synchronised."""
    try:
        done = subprocess.run(
            [*TIME_COMMAND],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TIME_SECONDS,
        )
        told = done.stdout.decode("ascii", "replace").strip()
    except (OSError, subprocess.TimeoutExpired):
        told = ""
    if told == "yes":
        yield Finding("clock", "ok", "synchronised")
    elif told == "no":
        remedy = "set up NTP: certificates and signed metadata are judged by this clock"
        yield Finding("clock", "warning", "not synchronised", remedy)
    else:
        yield Finding("clock", "warning", "nothing tells whether it is right", "see `timedatectl`")


def metrics(config: CoordinatorConfig) -> Findings:
    """Whether the port for Prometheus answers, or is free while nobody runs."""
    if config.metrics is None:
        return
    address = f"{config.metrics.host}:{config.metrics.port}"
    up = is_held(Path(config.coordinator.state))
    place = config.metrics.host, config.metrics.port
    try:
        socket.create_connection(place, timeout=CONNECT_SECONDS).close()
        taken = True
    except OSError:
        taken = False
    if up == taken or not config.metrics.port:
        yield Finding("metrics", "ok", f"{address} {'answers' if taken else 'is free'}")
    elif taken:
        remedy = "choose another port below [metrics]"
        yield Finding("metrics", "failed", f"{address} is another program's", remedy)
    else:
        yield Finding("metrics", "failed", f"{address} does not answer", "look at the log")


def software() -> Findings:
    """Versions of Python and of the libraries that are there."""
    told = [f"{name} {version}" for name, version in versions().items() if version != "absent"]
    yield Finding("software", "ok", ", ".join(told))
