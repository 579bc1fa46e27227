# SPDX-License-Identifier: Apache-2.0
"""Takes secrets out of configurations, by a table of what may be shown, and out of texts.

A configuration shows numbers, truth values and the texts of fields in the table; any other text is
removed, whatever it looks like. Texts that others wrote, as logs, lose every secret that the
configuration's files hold, and what looks like one.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

REMOVED: Final = "(removed)"
SHOWN: Final = frozenset(
    {
        "baud", "byte_order", "ca", "ca_certificate", "ca_file", "ca_key", "certificate",
        "certificate_file", "classes", "column", "columns", "crl", "date_format", "discard",
        "endpoint", "folder", "group", "host", "id", "interval", "jobs", "key", "key_file", "keys",
        "kind", "label_column", "log_level", "metric", "mode", "name", "node", "order", "part",
        "password_file", "path", "pattern", "policy", "position_file", "publish", "root",
        "run_column", "security", "server_name", "shifts", "split", "startup", "state", "tags",
        "time_column", "time_format", "timezone", "token_file", "token_header", "topic", "topics",
        "truth", "unit", "units", "word_order",
    }
)  # fmt: skip
"""Fields whose texts name things, places and files. ``key`` is a file, never its content."""
URLS: Final = frozenset({"endpoint", "url"})
SECRET_FILES: Final = frozenset({"password_file", "token_file", "key_file", "key", "ca_key"})
LARGEST_SECRET: Final = 65_536
SHORTEST_PARAMETER: Final = 8
SHORTEST_SECRET: Final = 4
"""What is shorter would take every other word out of a log."""

_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(-----END [A-Z0-9 ]{1,40}-----|\Z)", re.DOTALL
)
_USER_INFO = re.compile(r"([a-z][a-z0-9+.-]{1,20}://)[^\s/@\"']{1,500}@", re.IGNORECASE)
_NAMED = re.compile(
    r"(?P<name>pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|authorization|credential|cookie)"
    r"(?P<between>[\"']?\s*[=:]\s*(?:(?:bearer|basic)\s+)?)(?P<value>\"[^\"]*\"|'[^']*'|[^\s,;]+)",
    re.IGNORECASE,
)
_NAMES = re.compile(
    r"pass(word|wd|phrase)?|pwd|secret|token|api[-_]?key|authorization|cookie", re.IGNORECASE
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_CODE = re.compile(
    r"\b(?:[0-9A-Z]{4}-){5,}[0-9A-Z]{1,4}\b|\b[0-9A-Z]{4}(?:[-._ ]?[0-9A-Z]{4}){13}\b",
    re.IGNORECASE,
)
"""An enrolment code: 14 groups of four, as it was printed, a part of that, or as it was typed."""


def configuration(value: object, field: str = "") -> object:
    """``value`` of a parsed TOML file with texts only where the table shows them."""
    match value:
        case bool() | int() | float() | None:
            return value
        case dict():
            return {
                _key(key): configuration(each, _field(key, field)) for key, each in value.items()
            }
        case list():
            return [configuration(each, field) for each in value]
        case str():
            if field in URLS:
                return without_user(value)
            return scrubbed(value) if field in SHOWN else REMOVED
    return REMOVED


def without_user(url: str) -> str:
    """``url`` without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return REMOVED
    found = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return REMOVED if "@" in found else found


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without ``secrets`` and without what looks like one."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REMOVED)
    text = _PEM.sub(REMOVED, text)
    text = _USER_INFO.sub(rf"\1{REMOVED}@", text)
    text = _NAMED.sub(_without_value, text)
    text = _BEARER.sub(rf"\1 {REMOVED}", text)
    return _CODE.sub(REMOVED, text)


def structure(value: object, secrets: Collection[str]) -> object:
    """``value`` with every text in it scrubbed, and no text under the name of a secret."""
    match value:
        case str():
            return scrubbed(value, secrets)
        case dict():
            return {
                scrubbed(str(key), secrets): REMOVED
                if isinstance(each, str) and _NAMES.fullmatch(str(key))
                else structure(each, secrets)
                for key, each in value.items()
            }
        case list() | tuple() | set():
            return [structure(each, secrets) for each in value]
    return value


def secrets_of(value: object, folder: Path, field: str = "") -> set[str]:
    """What a configuration holds of secrets, and the files that it names for them.

    ``folder`` is its own. A text is one by the name of its field, or as a part of an address.
    """
    match value:
        case dict():
            found = (secrets_of(each, folder, str(key)) for key, each in value.items())
            return set[str]().union(*found)
        case list():
            return set[str]().union(*(secrets_of(each, folder, field) for each in value))
        case str() if field in SECRET_FILES:
            return _lines(folder / value)
        case str() if field in URLS:
            return _in_url(value)
        case str() if _NAMES.search(field) and field not in SHOWN:
            return {each for each in (value, *value.split()[1:]) if len(each) >= SHORTEST_SECRET}
    return set()


def _in_url(url: str) -> set[str]:
    """Password and parameters of an address."""
    try:
        parts = urlsplit(url)
        found = [each for _, each in parse_qsl(parts.query) if len(each) >= SHORTEST_PARAMETER]
        password = parts.password or ""
    except ValueError:
        return set()
    return {*found, *([password] if len(password) >= SHORTEST_SECRET else [])}


def _without_value(found: re.Match[str]) -> str:
    """The name with its value removed; quotes stay, so that JSON stays JSON."""
    quote = found["value"][0] if found["value"][0] in "\"'" else ""
    return f"{found['name']}{found['between']}{quote}{REMOVED}{quote}"


def _lines(path: Path) -> set[str]:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_SECRET).decode("utf-8", "replace")
    except (OSError, ValueError):
        return set()
    lines = {line.strip() for line in text.splitlines()}
    return {line for line in lines if len(line) >= SHORTEST_SECRET and not line.startswith("-----")}


def _field(key: object, field: str) -> str:
    """Entries of a table that is shown are shown: ``tags = {speed = "ns=2;s=V"}``."""
    return field if field in ("tags", "units") else str(key)


def _key(key: object) -> str:
    return scrubbed(str(key))
