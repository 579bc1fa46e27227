# SPDX-License-Identifier: Apache-2.0
"""On which line of a TOML text a field is written.

``tomllib`` forgets lines once a text is parsed. This scanner reads a text that ``tomllib`` has
already accepted (TOML 1.0.0, https://toml.io/en/v1.0.0), follows one field, and keeps nothing else.
"""

import re
import tomllib
from collections.abc import Iterator

Field = tuple[str | int, ...]
"""Names of tables and keys, and positions in arrays, from the top: ``("signals", 2, "unit")``."""

_END = ""
_TOKEN = re.compile(
    r'"""(?:[^"\\]++|\\.|""?(?!"))*+"{3,5}'  # may end in two quotes of its own
    r"|'''(?:[^']++|''?(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'[^'\n]*+'"
    r"|#[^\n]*"
    r"|\n"
    r"|[\[\]{}=,.]"
    r"|[^\s\[\]{}=,.#\"']+",
    re.DOTALL,
)


def line_of(text: str, field: Field) -> int:
    """Line (from 1) of ``field``, else of the innermost table around it, else 1."""
    reader = _Reader(text, field)
    reader.read()
    return reader.found[max(reader.found)]


def line_of_long_key(text: str, most: int) -> int | None:
    """Line of the first key or header with more than ``most`` dotted parts, in any text.

    ``tomllib`` needs memory by the square of their number: 20 kB of dots would take 400 MB.
    """
    dots = 0
    previous = _END
    for word, line in _tokens(text):
        if word == ".":
            dots += 1
        elif previous != ".":
            dots = 0
        if dots >= most:
            return line
        previous = word
    return None


class _Reader:
    """Walks the tokens once and notes where ``target`` and the tables around it are."""

    def __init__(self, text: str, target: Field) -> None:
        self.found: dict[int, int] = {0: 1}  # how many leading parts of the target -> line
        self._target = target
        self._elements: dict[Field, int] = {}  # [[array]] -> elements so far
        self._tokens = _tokens(text)
        self._next, self._line = next(self._tokens)

    def read(self) -> None:
        """Read every statement."""
        table: Field = ()
        while self._next != _END:
            if self._next == "\n":
                self._take()
            elif self._next == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Field:
        line = self._line
        self._take()
        is_array = self._next == "["
        if is_array:
            self._take()
        table: Field = ()
        for name in self._key():
            table = self._last_element((*table, name))
        if is_array:
            array = table[:-1] if isinstance(table[-1], int) else table
            index = self._elements.get(array, 0)
            self._elements[array] = index + 1
            self._note(array, line, implied=True)
            table = (*array, index)
        self._take()
        if is_array:
            self._take()
        self._note(table, line)
        return table

    def _last_element(self, table: Field) -> Field:
        elements = self._elements.get(table, 0)
        return (*table, elements - 1) if elements else table

    def _pair(self, table: Field) -> None:
        line = self._line
        field = (*table, *self._key())
        self._take()  # the equals sign
        self._note(field, line)
        self._value(field)

    def _key(self) -> list[str]:
        names = []
        while self._next not in ("=", "]", "\n", _END):
            name = self._take()
            if name != ".":
                names.append(_unquoted(name))
        return names or [_END]

    def _value(self, field: Field) -> None:
        opening = self._take()
        if opening in ("[", "{") and self._target[: len(field)] != field:
            self._skip_brackets()
        elif opening == "[":
            self._array(field)
        elif opening == "{":
            while self._inside("}"):
                self._pair(field)
        elif opening[:1] not in ('"', "'"):  # numbers, dates with a blank, true, false
            while self._next not in (",", "]", "}", "\n", _END):
                self._take()

    def _array(self, field: Field) -> None:
        index = 0
        while self._inside("]"):
            self._note((*field, index), self._line)
            self._value((*field, index))
            index += 1

    def _skip_brackets(self) -> None:
        depth = 1
        while depth and self._next != _END:
            taken = self._take()
            depth += (taken in ("[", "{")) - (taken in ("]", "}"))

    def _inside(self, closing: str) -> bool:
        while self._next in ("\n", ","):
            self._take()
        if self._next in (closing, _END):
            self._take()
            return False
        return True

    def _note(self, field: Field, line: int, *, implied: bool = False) -> None:
        """``field`` is on ``line``; tables around it too, unless a header says otherwise."""
        common = 0
        for part, wanted in zip(field, self._target, strict=False):
            if part != wanted:
                break
            common += 1
            self.found.setdefault(common, line)
        if common == len(field) and not implied:
            self.found[common] = line

    def _take(self) -> str:
        taken = self._next
        self._next, self._line = next(self._tokens, (_END, self._line))
        return taken


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for match in _TOKEN.finditer(text.replace("\r\n", "\n")):
        token = match.group()
        if not token.startswith("#"):
            yield token, line
        line += token.count("\n")
    yield _END, line


def _unquoted(token: str) -> str:
    if token[0] not in ('"', "'"):
        return token
    if "\\" not in token:
        return token[1:-1]
    return str(tomllib.loads(f"key = {token}")["key"])
