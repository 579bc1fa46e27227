# SPDX-License-Identifier: Apache-2.0
"""Fields of whatever asks a web server."""

from typing import Annotated

from msgspec import Meta

User = Annotated[str, Meta(description="User name; empty for none.")]
TokenFile = Annotated[str, Meta(description="File with a token and nothing else; empty for none.")]
TokenHeader = Annotated[
    str,
    Meta(
        max_length=100,
        description="Header field that the token goes into; `Authorization` has it after `Bearer`.",
    ),
]
PlainPassword = Annotated[
    bool, Meta(description="Send password or token without TLS to another machine.")
]
CaFile = Annotated[
    str,
    Meta(
        description="Certificates, PEM, one of which must have signed that of the server; empty "
        "for those of the machine."
    ),
]
CertificateFile = Annotated[
    str, Meta(description="The agent's own certificate, PEM; empty for none.")
]
KeyFile = Annotated[str, Meta(description="Its private key, PEM, no passphrase.")]
TimeoutSeconds = Annotated[
    float, Meta(gt=0.0, le=60.0, description="Time (s) that a whole answer may take.")
]
