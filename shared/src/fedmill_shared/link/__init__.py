# SPDX-License-Identifier: Apache-2.0
"""The wire: connections, blocks and the outbox. Nothing else imports paho."""

from fedmill_shared.link.base import Connected, Disconnected, Link, LinkEvent, Message

__all__ = ["Connected", "Disconnected", "Link", "LinkEvent", "Message"]
