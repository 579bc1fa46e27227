# SPDX-License-Identifier: Apache-2.0
"""Remote configuration: what of an agent's configuration its operator may change from afar.

Rates, thresholds, when training may run, how much is logged, and which jobs are taken part in.
Nothing here names a broker, an identity, a key, an address or a file, so that nobody who may write
it can lead an agent elsewhere. The values are checked with the whole configuration, on the agent.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from fedmill_shared import toml
from fedmill_shared.errors import ConfigError
from fedmill_shared.toml.place import Table

Number = int | float


class AgentOverlay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[agent]``: jobs to take part in, and the smallest level that is logged."""

    jobs: list[str] | None = None
    log_level: Literal["debug", "info", "warning", "error"] | None = None


class TrainingOverlay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[training]``: whether, when and within which limits."""

    enabled: bool | None = None
    idle_seconds: Number | None = None
    timeout_seconds: Number | None = None
    nice: int | None = None
    max_cpu_percent: Number | None = None
    min_free_bytes: int | None = None
    max_temperature_celsius: Number | None = None
    max_pressure_percent: Number | None = None
    shifts: list[str] | None = None


class InferenceOverlay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[inference]``: how windows are scored."""

    deadline_seconds: Number | None = None
    batch: int | None = None
    int8: Literal["off", "auto"] | None = None


class SourceOverlay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sources.NAME]``: how often a source that the agent has is asked, and how long it may."""

    interval_seconds: Number | None = None
    hold_seconds: Number | None = None
    timeout_seconds: Number | None = None


class Overlay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole remote configuration; what is left out stays as the agent's own file says."""

    agent: AgentOverlay = AgentOverlay()
    training: TrainingOverlay = TrainingOverlay()
    inference: InferenceOverlay = InferenceOverlay()
    sources: dict[str, SourceOverlay] = {}


def read_overlay(text: str, path: str) -> Overlay:
    """The remote configuration ``text``; ``path`` names it in errors.

    Raises:
        ConfigError: it is no TOML, or changes what may not be changed from afar.
    """
    try:
        return toml.decode(text, Overlay, path=path, error=ConfigError)
    except ConfigError as error:
        allowed = "; from afar only rates, thresholds, shifts, the log level and jobs are changed"
        raise ConfigError(error.message, remedy=(error.remedy + allowed).lstrip("; ")) from error


def laid_over(data: Table, overlays: Iterable[Overlay]) -> dict[str, object]:
    """The tables of a configuration file with ``overlays`` over them, the last one topmost.

    Raises:
        ConfigError: a source is named that the file does not have.
    """
    result = dict(data)
    for overlay in overlays:
        for section in ("agent", "training", "inference"):
            told = _said(getattr(overlay, section))
            if told:
                before = result.get(section)
                result[section] = {**(before if isinstance(before, dict) else {}), **told}
        for name, source in overlay.sources.items():
            result["sources"] = _with_source(result.get("sources"), name, _said(source))
    return result


def _with_source(sources: object, name: str, told: dict[str, object]) -> list[object]:
    found = list(sources) if isinstance(sources, list) else []
    for index, each in enumerate(found):
        if isinstance(each, dict) and each.get("name") == name:
            found[index] = {**each, **told}
            return found
    raise ConfigError(
        f"sources.{name}: the agent has no source of this name",
        remedy="name one of the sources of its configuration file",
    )


def _said(section: Struct) -> dict[str, object]:
    fields = {name: getattr(section, name) for name in section.__struct_fields__}
    return {name: value for name, value in fields.items() if value is not None}
