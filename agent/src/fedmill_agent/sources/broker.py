# SPDX-License-Identifier: Apache-2.0
"""What all sources have in common that listen on the plant's own MQTT broker."""

import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from fedmill_agent.fields import mqtt
from fedmill_agent.fields.signing_in import LOCAL, PasswordFile
from fedmill_agent.sources.live import LiveOptions
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.base import Message

if TYPE_CHECKING:
    from fedmill_shared.link.plant import PlantBroker, PlantLink

LONGEST_PASSWORD = 65_535
_TAG = re.compile(r"((?:[^:]|::)+)(?::(.+))?", re.DOTALL)


class BrokerOptions(LiveOptions, frozen=True, kw_only=True):
    """Fields of every source that listens on the plant's own MQTT broker."""

    host: mqtt.Host = "127.0.0.1"
    port: mqtt.Port = 1883
    version: mqtt.Version = "5"
    client_id: Annotated[
        str,
        Meta(description="Name to sign in with, one that no other client has; empty: made up."),
    ] = ""
    user: mqtt.User = ""
    password_file: PasswordFile = ""
    plain_password: mqtt.PlainPassword = False
    tls: mqtt.Tls = False
    ca_file: mqtt.CaFile = ""
    certificate_file: mqtt.CertificateFile = ""
    key_file: mqtt.KeyFile = ""
    connect_seconds: Annotated[
        float, Meta(gt=0.0, le=60.0, description="Time (s) in which the broker must answer.")
    ] = 5.0
    listen_seconds: Annotated[
        float,
        Meta(gt=0.0, le=3600.0, description="Time (s) for which `discover` listens."),
    ] = 10.0
    max_message_bytes: Annotated[
        int,
        Meta(ge=1_000, le=16_000_000, description="Larger messages are left out."),
    ] = 1_000_000

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        if self.password_file and not self.user:
            raise ValueError("`password_file` needs the `user` whose password it is")
        far = self.host not in LOCAL
        if self.password_file and far and not self.secure and not self.plain_password:
            raise ValueError(
                "the password would cross the network readable: give `ca_file` or `tls = true`, "
                "or `plain_password = true` where nobody listens"
            )
        if self.key_file and not self.certificate_file:
            raise ValueError("`key_file` needs the `certificate_file` that it belongs to")

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.tls or bool(self.ca_file or self.certificate_file)


def connect(
    options: BrokerOptions,
    filters: Sequence[str],
    *,
    qos: int = 1,
    will: Message | None = None,
    keep_seconds: int = 0,
) -> "PlantLink":
    """A connection that listens to ``filters``; what comes for it is kept so long behind its end.

    Raises:
        SourceError: the broker cannot be reached, refuses us or does not answer.
        ConfigError: a password, certificate or key file cannot be used.
    """
    from fedmill_shared.link.plant import PlantLink  # noqa: PLC0415  only where somebody connects

    link = PlantLink(_broker_of(options, will, keep_seconds))
    try:
        link.open(filters, qos=qos)
    except BaseException:
        link.close()
        raise
    return link


def _broker_of(options: BrokerOptions, will: Message | None, keep_seconds: int) -> "PlantBroker":
    from fedmill_shared.link.plant import PlantBroker, tls_context  # noqa: PLC0415  takes memory

    files = options.ca_file, options.certificate_file, options.key_file
    return PlantBroker(
        host=options.host,
        port=options.port,
        # two connections with one name would end each other for ever
        client_id=options.client_id or f"fedmill-{secrets.token_hex(6)}",
        version=options.version,
        username=options.user,
        password=_password(options),
        tls=tls_context(*files) if options.secure else None,
        largest_packet=options.max_message_bytes,
        patience=options.connect_seconds,
        will=will,
        keep_seconds=keep_seconds,
    )


def split_tag(tag: str) -> tuple[str, str]:
    """What stands before and behind the first colon of a tag; empty where there is none.

    Two colons stand for one that belongs to the first part.

    Raises:
        ConfigError: the tag has no first part.
    """
    parts = _TAG.fullmatch(tag)
    if parts is None:
        raise ConfigError(f"tag {tag!r} names nothing", remedy="write `topic` or `topic:path`")
    return parts[1].replace("::", ":"), parts[2] or ""


def join_tag(first: str, second: str) -> str:
    """A tag that ``split_tag`` takes apart again."""
    escaped = first.replace(":", "::")
    return f"{escaped}:{second}" if second else escaped


def _password(options: BrokerOptions) -> str:
    if not options.password_file:
        return ""
    try:
        with Path(options.password_file).open("rb") as file:
            password = file.read(LONGEST_PASSWORD).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"source {options.name!r}: password_file {options.password_file}: {told}",
            remedy="put the password alone into a text file that the agent may read",
        ) from error
    return password
