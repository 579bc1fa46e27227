# SPDX-License-Identifier: Apache-2.0
"""What an operator says of a plant's Sparkplug nodes."""

from typing import Annotated

import msgspec
from msgspec import Meta

from fedmill_agent.sources.broker import BrokerOptions
from fedmill_agent.sources.live import SilenceSeconds


class SparkplugOptions(BrokerOptions, frozen=True, kw_only=True, tag="sparkplug"):
    """Edge nodes that speak Sparkplug B on the plant's own MQTT broker.

    A tag is `group/node:metric`, or `group/node/device:metric`.
    """

    silence_seconds: SilenceSeconds = 3600.0
    hold_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Time (s) for which a good value counts while no newer one comes: nodes "
            "tell a value only when it changes. A bad or stale one, and the death of its node or "
            "device, end it at once. 0: for the sample it is next to.",
        ),
    ] = 3600.0
    rebirth: Annotated[
        bool,
        Meta(
            description="Whether a node may be asked for its birth certificate, without which its "
            "data mean nothing: at the start, and after a lost message. It is all that is ever "
            "written; false where nothing may be."
        ),
    ] = True
    rebirth_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=3600.0,
            description="Time (s) after which a node may be asked again; longer and longer, as "
            "long as it does not answer.",
        ),
    ] = 10.0
    host_id: Annotated[
        str,
        Meta(
            pattern=r"^[^+#/\x00]*\Z",
            max_length=100,
            description="The primary host that nodes wait for, if that is to be us; empty: nobody "
            "waits for us.",
        ),
    ] = ""
    rate_property: Annotated[
        str,
        Meta(
            description="Property of an array metric that has its samples per second (Hz); else "
            "`rates` says it."
        ),
    ] = ""
    groups: Annotated[
        list[Annotated[str, Meta(pattern=r"^[^+#/\x00]+\Z", max_length=200)]],
        Meta(description="Groups that `discover` listens to; empty for all."),
    ] = msgspec.field(default_factory=list)
