# SPDX-License-Identifier: Apache-2.0
"""Values in JSON documents by path, and what such a value is as a reading.

A path is the part of JSONPath (RFC 9535) that names one place: ``$.motor.speed``,
``values[0].v``, ``values[-1]``, ``["name with.dots"]`` and ``metrics[?@.name=='speed'].value``, the
first element of a list whose member is that text or number. The leading ``$.`` can be left out.
Without a path, or with ``$``, it is the document itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

LONGEST = 500
"""Characters of a path."""
DEEPEST = 32
"""Steps of a path, and levels of a document that are listed."""

_NUMBER = r"-?(?:0|[1-9]\d*)(?:\.\d+)?"
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_STEP = re.compile(
    rf"""\.?(?P<name>[^.\[\]'"\s?*$][^.\[\]'"]*)
    |\[(?P<index>-?\d{{1,9}})\]
    |\[(?P<quoted>{_QUOTED})\]
    |\[\?\(?@(?:\.(?P<key>[\w-]+)|\[(?P<key_quoted>{_QUOTED})\])\s*==\s*
      (?:(?P<text>{_QUOTED})|(?P<number>{_NUMBER}))\)?\]""",
    re.VERBOSE,
)
_PLAIN = re.compile(r"[^.\[\]'\"\s?*$][^.\[\]'\"]*")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_NAMES = ("name", "id", "tag", "key")


@dataclass(frozen=True, slots=True)
class Match:
    """The step to the first element of a list whose member ``key`` is ``value``."""

    key: str
    value: str | float


Step = str | int | Match


@dataclass(frozen=True, slots=True)
class JsonPath:
    """Where a value stands: names, positions (negative ones from the end) and matches."""

    text: str
    steps: tuple[Step, ...]

    def find(self, document: object) -> object:
        """What stands there.

        Raises:
            Nowhere: nothing does.
        """
        place, found = "", document
        for step in self.steps:
            found = _next(found, step, place or "the document")
            place += _shown(step)
        return found


class Nowhere(LookupError):  # noqa: N818  named for what it says of a path
    """Nothing stands there; in words, with what there is instead."""


class Broken(ValueError):  # noqa: N818  named for what it says of a document
    """What came is no JSON, or larger or deeper than it may be."""


def parse(text: str) -> JsonPath:
    """The path that ``text`` writes.

    Raises:
        ValueError: it is none; says where it breaks off.
    """
    if len(text) > LONGEST:
        raise ValueError(f"path of {len(text)} characters, at most {LONGEST} are possible")
    at = 1 if text.startswith("$") else 0
    steps: list[Step] = []
    while at < len(text):
        found = _STEP.match(text, at)
        # a name that is not the first needs its full stop
        bare = found is not None and found["name"] is not None and text[at] != "."
        if found is None or (bare and at > 0) or (at == 0 and text[0] == "."):
            raise ValueError(
                f"path {text!r} cannot be read from character {at + 1} on; write it like "
                "motor.speed, values[0].v, [\"a.b\"] or metrics[?@.name=='speed'].value"
            )
        steps.append(_step(found))
        at = found.end()
    if len(steps) > DEEPEST:
        raise ValueError(f"path {text!r} has {len(steps)} steps, at most {DEEPEST} are possible")
    return JsonPath(text, tuple(steps))


def decode(body: bytes, most: int) -> object:
    """The document in ``body``; NaN and Infinity, which some programs write, are numbers.

    Raises:
        Broken: it is no JSON, or longer than ``most`` bytes, or too deep.
    """
    if len(body) > most:
        raise Broken(f"{len(body)} bytes, at most {most} are read")
    try:
        found: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise Broken(f"no JSON: {error}") from error
        return _lenient(body)
    return found


def leaves(document: object, most: int) -> Iterator[tuple[str, object]]:
    """Path and value of the numbers, texts and truths in ``document``, ``most`` of them.

    Elements of a list that have a name are matched by it, others by their position.
    """
    waiting: list[tuple[str, int, object]] = [("", 0, document)]
    while waiting and most > 0:
        path, depth, value = waiting.pop()
        if len(path) > LONGEST:
            continue  # none that could be written as a tag
        if not isinstance(value, dict | list):
            yield path or "$", value
            most -= 1
        elif depth < DEEPEST:
            some = islice(_members(value, path), most)
            children = [(path + step, depth + 1, child) for step, child in some]
            waiting.extend(reversed(children))


NOT_A_NUMBER: Final = float("nan")


def number(value: object) -> tuple[float, str]:
    """A JSON value as a number, and as text where it is none (NaN): a truth is 1 or 0."""
    if isinstance(value, bool | int | float):
        return _float(value), ""
    if isinstance(value, str):
        return number_in(value)
    if value is None:
        return NOT_A_NUMBER, ""
    return NOT_A_NUMBER, "a list" if isinstance(value, list) else "an object"


def number_in(text: str) -> tuple[float, str]:
    """The number that ``text`` writes, with a full stop; else NaN and the text."""
    try:
        # Python reads digits with _ between them; nobody else does
        return (NOT_A_NUMBER, text) if "_" in text else (float(text), "")
    except ValueError:
        return NOT_A_NUMBER, text


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return float("inf") if value > 0 else -float("inf")


def _lenient(body: bytes) -> object:
    import json  # noqa: PLC0415  only where somebody writes what is no JSON

    try:
        found: object = json.loads(body)
        if _HALF.search(body):  # two halves make a character; one alone can be kept nowhere
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Broken(f"no JSON: {error}") from error
    return found


def _step(found: re.Match[str]) -> Step:
    if found["name"] is not None:
        return found["name"].strip()
    if found["index"] is not None:
        return int(found["index"])
    if found["quoted"] is not None:
        return _unquoted(found["quoted"])
    key = found["key"] or _unquoted(found["key_quoted"])
    return Match(key, _unquoted(found["text"]) if found["text"] else float(found["number"]))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _next(found: object, step: Step, place: str) -> object:
    if isinstance(step, str):
        if not isinstance(found, dict):
            raise Nowhere(f"{place} is {_kind(found)}, so it has no {step!r}")
        if step not in found:
            raise Nowhere(f"{place} has no {step!r}, only {_some(found)}")
        return found[step]
    if not isinstance(found, list):
        raise Nowhere(f"{place} is {_kind(found)} and no list")
    if isinstance(step, int):
        if not -len(found) <= step < len(found):
            raise Nowhere(f"{place} has {len(found)} elements, so none at {step}")
        return found[step]
    for each in found:
        if isinstance(each, dict) and each.get(step.key) == step.value:
            return each
    raise Nowhere(f"{place} has no element with {step.key} {step.value!r}")


def _kind(found: object) -> str:
    if found is None:
        return "null"
    if isinstance(found, bool | int | float):
        return "a number"
    if isinstance(found, str):
        return "a text"
    return "a list" if isinstance(found, list) else "an object"


def _some(found: dict[object, object]) -> str:
    names = [str(name)[:40] for name in list(found)[:6]]
    return ", ".join(names) + (", ..." if len(found) > len(names) else "") if names else "nothing"


def _members(value: dict[object, object] | list[object], path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, child in value.items():
            step = _shown(str(name))
            yield step if path else step.removeprefix("."), child
        return
    names = _names(value)
    for position, child in enumerate(value):
        yield _shown(names[position] if names else position), child


def _names(value: list[object]) -> list[Match]:
    """What tells the elements of a list apart, if a member of them does."""
    elements = [each for each in value if isinstance(each, dict)]
    for key in _NAMES:
        told = [each.get(key) for each in elements]
        texts = [each for each in told if isinstance(each, str)]
        if texts and len(set(texts)) == len(value):
            return [Match(key, each) for each in texts]
    return []


def _shown(step: Step) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if isinstance(step, Match):
        shown = _quoted(step.value) if isinstance(step.value, str) else f"{step.value:g}"
        return f"[?@.{step.key}=={shown}]"
    plain = _PLAIN.fullmatch(step) and step == step.strip()
    return f".{step}" if plain else f"[{_quoted(step)}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
