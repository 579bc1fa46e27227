# SPDX-License-Identifier: Apache-2.0
"""Fields of whatever listens on the plant's own MQTT broker."""

from typing import Annotated, Literal

from msgspec import Meta

Host = Annotated[str, Meta(description="Name or address of the plant's broker.")]
Port = Annotated[int, Meta(ge=1, le=65_535, description="Its TCP port.")]
Version = Annotated[Literal["5", "3.1.1"], Meta(description="Of MQTT, as the broker speaks it.")]
User = Annotated[str, Meta(description="User to sign in as; empty for nobody.")]
PlainPassword = Annotated[
    bool, Meta(description="Send the password without TLS to another machine.")
]
Tls = Annotated[
    bool, Meta(description="Encrypted, with the system's authorities if no `ca_file` is given.")
]
CaFile = Annotated[
    str, Meta(description="The authority behind the broker's certificate, PEM; with it TLS is on.")
]
CertificateFile = Annotated[
    str, Meta(description="Our own certificate, PEM, where the broker wants one.")
]
KeyFile = Annotated[str, Meta(description="Its key, PEM, not encrypted.")]
