# SPDX-License-Identifier: Apache-2.0
"""The server tells what has changed (OPC 10000-4, 5.13 and 5.14)."""

import itertools
from collections import Counter
from collections.abc import Sequence

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from fedmill_agent.sources.opcua.connection import Connection
from fedmill_agent.sources.opcua.faults import status_name
from fedmill_agent.sources.opcua.responses import publish_response, subscription_response
from fedmill_agent.sources.opcua.values import Values
from fedmill_agent.sources.opcua.wire import WireError
from fedmill_shared.errors import SourceError

CONFIRM_SECONDS = 10.0
"""How often at most an unchanged value is said again."""
LIFE_SECONDS = 60.0
"""After which a server forgets a subscription that nobody takes from."""
MOST_NONSENSE = 3
"""Answers in a row that may be nonsense."""
MOST_PER_MESSAGE = 1000
_UNFILTERED = (
    "BadFilterNotAllowed",
    "BadMonitoredItemFilterUnsupported",
    "BadDeadbandFilterInvalid",
)
_REASONS = {
    "BadNodeIdUnknown": "the server has no such node (BadNodeIdUnknown): look with `discover`",
    "BadNodeIdInvalid": "the server does not understand this node id (BadNodeIdInvalid)",
    "BadAttributeIdInvalid": "the node has no value (BadAttributeIdInvalid): name a variable",
    "BadUserAccessDenied": "the user may not read it (BadUserAccessDenied)",
    "BadNotReadable": "the node may not be read (BadNotReadable)",
    "BadTooManyMonitoredItems": 'the server watches no more nodes: try `mode = "poll"`',
}


class Subscription:
    """Owns one subscription: the nodes in it, and taking out what the server tells."""

    def __init__(self, connection: Connection, values: Values, counts: Counter[str]) -> None:
        """Prepare; ``begin`` creates it."""
        self._connection = connection
        self._values = values
        self._counts = counts
        self._id = 0
        self._numbers = itertools.count()
        self._handles: dict[int, str] = {}
        self._nodes: dict[str, ua.NodeId] = {}
        self._patience = 0.0
        self._sequence = 0

    @property
    def confirm_seconds(self) -> float:
        """How long an unchanged value may go unsaid."""
        options = self._connection.options
        bounds = [each / 3 for each in (options.silence_seconds, options.hold_seconds) if each]
        return max(options.interval_seconds, min(CONFIRM_SECONDS, *bounds, CONFIRM_SECONDS))

    async def begin(self) -> None:
        """Create the subscription, with nothing in it.

        Raises:
            UaStatusCodeError: the server refuses.
        """
        interval = self._connection.options.interval_seconds
        quiet = max(1, round(self.confirm_seconds / interval))
        request = ua.CreateSubscriptionRequest()
        asked = request.Parameters
        asked.RequestedPublishingInterval = 1000 * interval
        asked.RequestedMaxKeepAliveCount = quiet
        asked.RequestedLifetimeCount = max(3 * quiet, round(LIFE_SECONDS / interval))
        asked.MaxNotificationsPerPublish = MOST_PER_MESSAGE
        asked.PublishingEnabled = True
        given = subscription_response(await self._connection.request(request))
        self._id = given.number
        self._patience = 2 * given.quiet_seconds + self._connection.options.timeout_seconds

    async def add(self, nodes: dict[str, ua.NodeId]) -> None:
        """Watch ``nodes`` too; one that cannot be watched becomes a problem of its tag.

        Raises:
            UaStatusCodeError: the server refuses them all.
        """
        refused = await self._add(nodes, filtered=self._connection.options.deadband > 0)
        if refused:
            await self._add(refused, filtered=False)

    async def serve(self) -> None:
        """Take what the server tells until the connection or the subscription ends.

        Raises:
            SourceError: the server ended the subscription, or answers nonsense.
            Exception: of the library, or TimeoutError: the connection is lost.
        """
        acknowledged: list[int] = []
        nonsense = 0
        while True:
            request = ua.PublishRequest()
            request.Parameters.SubscriptionAcknowledgements = [
                ua.SubscriptionAcknowledgement(self._id, number) for number in acknowledged
            ]
            acknowledged = []
            try:
                answer = await self._connection.request(request, patience=self._patience)
                acknowledged = self._take(answer)
                nonsense = 0
            except WireError as error:
                self._counts["garbage"] += 1
                nonsense += 1
                if nonsense > MOST_NONSENSE:
                    raise self._ended(f"nonsense again and again: {error}") from error
                await self._ask_again()

    def _take(self, answer: bytes) -> list[int]:
        """Hand over what a message holds; the numbers to acknowledge."""
        told = publish_response(answer)
        if told.subscription != self._id:
            return []
        if told.ended is not None:
            name = status_name(told.ended)
            raise self._ended(f"the server ended the subscription: {name}")
        for handle, data in told.values:
            tag = self._handles.get(handle)
            if tag is not None:
                self._values.take(tag, data)
        if not told.more:
            self._values.confirm(round(1e9 * self.confirm_seconds))
        if not told.values:
            return []
        # numbers go on from 2^32 - 1 to 1
        missing = (told.sequence - self._sequence - 1) % 0xFFFFFFFF if self._sequence else 0
        if missing:
            self._counts["lost"] += missing
        self._sequence = told.sequence
        return [told.sequence]

    async def _ask_again(self) -> None:
        """Something was told that nobody understood: ask how things are."""
        nodes = dict(self._nodes)
        answers = await self._connection.read(list(nodes.values()))
        for tag, data in zip(nodes, answers, strict=True):
            if data is None:
                self._values.lost(tag)
            else:
                self._values.take(tag, data)

    async def _add(self, nodes: dict[str, ua.NodeId], *, filtered: bool) -> dict[str, ua.NodeId]:
        """Those of ``nodes`` that do not take the filter."""

        async def create(
            some: Sequence[tuple[int, ua.NodeId]],
        ) -> Sequence[ua.MonitoredItemCreateResult]:
            parameters = ua.CreateMonitoredItemsParameters()
            parameters.SubscriptionId = self._id
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            parameters.ItemsToCreate = [self._item(*each, filtered=filtered) for each in some]
            return list(await self._connection.service.create_monitored_items(parameters))

        handles = dict(zip(self._numbers, nodes, strict=False))
        self._handles |= handles
        items = [(handle, nodes[tag]) for handle, tag in handles.items()]
        results = await self._connection.in_chunks("monitor", items, create)
        again: dict[str, ua.NodeId] = {}
        for (handle, tag), result in zip(handles.items(), results, strict=True):
            name = result.StatusCode.name
            if result.StatusCode.is_good():
                self._nodes[tag] = nodes[tag]
                self._values.trouble(tag, "")
                continue
            del self._handles[handle]
            if filtered and name in _UNFILTERED:
                again[tag] = nodes[tag]
            else:
                self._values.trouble(tag, _REASONS.get(name, f"the server refuses: {name}"))
        return again

    def _item(
        self, handle: int, node: ua.NodeId, *, filtered: bool
    ) -> ua.MonitoredItemCreateRequest:
        options = self._connection.options
        parameters = ua.MonitoringParameters()
        parameters.ClientHandle = handle
        parameters.SamplingInterval = 1000 * options.interval_seconds
        parameters.QueueSize = options.queue_size
        parameters.DiscardOldest = True
        if filtered:
            kinds = ua.DeadbandType
            parameters.Filter = ua.DataChangeFilter(
                Trigger=ua.DataChangeTrigger.StatusValue,
                DeadbandType=kinds.Percent
                if options.deadband_kind == "percent"
                else kinds.Absolute,
                DeadbandValue=options.deadband,
            )
        return ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=parameters,
        )

    def _ended(self, why: str) -> SourceError:
        options = self._connection.options
        return SourceError(
            f"source {options.name!r}: {options.place}: {why}", remedy="look at the server"
        )
