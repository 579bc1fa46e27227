# SPDX-License-Identifier: Apache-2.0
"""What OpenSSL's errors mean to who keeps a plant running. Imported only where TLS is."""

import ssl

from fedmill_shared.crypto.validity import CLOCK_REMEDY, Validity, moment
from fedmill_shared.errors import BrokerError, FedmillError, IdentityError

NOT_YET_VALID, EXPIRED = 9, 10
"""``X509_V_ERR_CERT_NOT_YET_VALID`` and ``X509_V_ERR_CERT_HAS_EXPIRED`` of OpenSSL."""
_WRONG_HOST = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_ENROL = "enrol this machine again"
_KEEPER = "the broker's own log says more"
_PORT = "give the port of the broker's TLS listener, usually 8883, below [broker]"
_CLOCKS = "set the clocks of both machines; if the broker has a crlfile, let it have a fresh one"
_VERSION = "set tls_version tlsv1.3 in its listener"
_FULL = "; else it may have reached its max_connections"
_REFUSALS = {
    "CERTIFICATE_REQUIRED": ("the broker wants a certificate and was given none", _ENROL),
    "CERTIFICATE_REVOKED": ("our certificate is revoked", _ENROL + ", if it should take part"),
    "UNKNOWN_CA": (
        "the broker does not know the authority of our certificate",
        "the broker's cafile must be the CA that issued it, and its crlfile of the same CA",
    ),
    "UNSUPPORTED_CERTIFICATE": ("our certificate is not for clients", _ENROL),
    "PROTOCOL_VERSION": ("the broker refuses TLS 1.3", _VERSION),
    "UNSUPPORTED_PROTOCOL": ("the broker has no TLS 1.3", _VERSION),
    "WRONG_VERSION_NUMBER": ("what listens there does not speak TLS", _PORT),
    "RECORD_LAYER_FAILURE": ("what listens there does not speak TLS", _PORT),
}
"""By what is in the name of the error."""


def refused(error: OSError, ours: Validity, now_ns: int) -> FedmillError:
    """What the broker means by ending TLS with ``error``, where our certificate is ``ours``."""
    if isinstance(error, TimeoutError):
        return BrokerError("the broker does not answer in TLS", remedy=_PORT)
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        told = "what listens there does not speak TLS, or ends it without a word"
        return BrokerError(told, remedy=_PORT + _FULL)
    reason = error.reason or str(error)
    if "CERTIFICATE_EXPIRED" in reason or "BAD_CERTIFICATE" in reason:
        return _untimely(ours, now_ns, "expired" if "EXPIRED" in reason else "wrong")
    for word, (told, remedy) in _REFUSALS.items():
        if word in reason:
            return IdentityError(f"{told} ({reason})", remedy=remedy)
    return IdentityError(f"the broker ends TLS: {reason}", remedy=_KEEPER)


def mistrusted(
    error: ssl.SSLCertVerificationError,
    name: str,
    ca: str,
    theirs: Validity | None,
    now_ns: int,
) -> IdentityError:
    """Why the broker's certificate is none for us.

    Args:
        error: of OpenSSL.
        name: what the broker should be called.
        ca: the file with whose certificates it is verified.
        theirs: from when to when its certificate is valid, where that is known.
        now_ns: this machine's clock.
    """
    if error.verify_code == NOT_YET_VALID:
        begin = f"from {moment(theirs.not_before_ns)}" if theirs else "later"
        told = f"this machine's clock says {moment(now_ns)}, the broker's certificate is valid "
        return IdentityError(told + begin, remedy=CLOCK_REMEDY)
    if error.verify_code == EXPIRED:
        end = f" until {moment(theirs.not_after_ns)}" if theirs else ""
        told = f"the broker's certificate was valid{end}, this machine's clock says "
        remedy = "renew the broker's certificate; if the clock is wrong, set it"
        return IdentityError(told + moment(now_ns), remedy=remedy)
    if error.verify_code in _WRONG_HOST:
        return IdentityError(
            f"the broker's certificate is not for {name}: {error.verify_message}",
            remedy="give a name that it has as host or server_name, or issue it for this one",
        )
    return IdentityError(
        f"the broker's certificate is not from our CA: {error.verify_message}",
        remedy=f"{ca} must be the CA that issued it; else somebody else answers there",
    )


def _untimely(ours: Validity, now_ns: int, verdict: str) -> IdentityError:
    """The broker finds our certificate too old, or "wrong": not yet valid, most often.

    It says the same where its own list of revoked certificates has run out.
    """
    if now_ns > ours.not_after_ns:
        return IdentityError(
            f"our certificate was valid until {moment(ours.not_after_ns)}", remedy=_ENROL
        )
    return IdentityError(
        f"the broker finds our certificate {verdict}; it is valid from "
        f"{moment(ours.not_before_ns)} to {moment(ours.not_after_ns)}, and this machine's clock "
        f"says {moment(now_ns)}",
        remedy=_CLOCKS,
    )
