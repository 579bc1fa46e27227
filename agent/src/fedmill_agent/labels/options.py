# SPDX-License-Identifier: Apache-2.0
"""Where labels come from beside sources and people: the ``[[labels]]`` of a configuration."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from fedmill_agent.fields import mqtt, web
from fedmill_agent.fields.cells import Cells, Decimal, Delimiter, Encoding
from fedmill_agent.fields.signing_in import PasswordFile

if TYPE_CHECKING:
    from fedmill_agent.sources.broker import BrokerOptions
    from fedmill_agent.sources.rest.options import RestOptions


class LabelOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Fields that every ``[[labels]]`` entry of an agent's configuration has."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="Its name in logs.")]
    fields: Annotated[
        dict[str, str],
        Meta(
            description="Field of a label -> what it is called there, as in "
            '`fields = {class = "result", part = "serial"}`. With any, all other names are ignored.'
        ),
    ] = msgspec.field(default_factory=dict)
    unit: Annotated[
        str,
        Meta(
            max_length=200,
            description="The machine of labels that name neither a machine nor a part or batch.",
        ),
    ] = ""
    job: Annotated[
        str, Meta(max_length=200, description="The job of labels that name none; empty: every job.")
    ] = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        from fedmill_agent.labels.decode import FIELDS  # noqa: PLC0415  few agents need it

        for field in self.fields:
            if field not in FIELDS:
                known = ", ".join(FIELDS)
                raise ValueError(f"`fields` has {field!r}; labels have {known}")


class CsvLabels(LabelOptions, frozen=True, kw_only=True, tag="csv"):
    """A CSV file with a header, one label a line; lines that are added later are read, too."""

    path: Annotated[str, Meta(description="The file. It may be missing at first.")]
    follow: Annotated[
        bool, Meta(description="Look for more as long as the agent runs, not only at its start.")
    ] = True
    interval_seconds: Annotated[
        float, Meta(ge=0.05, le=86_400.0, description="Time (s) between two looks.")
    ] = 2.0
    delimiter: Delimiter = ","
    decimal: Decimal = "."
    missing: Annotated[
        Cells, Meta(description="What stands for no number beside empty cells.")
    ] = []
    encoding: Encoding = "utf-8"


class MqttLabels(LabelOptions, frozen=True, kw_only=True, tag="mqtt"):
    """Messages on the plant's own broker, each one label in JSON, a list of them, or JSON lines."""

    topics: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=1000)]],
        Meta(min_length=1, max_length=64, description="Topic filters, with `+` and `#`."),
    ]
    host: mqtt.Host = "127.0.0.1"
    port: mqtt.Port = 1883
    version: mqtt.Version = "5"
    client_id: Annotated[
        str,
        Meta(
            max_length=200,
            description="Name to sign in with, one that no other client has; empty: made of the "
            "agent's and this name.",
        ),
    ] = ""
    keep_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=31_536_000,
            description="For how long (s) the broker keeps what comes while the agent is away.",
        ),
    ] = 604_800
    user: mqtt.User = ""
    password_file: PasswordFile = ""
    plain_password: mqtt.PlainPassword = False
    tls: mqtt.Tls = False
    ca_file: mqtt.CaFile = ""
    certificate_file: mqtt.CertificateFile = ""
    key_file: mqtt.KeyFile = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        self.broker()

    def broker(self) -> "BrokerOptions":
        """How the broker is reached."""
        from fedmill_agent.sources.broker import BrokerOptions  # noqa: PLC0415  few agents need it

        return BrokerOptions(**_connection(self, "topics", "keep_seconds"), silence_seconds=0.0)


class RestLabels(LabelOptions, frozen=True, kw_only=True, tag="rest"):
    """A web server that is asked with GET and answers labels in JSON."""

    url: Annotated[
        str, Meta(min_length=1, max_length=2000, description="What is asked, http or https.")
    ]
    interval_seconds: Annotated[
        float, Meta(ge=0.05, le=86_400.0, description="Time (s) between two questions.")
    ] = 60.0
    records: Annotated[
        str,
        Meta(description="Path of the list of labels in the answer; empty: the answer itself."),
    ] = ""
    user: web.User = ""
    password_file: PasswordFile = ""
    token_file: web.TokenFile = ""
    token_header: web.TokenHeader = "Authorization"  # noqa: S105  a name
    plain_password: web.PlainPassword = False
    ca_file: web.CaFile = ""
    certificate_file: web.CertificateFile = ""
    key_file: web.KeyFile = ""
    timeout_seconds: web.TimeoutSeconds = 10.0
    largest_bytes: Annotated[
        int, Meta(ge=1, le=1 << 24, description="Size of the largest answer that is read.")
    ] = 1 << 22

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        self.server()
        if self.records:
            from fedmill_agent.sources.json_path import parse  # noqa: PLC0415  few agents need it

            parse(self.records)

    def server(self) -> "RestOptions":
        """How the server is asked."""
        from fedmill_agent.sources.rest.options import RestOptions  # noqa: PLC0415  few agents need it

        return RestOptions(**_connection(self, "records"), silence_seconds=0.0)


def _connection(options: LabelOptions, *own: str) -> dict[str, Any]:
    """Fields that a source of this kind has, too: all but those of labels and the ``own`` ones."""
    left = {*LabelOptions.__struct_fields__, *own} - {"name"}
    return {name: getattr(options, name) for name in options.__struct_fields__ if name not in left}


AnyLabels = CsvLabels | MqttLabels | RestLabels
