# SPDX-License-Identifier: Apache-2.0
"""The agent's own configuration with the signed remote one laid over it: whole and good, or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fedmill_agent.config import AgentConfig, load
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import SignedText, read_verified
from fedmill_shared.errors import ConfigError
from fedmill_shared.files import make_folder, write_atomic
from fedmill_shared.messages import UNREADABLE
from fedmill_shared.overlay import read_overlay

Texts = Sequence[SignedText]


@dataclass(frozen=True, slots=True)
class Overlaid:
    """A configuration that is good.

    Attributes:
        config: it.
        applied: the remote configurations in it.
        error: why those that are signed now are not; empty if they are.
    """

    config: AgentConfig
    applied: Texts = ()
    error: str = ""


def load_overlaid(path: Path) -> Overlaid:
    """The configuration in ``path``, under what is signed for this agent.

    Where that does not fit, what fitted last holds, and where that does not either, the file alone.

    Raises:
        ConfigError: the file itself is wrong.
    """
    own = load(path)
    if own.trust is None:
        return Overlaid(own)
    places = TrustPlaces(own.agent.state)
    verified, good = read_verified(places.verified), last_good(places)
    wanted = verified.configs if verified.checked_ns else good
    error = ""
    for texts in (wanted, good):
        try:
            overlays = [read_overlay(each.text, each.path) for each in texts]
            config = load(path, overlays=overlays) if overlays else own
        except ConfigError as problem:
            error = error or f"remote configuration: {problem}"
        else:
            return Overlaid(config, texts, error)
    return Overlaid(own, (), error)


def last_good(places: TrustPlaces) -> list[SignedText]:
    """The remote configurations that fitted last; none before, or if damaged."""
    try:
        return msgspec.json.decode(places.overlay.read_bytes(), type=list[SignedText])
    except (OSError, *UNREADABLE):
        return []


def keep_good(places: TrustPlaces, texts: Texts) -> bool:
    """Put down that ``texts`` fit; False if that was known.

    Raises:
        StoreError: the disk fails.
    """
    if list(texts) == last_good(places):
        return False
    make_folder(places.overlay.parent)
    write_atomic(places.overlay, msgspec.json.encode(list(texts)))
    return True


def named(texts: Texts) -> str:
    """``texts`` for people: where each lies, and how its digest begins."""
    return ", ".join(f"{each.path} {each.sha256[:12]}" for each in texts)
