# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between us and a server, in words."""

import logging
import socket
import struct

from asyncua import ua
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from fedmill_agent.sources.opcua.options import OpcuaOptions
from fedmill_agent.sources.opcua.wire import WireError
from fedmill_shared.errors import FedmillError, SourceError

GARBLED = (WireError, UaError, ValueError, TypeError, LookupError, struct.error)
"""What reading an answer raises that is none, if it is no StatusCode of the server."""

_REMEDIES = {
    "BadIdentityTokenInvalid": "check `user` and `password_file`",
    "BadIdentityTokenRejected": "check `user` and `password_file`",
    "BadUserAccessDenied": "check `user` and `password_file`, and the user's rights at the server",
    "BadUserSignatureInvalid": "check `user` and `password_file`",
    "BadSecurityPolicyRejected": "choose a `security` that the server offers",
    "BadSecurityModeRejected": "choose a `security` that the server offers, or see `sign_only`",
    "BadSecurityChecksFailed": "trust the agent's certificate at the server",
    "BadCertificateUntrusted": "trust the agent's certificate at the server",
    "BadCertificateUriInvalid": "give the agent's certificate an application URI",
    "BadCertificateTimeInvalid": "renew the agent's certificate, or set the clocks",
    "BadTooManySessions": "close other clients of the server, or allow it more sessions",
    "BadTcpEndpointUrlInvalid": "correct the path in `url`",
}


def quiet() -> None:
    """Keep the library from writing what it thinks to standard error."""
    logger = logging.getLogger("asyncua")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def told(error: BaseException | None, options: OpcuaOptions) -> FedmillError:
    """``error`` as one of ours; of a group, its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FedmillError):
        return error
    what, remedy = _words(error, options)
    return SourceError(f"source {options.name!r}: {what}", remedy=remedy)


def _words(error: BaseException | None, options: OpcuaOptions) -> tuple[str, str]:
    """What happened, and the remedy."""
    if isinstance(error, UaStatusCodeError):
        name = status_name(error.code)
        remedy = _REMEDIES.get(name, "look at the server's own log")
        return f"{options.place} refuses: {name}", remedy
    if error is None or isinstance(error, OSError):
        return _network(error, options)
    if isinstance(error, UaError) and "No matching endpoints" in str(error):
        only = ", signed only" if options.sign_only else ""
        return (
            f"{options.place} does not offer the security {options.security}{only}",
            "choose a `security` that the server offers, or see `sign_only`",
        )
    text = " ".join(str(error).split())[:200]
    return (
        f"{options.place} answers nonsense: {type(error).__name__}: {text}",
        "check that an OPC UA server listens there",
    )


def _network(error: OSError | None, options: OpcuaOptions) -> tuple[str, str]:
    place = options.place
    if isinstance(error, socket.gaierror):
        return f"there is no host {place.rpartition(':')[0]}", "check `url`, or the name service"
    if isinstance(error, TimeoutError):
        limits = f"{options.timeout_seconds:g} s an answer, {options.connect_seconds:g} s in all"
        pinned = ", or correct `server_certificate_file`" if options.server_certificate_file else ""
        return (
            f"{place} does not answer in time ({limits})",
            f"check `url`, or allow more time{pinned}",
        )
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {place}", "check `url`, and that the server runs"
    why = f" ({error.strerror or error})" if error else ""
    return f"the connection to {place} is lost{why}", "look at the server and at the network"


def status_name(code: int) -> str:
    """Name of a StatusCode, such as BadNodeIdUnknown."""
    name: str = ua.status_codes.get_name_and_doc(code & 0xFFFF0000)[0]
    return name if name != "Good" or not code >> 30 else f"0x{code:08X}"
