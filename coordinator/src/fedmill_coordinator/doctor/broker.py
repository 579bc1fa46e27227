# SPDX-License-Identifier: Apache-2.0
"""Checks of the broker, as far as the running coordinator does not notice.

Nobody signs in: the broker takes the certificate's name for the client id, so that whoever did
would throw the coordinator out. What the broker thinks of our certificate it says before that.
"""

import socket
import ssl

from fedmill_coordinator.config import BrokerSection, CoordinatorConfig
from fedmill_coordinator.doctor import Finding, Findings
from fedmill_coordinator.doctor.machine import CONNECT_SECONDS, judged
from fedmill_coordinator.pki.terms import BROKER, REMEDIES, SOON_NS
from fedmill_shared.clock import Clock
from fedmill_shared.crypto.validity import der_validity
from fedmill_shared.errors import FedmillError
from fedmill_shared.link.options import TlsSection
from fedmill_shared.link.tls import Tls

REMEDY = "start the broker, correct [broker], or open the firewall"


def broker(config: CoordinatorConfig, clock: Clock) -> Findings:
    """Whether the broker is there, and with ``[broker.tls]`` whether each takes the other's word.

    Its certificate is that which it has in use, whatever was issued.
    """
    section = config.broker
    address = f"{section.host}:{section.port}"
    try:
        if section.tls is None:
            _connected(section).close()
            yield Finding("broker", "ok", f"{address} answers")
            return
        theirs = _shaken(section, section.tls, clock)
    except FedmillError as error:
        yield Finding("broker", "failed", f"{address}: {error.message}", error.remedy or REMEDY)
        return
    except OSError as error:
        yield Finding("broker", "failed", f"{address}: {error.strerror or error}", REMEDY)
        return
    yield Finding("broker", "ok", f"{address} takes our certificate, and is of our authority")
    term, soon_ns = der_validity(theirs), SOON_NS[BROKER]
    name = "certificate that the broker has"
    yield judged(name, term, clock.now_ns(), soon_ns=soon_ns, remedy=REMEDIES[BROKER])


def _connected(section: BrokerSection) -> socket.socket:
    return socket.create_connection((section.host, section.port), timeout=CONNECT_SECONDS)


def _shaken(section: BrokerSection, tls: TlsSection, clock: Clock) -> bytes:
    """The broker's certificate (DER), once both have found the other's good.

    Raises:
        FedmillError: one has not; or a file of ours is not as it should be.
        OSError: nobody is there.
    """
    link = Tls(tls, section.host, section.port, clock)
    with link.open(lambda: _connected(section)) as made:
        theirs = made.getpeercert(binary_form=True) if isinstance(made, ssl.SSLSocket) else None
    return theirs or b""
