# SPDX-License-Identifier: Apache-2.0
"""From the options of a web server to a session with it, and to a list of what it tells."""

import base64
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedmill_agent.sources import json_path
from fedmill_agent.sources.csv.cells import dialect_of
from fedmill_agent.sources.json_path import Broken, Nowhere
from fedmill_agent.sources.live import Found
from fedmill_agent.sources.position import Position
from fedmill_agent.sources.rest.answers import Cells, Format, Json, Text
from fedmill_agent.sources.rest.client import Client, TooLarge
from fedmill_agent.sources.rest.options import RestOptions
from fedmill_agent.sources.rest.pages import Page, pages_of
from fedmill_agent.sources.rest.session import Place, RestSession
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError, SourceError

MOST_PAGES = 64
"""Of one server; what needs more is better split."""
MOST_LISTED = 10_000
_LONGEST_SECRET = 1 << 16


def open_session(options: RestOptions, tags: Sequence[str], clock: Clock) -> RestSession:
    """Connect and ask the first page.

    Raises:
        SourceError: the server cannot be reached, or refuses us.
        ConfigError: a tag is no path or leads to another server, or a file is missing.
    """
    client, pages = client_of(options), pages_of(options, tags)
    _check(options, client, pages)
    position = Position(options.position_file, Place, clock)
    session = RestSession(options, client, pages, _format(options), position=position, clock=clock)
    try:
        session.begin()
    except SourceError as error:
        client.close()
        raise SourceError(f"source {options.name!r}: {error.message}", remedy=error.remedy) from (
            error
        )
    return session


def listed(options: RestOptions, clock: Clock) -> Iterator[Found]:
    """What the pages that are known answer now: paths of the last record, or columns.

    Raises:
        SourceError: the server cannot be reached, refuses us, or answers something else.
    """
    client, reader = client_of(options), _format(options)
    try:
        for page in pages_of(options, [*options.tags.values(), "$"]):
            answer = client.get(page.asked(options, clock.now_ns()), {})
            if answer.status != 200:
                told = answer.told or f"is answered with {answer.status} {answer.reason}"
                raise SourceError(f"{page.shown} {told}", remedy="check the URL")
            records = reader.records(answer.body)
            before = "" if page.url == options.url else f"{page.url}#"
            for path, value in _leaves(records[-1:], options):
                yield Found(before + path, type=_type(value), value=str(value)[:200])
    except (Broken, Nowhere, TooLarge) as error:
        what = str(error) or f"it has more than {options.largest_bytes} bytes"
        raise SourceError(
            f"source {options.name!r}: the answer cannot be used: {what}",
            remedy="check `url`, `format` and `records`",
        ) from error
    finally:
        client.close()


def _leaves(records: Sequence[object], options: RestOptions) -> Iterator[tuple[str, object]]:
    for record in records:
        if options.format == "csv" and isinstance(record, dict):
            yield from record.items()
        else:
            yield from json_path.leaves(record, MOST_LISTED)


def _type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "truth"
    return "number" if isinstance(value, int | float) else "text"


def _check(options: RestOptions, client: Client, pages: Sequence[Page]) -> None:
    where = f"source {options.name!r}"
    if len(pages) > MOST_PAGES:
        raise ConfigError(
            f"{where}: {len(pages)} pages, at most {MOST_PAGES} are asked",
            remedy="make several sources of it",
        )
    for page in pages:
        if not client.serves(page.url):
            raise ConfigError(
                f"{where}: tag {next(iter(page.tags))!r} leads to another server",
                remedy="make a source of its own for each server",
            )
        for tag, path in page.tags.items():
            if options.format == "json":
                try:
                    json_path.parse(path)
                except ValueError as error:
                    raise ConfigError(f"{where}: tag {tag!r}: {error}") from error


def client_of(options: RestOptions) -> Client:
    """Who asks the server of ``options``; nothing is connected yet.

    Raises:
        ConfigError: a file with a secret or a certificate cannot be used.
    """
    return Client(
        options.url,
        context=_context(options) if options.url.startswith("https") else None,
        headers={**options.headers, **_credentials(options)},
        seconds=options.timeout_seconds,
        largest=options.largest_bytes,
    )


def _context(options: RestOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
        if options.certificate_file:
            context.load_cert_chain(options.certificate_file, options.key_file)
    except (OSError, ValueError) as error:
        files = [options.ca_file, options.certificate_file, options.key_file]
        raise ConfigError(
            f"source {options.name!r}: {', '.join(filter(None, files))}: {error}",
            remedy="give PEM files that the service user may read",
        ) from error
    return context


def _credentials(options: RestOptions) -> dict[str, str]:
    """Header fields that hold a secret."""
    found = {}
    if options.user:
        pair = f"{options.user}:{_secret(options, 'password_file')}".encode()
        found["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    if options.token_file:
        token, name = _secret(options, "token_file"), options.token_header
        found[name] = f"Bearer {token}" if name.lower() == "authorization" else token
    return found


def _secret(options: RestOptions, field: str) -> str:
    path = Path(getattr(options, field))
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_SECRET).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"source {options.name!r}: `{field}` {path}: {getattr(error, 'strerror', '') or error}",
            remedy="check the path and that the service user may read it",
        ) from error
    if not text or not text.isprintable() or (field == "token_file" and not text.isascii()):
        raise ConfigError(
            f"source {options.name!r}: `{field}` {path} is not one line with the secret",
            remedy="write the secret and nothing else into it",
        )
    return text


def _format(options: RestOptions) -> Format:
    if options.format == "json":
        return Json(options.records, options.largest_bytes)
    dialect = dialect_of(options)
    return Cells(dialect) if options.format == "csv" else Text(dialect)
