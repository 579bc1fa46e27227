# SPDX-License-Identifier: Apache-2.0
"""When the certificates of the plant itself end: the coordinator's, the broker's, the authority's.

Agents renew theirs; these are renewed by people, and without them nobody connects. Of the broker's
counts what was issued here: whether the broker has it is for who deploys it.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedmill_coordinator.config import CoordinatorConfig
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_shared.clock import Clock
from fedmill_shared.crypto.validity import moment, read_file, read_validity
from fedmill_shared.errors import IdentityError, StoreError
from fedmill_shared.log import Logger

TOLD_SECONDS = 86_400.0
Whose = Literal["own", "ca", "broker"]
OWN: Whose = "own"
CA: Whose = "ca"
BROKER: Whose = "broker"
_DAY_NS = 86_400 * 10**9
SOON_NS: dict[Whose, int] = {OWN: 28 * _DAY_NS, CA: 365 * _DAY_NS, BROKER: 28 * _DAY_NS}
"""How long before its end it is told: for another authority all must enrol again, and `fedmill ca`
issues both others anew from a month before."""
REMEDIES: dict[Whose, str] = {
    OWN: "issue a new one with `fedmill ca issue-coordinator`; it is used at the next connection",
    CA: "see docs/identity.md, Another authority",
    BROKER: "issue a new one with `fedmill ca issue-broker`, then `systemctl reload mosquitto`",
}
"""What to do in time, by whose certificate it is."""


@dataclass(frozen=True, slots=True)
class Term:
    """Until when, ns UTC, the certificate of ``whose`` is good."""

    whose: Whose
    end_ns: int


def terms(config: CoordinatorConfig, certificates: Sequence[CertificateRecord]) -> Iterator[Term]:
    """Those that can be known; a file that cannot be read is told by whoever needs it.

    Args:
        config: names the files.
        certificates: that were issued, of whomever.
    """
    tls, pki = config.broker.tls, config.pki
    files: dict[Whose, str] = {OWN: tls.certificate, CA: tls.ca} if tls is not None else {}
    if pki is not None:
        files[CA] = pki.ca_certificate
    for whose, path in files.items():
        with suppress(IdentityError):
            end = read_validity(read_file(Path(path), "certificate")).not_after_ns
            yield Term(whose, end)
    issued = [each for each in certificates if each.role == "broker" and not each.revoked_ns]
    if issued:
        newest = max(issued, key=lambda each: each.issued_ns)
        yield Term(BROKER, newest.not_after_ns)


class Terms:
    """Owns when it was last told that one of them ends soon."""

    def __init__(self, config: CoordinatorConfig, store: Store, clock: Clock, log: Logger) -> None:
        """Nothing is read before the first ``tick``."""
        self._config = config
        self._store = store
        self._clock = clock
        self._log = log
        self._due = -math.inf

    def tick(self) -> None:
        """Once a day, tell of each that is over or ends soon."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + TOLD_SECONDS
        try:
            certificates = self._store.certificates()
        except StoreError as error:
            self._log.error("store.failed", error=str(error))
            return
        for term in terms(self._config, certificates):
            self._tell(term)

    def _tell(self, term: Term) -> None:
        now_ns = self._clock.now_ns()
        words = {
            "whose": term.whose,
            "until": moment(term.end_ns),
            "remedy": REMEDIES[term.whose],
        }
        if now_ns > term.end_ns:
            self._log.error("certificate.expired", **words)
        elif now_ns > term.end_ns - SOON_NS[term.whose]:
            self._log.warning("certificate.expires_soon", **words)
