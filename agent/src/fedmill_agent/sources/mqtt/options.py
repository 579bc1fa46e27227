# SPDX-License-Identifier: Apache-2.0
"""What an operator says of a plant's MQTT messages."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fedmill_agent.sources.broker import BrokerOptions
from fedmill_agent.sources.json_path import parse
from fedmill_agent.sources.mqtt.moments import TimeUnit
from fedmill_agent.sources.quality import Word


class MqttOptions(BrokerOptions, frozen=True, kw_only=True, tag="mqtt"):
    """Messages in JSON, or bare numbers, on the plant's own MQTT broker.

    A tag is `topic:path`, or `topic` where the message is the bare value.
    """

    topics: Annotated[
        list[str],
        Meta(
            description="Topic filters to subscribe to, as in `line3/+/state` or `line3/#`; empty "
            "for the topics of the tags. `discover` listens to them, or to everything."
        ),
    ] = msgspec.field(default_factory=list)
    qos: Annotated[int, Meta(ge=0, le=1, description="Quality of service asked for.")] = 1
    time_path: Annotated[
        str,
        Meta(
            description="Where a message has the time of a value, looked for beside the value "
            "first and then further out; empty: it counts from its arrival."
        ),
    ] = ""
    time_unit: Annotated[
        TimeUnit,
        Meta(
            description="What a time that is a number counts since 1970; `auto` goes by its size. "
            "Texts are ISO 8601, UTC where they name no zone."
        ),
    ] = "auto"
    quality_path: Annotated[
        str,
        Meta(
            description="Where a message has the quality of a value, looked for like the time. "
            "Without one a value is good."
        ),
    ] = ""
    qualities: Annotated[
        dict[str, Word],
        Meta(
            description="What qualities of the plant's own mean, beside 0 to 255, 500, true, "
            "false, Good, Bad, Uncertain and Stale."
        ),
    ] = msgspec.field(default_factory=dict)
    rate_path: Annotated[
        str,
        Meta(
            description="Where a message has the samples per second (Hz) of a list of values, "
            "looked for like the time; else `rates` says it."
        ),
    ] = ""
    retained: Annotated[
        Literal["stale", "use", "ignore"],
        Meta(
            description="What a message counts for that the broker had kept from before, if it "
            "has no time of its own."
        ),
    ] = "stale"

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        for path in (self.time_path, self.quality_path, self.rate_path):
            parse(path)
        for topic in self.topics:
            check_filter(topic)


def check_filter(topic: str) -> None:
    """Raise ValueError unless ``topic`` is a filter (MQTT 5.0, section 4.7)."""
    parts = topic.split("/")
    wild = any(len(part) > 1 and ("+" in part or "#" in part) for part in parts)
    if not topic or "\0" in topic or wild or "#" in parts[:-1] or len(topic.encode()) > 65_535:
        raise ValueError(
            f"{topic!r} is no topic filter: write it like line3/+/state or line3/#, with + for one "
            "part and # for all the rest"
        )
