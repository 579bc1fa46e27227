# SPDX-License-Identifier: Apache-2.0
"""What a configuration says of an OPC UA server."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from fedmill_agent.fields.signing_in import PasswordFile, go_together
from fedmill_agent.sources.live import LiveOptions, check_silence

Security = Literal["None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]


class OpcuaOptions(LiveOptions, frozen=True, kw_only=True, tag="opcua"):
    """One server; the tags are node ids such as `ns=2;s=Line1.Temperature`, or browse paths."""

    url: Annotated[
        str, Meta(description="Where the server listens, as in `opc.tcp://press-7:4840`.")
    ] = "opc.tcp://127.0.0.1:4840"
    mode: Annotated[
        Literal["subscribe", "poll"],
        Meta(
            description="Whether the server tells what has changed, or is asked for all values; "
            "`poll` is for servers that do not support subscriptions to so many nodes."
        ),
    ] = "subscribe"
    interval_seconds: Annotated[
        float,
        Meta(
            gt=0.0,
            le=86_400.0,
            description="Time (s) between two looks of the server at a value, or between two "
            "questions.",
        ),
    ] = 1.0
    queue_size: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Values of one node that the server keeps between two messages.",
        ),
    ] = 10
    deadband: Annotated[
        float,
        Meta(ge=0.0, description="Changes smaller than this are not told; 0 for every change."),
    ] = 0.0
    deadband_kind: Annotated[
        Literal["absolute", "percent"],
        Meta(
            description="Whether `deadband` is in the unit of the value or in percent of its range."
        ),
    ] = "absolute"
    security: Annotated[
        Security,
        Meta(description="Security policy; all but `None` need a certificate and a key."),
    ] = "None"
    sign_only: Annotated[
        bool, Meta(description="Messages are signed and not encrypted; not with `None`.")
    ] = False
    certificate_file: Annotated[
        str, Meta(description="The agent's certificate for this server, PEM or DER.")
    ] = ""
    key_file: Annotated[str, Meta(description="Its private key, PEM or DER, no passphrase.")] = ""
    server_certificate_file: Annotated[
        str,
        Meta(
            description="The server's certificate, PEM or DER: any other is refused. Empty: the "
            "one that it shows is believed."
        ),
    ] = ""
    user: Annotated[str, Meta(description="User name; empty to sign in as nobody.")] = ""
    password_file: PasswordFile = ""
    plain_password: Annotated[
        bool,
        Meta(description="Send the password unencrypted to a server that offers nothing better."),
    ] = False
    timeout_seconds: Annotated[
        float, Meta(ge=0.1, le=60.0, description="Time (s) that one answer may take.")
    ] = 4.0
    connect_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=300.0,
            description="Time (s) that all of it may take, from the connection to the last "
            "subscription.",
        ),
    ] = 10.0
    wait_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            le=3600.0,
            description="Time (s) that one tag may come later than the others before its values "
            "count as missing: more than two of the server's answers, in which many tags come, are "
            "apart.",
        ),
    ] = 2.5
    hold_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Time (s) for which a good value counts while the server tells no change; "
            "that the connection lives is checked far more often. A bad or stale value ends it.",
        ),
    ] = 3600.0

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        self._check_url()
        check_silence(self, self.interval_seconds)
        if self.security != "None" and not (self.certificate_file and self.key_file):
            raise ValueError(
                f"`security` {self.security!r} needs `certificate_file` and `key_file`"
            )
        if self.security == "None" and self.sign_only:
            raise ValueError("`sign_only` needs a `security` other than 'None'")
        go_together(self, "user", "password_file")

    def _check_url(self) -> None:
        try:
            parts = urlsplit(self.url)
            known = parts.scheme == "opc.tcp" and parts.hostname and (parts.port or 0) >= 0
        except ValueError:
            known = False
        if not known:
            raise ValueError(f"`url` {self.url!r} is not an address such as opc.tcp://press-7:4840")
        if parts.username is not None:
            raise ValueError("`url` names a user: write `user` and `password_file` instead")

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 4840}"
