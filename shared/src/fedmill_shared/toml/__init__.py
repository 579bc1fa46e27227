# SPDX-License-Identifier: Apache-2.0
"""TOML files decoded into types, with errors that name line, field, value and remedy.

>>> load(Path("rig.toml"), Job, JobError)
JobError: rig.toml:14: window.length is "1k": expected an integer of at least 1 and at most 1048576
"""

import re
import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from fedmill_shared.errors import FedmillError
from fedmill_shared.toml.faults import DEEPEST, Fault, explain, extreme
from fedmill_shared.toml.kinds import mistaken
from fedmill_shared.toml.lines import line_of, line_of_long_key
from fedmill_shared.toml.place import Table
from fedmill_shared.toml.words import show

T = TypeVar("T")

LARGEST_FILE = 1 << 20
"""Bytes of the largest file that is read."""

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_REPEATED = re.compile(r"Cannot (overwrite|mutate|declare)")


def load(path: Path, schema: type[T], error: type[FedmillError]) -> T:
    """The file at ``path`` as a ``schema``.

    Raises:
        FedmillError: of class ``error``: the file cannot be read, is no TOML, or does not fit.
    """
    return decode(read(path, error), schema, path=str(path), error=error)


def read(path: Path, error: type[FedmillError]) -> str:
    """The text of the file at ``path``; a byte order mark, as Windows writes it, is dropped.

    Raises:
        FedmillError: of class ``error``: it is missing, unreadable, over 1 MiB or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as problem:
        raise error(
            f"{path}: cannot be read: {problem.strerror or problem}",
            remedy="name an existing file that this user may read",
        ) from problem
    _check_size(len(data), str(path), error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise error(
            f"{path}:{line}: is not UTF-8 text: byte 0x{data[problem.start]:02x}",
            remedy="save the file as UTF-8 in the editor",
        ) from problem


def decode(text: str, schema: type[T], *, path: str, error: type[FedmillError]) -> T:
    """``text`` as a ``schema``; ``path`` only names the file in errors.

    Raises:
        FedmillError: of class ``error``: ``text`` is over 1 MiB, no TOML, another kind of file, or
            does not fit.
    """
    found = fit(parse(text, path, error), schema)
    if isinstance(found, Fault):
        raise fault_error(found, text, path, error)
    return found


def fit(data: Table, schema: type[T], *, strict: bool = True) -> T | Fault:
    """``data`` as a ``schema``, or the first thing that is wrong with it.

    Not ``strict`` takes text for numbers, as a command line has them.
    """
    if fault := extreme(data):
        return fault
    try:
        return msgspec.convert(data, schema, strict=strict)
    except msgspec.ValidationError as error:
        problem = error

    def still_fails() -> bool:
        try:
            msgspec.convert(data, schema, strict=strict)
        except msgspec.ValidationError as again:
            return str(again) == str(problem)
        return False

    info = msgspec.inspect.type_info(schema)
    return mistaken(data, info) or explain(problem, data, info, still_fails)


def fault_error(fault: Fault, text: str, path: str, error: type[FedmillError]) -> FedmillError:
    """``fault`` as an ``error`` that names the line of ``text``."""
    message = f"{path}:{line_of(text, fault.field)}: {fault.message}"
    return error(message, remedy=fault.remedy)


def parse(text: str, path: str, error: type[FedmillError]) -> dict[str, object]:
    """``text`` as plain tables; ``path`` only names the file in errors.

    Raises:
        FedmillError: of class ``error``: ``text`` is over 1 MiB, or no TOML.
    """
    try:
        _check_size(len(text.encode()), path, error)
        if line := line_of_long_key(text, DEEPEST):
            raise error(f"{path}:{line}: a name has over {DEEPEST} parts", remedy="flatten it")
        return tomllib.loads(text)
    except UnicodeEncodeError as problem:
        line = text.count("\n", 0, problem.start) + 1
        raise error(f"{path}:{line}: holds half a character", remedy="retype the line") from problem
    except RecursionError as problem:
        raise error(f"{path}: brackets are nested too deeply", remedy="flatten it") from problem
    except tomllib.TOMLDecodeError as problem:
        raise _syntax_error(str(problem), text, path, error) from problem
    except ValueError as problem:  # Python refuses to read it
        message = f"{path}: holds a number with thousands of digits"
        raise error(message, remedy="write an ordinary number") from problem


def _syntax_error(problem: str, text: str, path: str, error: type[FedmillError]) -> FedmillError:
    match = _POSITION.search(problem)
    lines = text.replace("\r\n", "\n").split("\n")
    line = int(match[1]) if match and match[1] else len(lines)
    column = f":{match[2]}" if match and match[2] else ""
    what = problem[: match.start()] if match else problem
    found = show(lines[line - 1].strip())
    remedy = 'write each field as name = value, text in "quotes", lists in [brackets]'
    if _REPEATED.match(problem):
        remedy = "the same name is written above; keep one of the two"
    return error(f"{path}:{line}{column}: is not TOML: {what}: {found}", remedy=remedy)


def _check_size(size: int, path: str, error: type[FedmillError]) -> None:
    if size > LARGEST_FILE:
        raise error(
            f"{path}: is larger than {LARGEST_FILE} bytes",
            remedy="name the right file; settings fit in a few kilobytes",
        )
