# SPDX-License-Identifier: Apache-2.0
"""The parts that agents and coordinators have in common, also where the configuration is wrong."""

import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fedmill_shared.audit import FILE
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.options import IDENTITY
from fedmill_shared.support import machine, redaction
from fedmill_shared.support.bundle import Parts

DEFAULT_STATE = "state"


def parsed(config: Path) -> Mapping[str, object] | ConfigError:
    """The tables of ``config``, or why there are none."""
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        return ConfigError(f"{config}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return ConfigError(f"{config}: {type(error).__name__}: its text is left out")


def common(config: Path, owner: str, unit: str) -> tuple[Parts, Path]:
    """Parts of the daemon with the file ``config``, whose section is ``owner``; its state folder.

    Nothing is raised: what cannot be had is said to be missing.
    """
    tables, folder = parsed(config), config.resolve().parent
    secrets: set[str] = set()
    state = folder / DEFAULT_STATE
    if not isinstance(tables, ConfigError):
        section = tables.get(owner)
        if isinstance(section, dict) and isinstance(section.get("state"), str):
            state = folder / section["state"]
        secrets = redaction.secrets_of(tables, folder)
    for key in sorted(state.glob("**/*key*.pem")) + sorted(state.glob("**/*.key")):
        secrets |= redaction.secrets_of({"key": str(key)}, folder)
    parts = Parts(secrets)
    parts.add("config.json", partial(_shown, tables))
    parts.add("versions.json", machine.versions)
    parts.add("machine.json", partial(machine.resources, state))
    parts.add("state-folder.json", partial(machine.listing, state))
    parts.add("audit.json", partial(machine.audited, state / FILE))
    parts.add("journal.txt", partial(machine.journal, unit))
    parts.add("certificate.json", partial(machine.certificate, _certificate(tables, state, folder)))
    return parts, state


def _shown(tables: Mapping[str, object] | ConfigError) -> object:
    if isinstance(tables, ConfigError):
        raise tables
    return redaction.configuration(dict(tables))


def _certificate(tables: Mapping[str, object] | ConfigError, state: Path, folder: Path) -> Path:
    place: object = None if isinstance(tables, ConfigError) else tables.get("broker")
    for name in ("tls", "certificate"):
        place = place.get(name) if isinstance(place, dict) else None
    return (
        folder / place
        if isinstance(place, str) and place
        else (state / IDENTITY / "certificate.pem")
    )
