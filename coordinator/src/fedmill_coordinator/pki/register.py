# SPDX-License-Identifier: Apache-2.0
"""What the authority has issued and taken back, and the list of revocations for the broker."""

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from fedmill_coordinator.pki.authority import Authority
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_pki import CertificateRecord, Role
from fedmill_shared.clock import Clock
from fedmill_shared.crypto.certificates import read_certificate
from fedmill_shared.crypto.issuer import check_issued
from fedmill_shared.errors import IdentityError, StoreError
from fedmill_shared.files import make_folder, sha256, write_atomic
from fedmill_shared.topics import RESERVED

DAY_NS = 86_400_000_000_000
LIST_REMADE_NS = DAY_NS
"""After this time the list of revocations is made anew, though nothing has changed."""
BROKER = "broker"
_OURS = (*RESERVED, BROKER, "coordinator")
_Mark = tuple[int, int, int]
"""What a file has that another one in its place has not: number, size, time of its last change."""


class Register:
    """Issues in the name of the authority, and keeps the list of revocations."""

    def __init__(
        self,
        authority: Authority,
        store: Store,
        clock: Clock,
        *,
        days: int,
        crl: Path,
        coordinator: str = "coordinator",
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Certificates are good for ``days``; no agent is ever called as the ``coordinator``."""
        self.authority = authority
        self._store = store
        self._clock = clock
        self._days = days
        self._crl = crl
        self._coordinator = coordinator
        self._random = random
        self._read: tuple[_Mark, tuple[frozenset[str], int]] | None = None

    def check_name(self, agent: str) -> None:
        """Return if an agent may be called so.

        Raises:
            IdentityError: the name is one of ours.
        """
        check_name(agent, self._coordinator)

    def agent(self, agent: str, public: bytes, csr: bytes) -> CertificateRecord:
        """A new certificate of ``agent`` for the key ``public``; its record is not stored yet.

        Raises:
            IdentityError: no agent may have this name, or the authority is not valid now.
        """
        self.check_name(agent)
        return self._client(agent, "agent", public, csr, self._days)

    def coordinator(self, name: str, public: bytes, *, days: int) -> CertificateRecord:
        """A new certificate, good for ``days``, of the coordinator, which connects as ``name``.

        Raises:
            IdentityError: the authority is not valid now.
        """
        return self._client(name, "coordinator", public, b"", days)

    def broker(self, hosts: Sequence[str], public: bytes, *, days: int) -> CertificateRecord:
        """A new certificate, good for ``days``, of a broker with these names and addresses.

        Raises:
            IdentityError: one of them is no name, or the authority is not valid now.
        """
        now = self._clock.now_ns()
        pem = self.authority.issue_server(hosts, public, now_ns=now, days=days, random=self._random)
        return record_of(pem, "broker", b"", now)

    def holds(self, record: CertificateRecord) -> bool:
        """Whether a certificate has not run out, and this authority issued it, none before."""
        try:
            check_issued(record.certificate, self.authority.pem)
        except IdentityError:
            return False
        return record.not_after_ns > self._clock.now_ns()

    def now_ns(self) -> int:
        """What time it is, ns."""
        return self._clock.now_ns()

    def keep_list(self, *, anew: bool = False) -> int | None:
        """Write the list of revocations if it lacks one, is old, or is to be made ``anew``.

        How many are on it where it was written, None where it was not.

        Raises:
            StoreError: it cannot be written, or the store fails.
        """
        now, revoked = self._clock.now_ns(), self._revoked()
        serials = frozenset(each.serial for each in revoked)
        if not anew and self._is_fresh(serials, now):
            return None
        make_folder(self._crl.parent)
        # The broker runs as another user, and what is revoked is no secret.
        write_atomic(self._crl, self.authority.revocations(revoked, now))
        self._crl.chmod(0o644)
        return len(revoked)

    def _is_fresh(self, serials: frozenset[str], now_ns: int) -> bool:
        try:
            written, made_ns = self._listed()
        except FileNotFoundError:
            return False
        except IdentityError:  # damaged, or of an authority before: written anew
            return False
        except OSError as error:
            raise StoreError(
                f"{self._crl}: cannot be read: {error.strerror or error}",
                remedy="give the coordinator's user the right to read and write it",
            ) from error
        return written == serials and 0 <= now_ns - made_ns < LIST_REMADE_NS

    def _listed(self) -> tuple[frozenset[str], int]:
        """What is on the list, and when it was made, ns; read only where the file is another one.

        The daemon asks every second, and a signature takes its time.
        """
        status = self._crl.stat()
        mark = status.st_ino, status.st_size, status.st_ctime_ns
        if self._read is None or self._read[0] != mark:
            self._read = mark, self.authority.read_revocations(self._crl.read_bytes())
        return self._read[1]

    def _revoked(self) -> list[CertificateRecord]:
        """What is revoked and would be good otherwise, or was until a day ago."""
        now = self._clock.now_ns()
        return [each for each in self._store.revoked() if each.not_after_ns > now - DAY_NS]

    def _client(
        self, name: str, role: Role, public: bytes, csr: bytes, days: int
    ) -> CertificateRecord:
        now = self._clock.now_ns()
        pem = self.authority.issue_client(name, public, now_ns=now, days=days, random=self._random)
        return record_of(pem, role, csr, now)


def check_name(agent: str, coordinator: str) -> None:
    """Return if an agent may be called so beside a coordinator of that id.

    Raises:
        IdentityError: the name is one of ours.
    """
    if agent in (*_OURS, coordinator):
        raise IdentityError(
            f"no agent may be called {agent!r}", remedy="choose another id in agent.toml"
        )


def record_of(pem: bytes, role: Role, csr: bytes, issued_ns: int) -> CertificateRecord:
    """What is kept of the certificate ``pem``, which answers the request ``csr``."""
    facts = read_certificate(pem)
    return CertificateRecord(
        serial=facts.serial,
        agent=facts.agent,
        role=role,
        public_key=facts.public,
        fingerprint=facts.fingerprint,
        request=sha256(csr),
        certificate=pem,
        not_before_ns=facts.not_before_ns,
        not_after_ns=facts.not_after_ns,
        issued_ns=issued_ns,
    )
