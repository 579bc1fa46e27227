# SPDX-License-Identifier: Apache-2.0
"""Labels that a web server answers with. The same answer again is not read again."""

from http import HTTPStatus

from fedmill_agent.labels.decode import MOST_LABELS, Decoded, Shape, from_json
from fedmill_agent.labels.options import LabelOptions, RestLabels
from fedmill_agent.sources import json_path
from fedmill_agent.sources.pace import Pace
from fedmill_agent.sources.rest.client import Client, TooLarge
from fedmill_agent.sources.rest.opening import client_of
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ConfigError, DataError, SourceError
from fedmill_shared.files import sha256


class RestInput:
    """Owns the connection."""

    def __init__(self, options: RestLabels, client: Client, shape: Shape, clock: Clock) -> None:
        """Prepare; nothing is asked yet."""
        self._options = options
        self._client = client
        self._shape = shape
        self._path = json_path.parse(options.records) if options.records else None
        self._pace = Pace(options.interval_seconds, clock)
        self._known = ""

    def read(self, timeout: float) -> Decoded:
        """See ``LabelInput``.

        Raises:
            SourceError: the server cannot be reached, or answers with something else.
            DataError: its answer is too large.
        """
        if not self._pace.due(timeout):
            return Decoded()
        try:
            answer = self._client.get(self._options.url, {})
        except TooLarge as error:
            told = f"{self._client.place}: the answer has over {self._options.largest_bytes} bytes"
            raise DataError(told, remedy="raise `largest_bytes`, or ask for less") from error
        if answer.status != HTTPStatus.OK:
            told = answer.told or f"answers {answer.status} {answer.reason}"
            raise SourceError(
                f"{self._client.place}: {told}",
                remedy="check `url`, and `user`, `password_file` or `token_file`",
            )
        digest = sha256(answer.body)
        if digest == self._known:
            return Decoded()
        self._known = digest
        return self._decoded(answer.body)

    def close(self) -> None:
        """See ``LabelInput``."""
        self._client.close()

    def _decoded(self, body: bytes) -> Decoded:
        place = self._client.place
        if self._path is None:
            return from_json(body, place, self._shape)
        found = Decoded()
        try:
            rows = self._path.find(json_path.decode(body, self._options.largest_bytes))
        except (json_path.Broken, json_path.Nowhere) as error:
            told = f"{place}: the answer cannot be used: {error}"
            found.refuse(DataError(told, remedy="correct `records`"))
            return found
        for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
            if number > MOST_LABELS:
                told = f"{place}: only the first {MOST_LABELS} labels are read"
                found.refuse(DataError(told, remedy="ask for less at a time"))
                break
            found.add(row, f"{place}: label {number}", self._shape)
        return found


def open_labels(options: LabelOptions, shape: Shape, clock: Clock) -> RestInput:
    """Labels of a web server.

    Raises:
        ConfigError: a file with a secret or a certificate cannot be used.
    """
    if not isinstance(options, RestLabels):
        raise ConfigError(f"labels {options.name!r} are no web server")
    return RestInput(options, client_of(options.server()), shape, clock)
