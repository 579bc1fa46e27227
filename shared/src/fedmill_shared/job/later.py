# SPDX-License-Identifier: Apache-2.0
"""Fields that came later: software that does not know them takes part in what needs none of them.

So they are left out, at their default, of all that is hashed or sent.
"""

from collections.abc import Mapping, Sequence

from msgspec import NODEFAULT, Struct, structs, to_builtins

LATER = {
    "signals": ("range", "flat_seconds", "max_slope"),
    "window": (
        "trigger",
        "trigger_level",
        "trigger_edge",
        "trigger_hysteresis",
        "trigger_before",
        "order",
        "revolutions",
        "per_revolution",
    ),
    "cleaning": ("missing", "hold", "outliers", "reach", "sigmas", "tails", "least_good"),
    "features": ("steps", "bands", "envelope_bands", "envelope_band", "envelope_top"),
    "labels": ("from", "tolerance_seconds", "conflict", "signal", "horizon_seconds", "events"),
    "federation": (
        "earliest_seconds",
        "patience",
        "select",
        "cluster_by",
        "clusters",
        "start",
        "min_examples",
        "over_selection",
        "max_staleness",
        "staleness_exponent",
        "server_decay",
        "server_adaptivity",
        "rounds_on_wish",
        "wish_seconds",
        "wish_rounds_a_day",
    ),
    "learning": (
        "adjustment",
        "focal_gamma",
        "resample",
        "proximal",
        "personal",
        "head_epochs",
        "ditto",
    ),
    "compression": ("dense_rounds", "dense", "plateau_rounds"),
    "robustness": ("rule", "clip", "byzantine", "bucket", "quarantine_rounds", "claim"),
    "serving": (
        "candidates",
        "every",
        "shadow_windows",
        "shadow_seconds",
        "least_agreement",
        "error_slack",
        "min_labels",
        "budget_ms",
        "budget_mib",
        "soak_windows",
    ),
    "rollout": (
        "release",
        "rings",
        "soak_seconds",
        "abort_share",
        "abort_after",
        "timeout_seconds",
    ),
    "drift": (
        "watch",
        "run_length",
        "warn_run_length",
        "reference_windows",
        "block_windows",
        "on_warning",
        "on_alarm",
        "pause_seconds",
        "collect_windows",
    ),
    "feedback": ("method", "min_labels", "every_labels", "forgetting", "strength"),
    "alarms": (),
    "monitoring": ("false_alarms", "margin", "least_windows", "smooth"),
}
"""Section of the job file -> its later fields."""


def plain(section: str, value: Struct | Sequence[Struct]) -> object:
    """``value`` of a ``section`` in plain types, without its later fields that say nothing new."""
    if not isinstance(value, Struct):
        return [plain(section, each) for each in value]
    fields: Mapping[str, object] = to_builtins(value)
    usual = _defaults(type(value))
    later = LATER.get(section, ())
    return {k: v for k, v in fields.items() if k not in later or v != usual[k]}


def said(section: str, value: Struct) -> dict[str, object]:
    """The later fields of ``value`` that are not at their default, in plain types."""
    fields: Mapping[str, object] = to_builtins(value)
    usual = _defaults(type(value))
    return {k: fields[k] for k in LATER[section] if fields[k] != usual[k]}


def _defaults(kind: type[Struct]) -> dict[str, object]:
    found = {}
    for field in structs.fields(kind):
        if field.default is not NODEFAULT:
            found[field.encode_name] = to_builtins(field.default)
        elif field.default_factory is not NODEFAULT:
            found[field.encode_name] = to_builtins(field.default_factory())
    return found
