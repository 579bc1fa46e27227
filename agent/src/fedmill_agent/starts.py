# SPDX-License-Identifier: Apache-2.0
"""How the last starts of the agent went: after five in a row that failed, the next is a safe one.

A start has failed when the process ended, other than asked, before it had run well for some
minutes. What is known of it stands in ``starts.json`` of the state folder, which is written before
anything else there is opened.
"""

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from msgspec import Struct, structs

from fedmill_shared import __version__
from fedmill_shared.errors import StoreError
from fedmill_shared.files import write_atomic
from fedmill_shared.log import Logger
from fedmill_shared.messages import UNREADABLE

MOST_FAILURES = 5
LONGEST_REASON = 500
UNTOLD = "it ended without a word: killed, or out of memory"
ENDED_FILE, STARTS_FILE = "ended.json", "starts.json"
T = TypeVar("T", bound=Struct)

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class StartRecord(Struct, frozen=True, kw_only=True):
    """What ``starts.json`` holds.

    Attributes:
        failures: starts in a row that failed.
        running: whether one is under way that has not proved good yet.
        reason: why the last one failed.
        boot: the machine's own start that it belongs to.
        form: digest of software and configuration: with others the count begins anew.
    """

    failures: int = 0
    running: bool = False
    reason: str = ""
    boot: str = ""
    form: str = ""


class ServiceEnd(Struct, frozen=True, kw_only=True):
    """How a process of the service ended, in the service manager's words (``ended.json``).

    Attributes:
        result: as ``$SERVICE_RESULT`` of systemd.exec(5): ``watchdog``, ``oom-kill``, ``signal``.
        code: ``exited``, ``killed`` or ``dumped``.
        status: the exit code, or the name of the signal.
    """

    result: str = ""
    code: str = ""
    status: str = ""

    @property
    def text(self) -> str:
        """In words."""
        how = f"exit code {self.status}" if self.code == "exited" else f"signal {self.status}"
        return how if self.result in ("exit-code", "signal") else f"{self.result}, {how}"


class Starts:
    """Owns the record of the starts; a context that notes how this one ends.

    Attributes:
        safe: whether this start is to be a safe one.
        reason: why, for people; empty where it is not.
    """

    def __init__(self, folder: Path, config: Path, log: Logger, *, forced: bool = False) -> None:
        """Count this start; ``config`` is the configuration file, ``forced`` asks for a safe one.

        A file that cannot be written is told, and changes nothing.
        """
        self._folder = folder
        self._log = log
        self._settled = False
        before = _read(folder / STARTS_FILE, StartRecord())
        told = _read(folder / ENDED_FILE, ServiceEnd())
        now = StartRecord(boot=_boot(), form=_form(config), running=True)
        if now.form == before.form:
            now = structs.replace(now, failures=before.failures, reason=before.reason)
            # A machine that was switched off says nothing about the agent.
            if before.running and before.boot == now.boot:
                reason = before.reason or (told.text if told.result else UNTOLD)
                now = structs.replace(now, failures=before.failures + 1, reason=reason)
        self._record = now
        self.safe = forced or now.failures >= MOST_FAILURES
        self.forced = forced
        self.reason = ""
        if forced:
            self.reason = "asked for on the command line"
        elif self.safe:
            self.reason = f"{now.failures} starts in a row failed; the last one: {now.reason}"
        # The reason of the run that begins now is not known yet.
        self._keep(structs.replace(now, reason=""))
        (folder / ENDED_FILE).unlink(missing_ok=True)

    def good(self) -> None:
        """It has run well for long enough."""
        if not self._settled and not self.safe:
            self._settle(0)

    def try_again(self) -> None:
        """A safe start has lasted long enough: the next one is in full, and the last but one."""
        self._settle(MOST_FAILURES - 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Note how it ended: asked to, which clears all, or by ``error``."""
        if error is None or isinstance(error, KeyboardInterrupt):
            self._settle(0)
        elif not self._settled:
            reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
            self._keep(structs.replace(self._record, reason=reason))

    def _settle(self, failures: int) -> None:
        """Nothing that happens to this process from now on is a failed start."""
        self._settled = True
        reason = self._record.reason if failures else ""
        self._keep(structs.replace(self._record, failures=failures, running=False, reason=reason))

    def _keep(self, record: StartRecord) -> None:
        self._record = record
        path, data = self._folder / STARTS_FILE, msgspec.json.encode(record)
        try:
            write_atomic(path, data)
        except StoreError as error:
            if not _overwrite(path, data):
                self._log.warning("starts.not_kept", error=str(error))


def _read(path: Path, otherwise: T) -> T:
    """What the file holds; ``otherwise`` where there is none of use."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=type(otherwise))
    except (OSError, *UNREADABLE):
        return otherwise


def _overwrite(path: Path, data: bytes) -> bool:
    """Write ``data`` where the file is, which a full disk has room for; whether that was done.

    Else no start would be counted as long as it is full, nor a safe one ever be over. A power cut
    may leave half of it: what cannot be read counts as none.
    """
    try:
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _form(config: Path) -> str:
    """What a start consists of: nobody knows yet how another one goes."""
    try:
        text = config.read_bytes()
    except OSError:
        text = b""
    return hashlib.sha256(__version__.encode() + b"\0" + text).hexdigest()
