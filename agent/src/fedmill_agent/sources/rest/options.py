# SPDX-License-Identifier: Apache-2.0
"""How a web server is asked for values."""

import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta

from fedmill_agent.fields import web
from fedmill_agent.fields.cells import Cells, Decimal, Delimiter, tell_apart
from fedmill_agent.fields.signing_in import LOCAL, PasswordFile, go_together
from fedmill_agent.sources import json_path
from fedmill_agent.sources.live import PolledOptions
from fedmill_agent.sources.timeline import TimeUnit

SINCE = "{since}"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_SECRET = re.compile(r"authorization|cookie|token|key|secret|password", re.IGNORECASE)


class RestOptions(PolledOptions, frozen=True, kw_only=True, tag="rest"):
    """A web server that is asked for values with GET. A tag is a path in what it answers."""

    url: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=2000,
            description="What is asked, http or https. `{since}` in it stands for the time of the "
            "newest record that came. A tag `other/page#path` asks another page of the server.",
        ),
    ] = "http://127.0.0.1/"
    format: Annotated[
        Literal["json", "csv", "text"],
        Meta(
            description="Of the answer: JSON; CSV with a header, tags are its columns; or one "
            "single number, whatever its tag."
        ),
    ] = "json"
    records: Annotated[
        str,
        Meta(
            description="JSON: path of a list of records, each with a time and values, that all "
            "count; paths of tags begin in a record. Empty: the answer is one record."
        ),
    ] = ""
    time_path: Annotated[
        str,
        Meta(
            description="Path of the time, ISO 8601 or a number, in a record; `@.` before it "
            "begins beside each value; CSV: a column. Empty: values are as old as the answer."
        ),
    ] = ""
    time_unit: TimeUnit = "s"
    quality_path: Annotated[
        str,
        Meta(
            description="Path of the quality, as that of the time: true, 192 to 255 or good for "
            "good; 500, 64 to 127, uncertain or stale for stale. Empty: what comes is good."
        ),
    ] = ""
    delimiter: Annotated[Delimiter, Meta(description="CSV: what separates cells.")] = ","
    decimal: Annotated[
        Decimal, Meta(description="CSV and text: what separates whole and fraction of a number.")
    ] = "."
    missing: Annotated[Cells, Meta(description="CSV and text: what stands for no value.")] = []  # noqa: RUF012  msgspec copies an empty list
    since_format: Annotated[
        Literal["iso", "s", "ms", "us", "ns"],
        Meta(description="How `{since}` is written: ISO 8601, or a whole number since 1970."),
    ] = "iso"
    history_seconds: Annotated[
        float,
        Meta(ge=0.0, le=31_536_000.0, description="How far back (s) the very first `{since}` is."),
    ] = 0.0
    headers: Annotated[
        dict[str, str], Meta(description="Further header fields; none that holds a secret.")
    ] = msgspec.field(default_factory=dict)
    user: web.User = ""
    password_file: PasswordFile = ""
    token_file: web.TokenFile = ""
    token_header: web.TokenHeader = "Authorization"  # noqa: S105  a name
    plain_password: web.PlainPassword = False
    ca_file: web.CaFile = ""
    certificate_file: web.CertificateFile = ""
    key_file: web.KeyFile = ""
    timeout_seconds: web.TimeoutSeconds = 5.0
    largest_bytes: Annotated[
        int, Meta(ge=1, le=1 << 26, description="Size of the largest answer that is read.")
    ] = 1 << 20
    position_file: Annotated[
        str,
        Meta(
            description="File that keeps the time of the newest record; empty for one in the "
            "agent's state folder."
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        split = self._checked_url()
        self._check_paths()
        self._check_secrets(split)
        if self.format == "csv":
            tell_apart(self)
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or not value.isprintable():
                raise ValueError(f"`headers` has {name!r}, which is no header field")
            if _SECRET.search(name):
                raise ValueError(
                    f"`headers` has {name!r}: write `token_file` and `token_header`, so that the "
                    "secret is in a file of its own"
                )

    def _checked_url(self) -> SplitResult:
        try:
            split = urlsplit(self.url)
            split.port  # noqa: B018  raises where it is no number
        except ValueError as error:
            raise ValueError(f"`url` {self.url!r}: {error}") from error
        if split.scheme not in ("http", "https") or not split.hostname:
            raise ValueError(f"`url` {self.url!r} is not like http://host:port/path")
        if "@" in split.netloc:
            raise ValueError("`url` names a user: write `user` and `password_file` instead")
        if not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise ValueError(f"`url` {self.url!r} has characters that must be written as %xx")
        return split

    def _check_paths(self) -> None:
        paths = ("records", "time_path", "quality_path") if self.format == "json" else ()
        for field in paths:
            try:
                json_path.parse(getattr(self, field).removeprefix("@."))
            except ValueError as error:
                raise ValueError(f"`{field}`: {error}") from error
        if self.records and (self.format != "json" or not self.time_path):
            raise ValueError('`records` needs format = "json" and a `time_path`')
        if self.records and self.time_path.startswith("@."):
            raise ValueError("`time_path` begins in a record where there are `records`")
        if SINCE in self.url and not self.time_path:
            raise ValueError(f"`url` has {SINCE}, which needs a `time_path`")

    def _check_secrets(self, split: SplitResult) -> None:
        go_together(self, "user", "password_file")
        if ":" in self.user or not self.user.isprintable():
            raise ValueError("`user` has a colon or a character that cannot be printed")
        if self.user and self.token_file and self.token_header.lower() == "authorization":
            raise ValueError("`user` and `token_file` would both be sent as Authorization")
        if not _HEADER.fullmatch(self.token_header):
            raise ValueError(f"`token_header` {self.token_header!r} is no header field")
        go_together(self, "certificate_file", "key_file")
        open_to_all = split.scheme == "http" and split.hostname not in LOCAL
        if open_to_all and (self.user or self.token_file) and not self.plain_password:
            raise ValueError(
                "the password would be sent where others can read it: use https, or write "
                "`plain_password = true`"
            )
