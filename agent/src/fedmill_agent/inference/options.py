# SPDX-License-Identifier: Apache-2.0
"""The section ``[inference]`` of an agent's configuration."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Publish = Literal["off", "alarms", "all"]
Name = Annotated[str, Meta(pattern=r"^[^/+#\x00]{1,64}\Z")]


class SparkplugSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An edge node of Sparkplug B whose metrics are the newest prediction of each job.

    Attributes:
        group: name of the group that the node belongs to, without ``/``, ``+`` and ``#``.
        node: name of the node in it.
    """

    group: Name
    node: Name


class InferenceSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How windows are scored, and to whom what comes of it is told.

    Attributes:
        deadline_seconds: a window of a live source, or of a recording that is played at its own
            pace, that waited longer than this for its turn is not scored; 0 for no such limit.
        batch: windows that are scored in one call at most, where several wait.
        int8: ``auto`` scores with int8 convolutions where that is at least a tenth faster on this
            machine and no worse on its own windows, and fetches what is needed for that.
        publish: what is told to other systems as JSON on ``fedmill/v1/<agent>/out/...``: nothing,
            ``alarms``, or ``all``, which is predictions too.
        publish_max_age_seconds: age at which a prediction that could not be published is given up.
        sparkplug: ``group`` and ``node`` of an edge node that shows the newest predictions as
            metrics of Sparkplug B on the same broker.
    """

    deadline_seconds: Annotated[float, Meta(ge=0)] = 0.0
    batch: Annotated[int, Meta(ge=1, le=1024)] = 32
    int8: Literal["off", "auto"] = "off"
    publish: Publish = "off"
    publish_max_age_seconds: Annotated[float, Meta(gt=0)] = 604_800.0
    sparkplug: SparkplugSection | None = None
