# SPDX-License-Identifier: Apache-2.0
"""Where labels come from beside sources and people: the ``[[labels]]`` of a configuration."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

if TYPE_CHECKING:
    from fedmill_agent.sources.broker import BrokerOptions
    from fedmill_agent.sources.rest.options import RestOptions

PortNumber = Annotated[int, Meta(ge=1, le=65_535, description="Its TCP port.")]


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
    delimiter: Annotated[
        str,
        Meta(
            pattern=r'^[^"\r\n\x00]$',
            description="What separates cells: one character, neither a quote nor a line break.",
        ),
    ] = ","
    decimal: Annotated[
        Literal[".", ","], Meta(description="What separates whole and fraction of a number.")
    ] = "."
    missing: Annotated[
        list[Annotated[str, Meta(max_length=200)]],
        Meta(max_length=64, description="What stands for no number beside empty cells."),
    ] = []
    encoding: Annotated[
        Literal["utf-8", "cp1252"],
        Meta(description="Of the text; cp1252 is what Windows writes in Western Europe."),
    ] = "utf-8"


class MqttLabels(LabelOptions, frozen=True, kw_only=True, tag="mqtt"):
    """Messages on the plant's own broker, each one label in JSON, a list of them, or JSON lines."""

    topics: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=1000)]],
        Meta(min_length=1, max_length=64, description="Topic filters, with `+` and `#`."),
    ]
    host: Annotated[str, Meta(description="Name or address of the plant's broker.")] = "127.0.0.1"
    port: PortNumber = 1883
    version: Annotated[
        Literal["5", "3.1.1"], Meta(description="Of MQTT, as the broker speaks it.")
    ] = "5"
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
    user: Annotated[str, Meta(description="User to sign in as; empty for nobody.")] = ""
    password_file: Annotated[
        str, Meta(description="File with the user's password and nothing else.")
    ] = ""
    plain_password: Annotated[
        bool, Meta(description="Send the password without TLS to another machine.")
    ] = False
    tls: Annotated[
        bool, Meta(description="Encrypted, with the system's authorities if no `ca_file` is given.")
    ] = False
    ca_file: Annotated[
        str,
        Meta(description="The authority behind the broker's certificate, PEM; with it TLS is on."),
    ] = ""
    certificate_file: Annotated[
        str, Meta(description="Our own certificate, PEM, where the broker wants one.")
    ] = ""
    key_file: Annotated[str, Meta(description="Its key, PEM, not encrypted.")] = ""

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
    user: Annotated[str, Meta(description="User name; empty for none.")] = ""
    password_file: Annotated[
        str, Meta(description="File with the user's password and nothing else.")
    ] = ""
    token_file: Annotated[
        str, Meta(description="File with a token and nothing else; empty for none.")
    ] = ""
    token_header: Annotated[
        str,
        Meta(
            max_length=100,
            description="Header field that the token goes into; `Authorization` has it after "
            "`Bearer`.",
        ),
    ] = "Authorization"  # noqa: S105  a name
    plain_password: Annotated[
        bool, Meta(description="Send password or token without TLS to another machine.")
    ] = False
    ca_file: Annotated[
        str,
        Meta(
            description="Certificates, PEM, one of which must have signed that of the server; "
            "empty for those of the machine."
        ),
    ] = ""
    certificate_file: Annotated[
        str, Meta(description="The agent's own certificate, PEM; empty for none.")
    ] = ""
    key_file: Annotated[str, Meta(description="Its private key, PEM, no passphrase.")] = ""
    timeout_seconds: Annotated[
        float, Meta(gt=0.0, le=60.0, description="Time (s) that a whole answer may take.")
    ] = 10.0
    largest_bytes: Annotated[
        int, Meta(ge=1, le=1 << 24, description="Size of the largest answer that is read.")
    ] = 1 << 22

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        self.server()
        if self.records:
            from fedmill_agent.sources.json_path import parse  # noqa: PLC0415

            parse(self.records)

    def server(self) -> "RestOptions":
        """How the server is asked."""
        from fedmill_agent.sources.rest.options import RestOptions  # noqa: PLC0415

        return RestOptions(**_connection(self, "records"), silence_seconds=0.0)


def _connection(options: LabelOptions, *own: str) -> dict[str, Any]:
    """Fields that a source of this kind has, too: all but those of labels and the ``own`` ones."""
    left = {*LabelOptions.__struct_fields__, *own} - {"name"}
    return {name: getattr(options, name) for name in options.__struct_fields__ if name not in left}


AnyLabels = CsvLabels | MqttLabels | RestLabels
