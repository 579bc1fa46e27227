# SPDX-License-Identifier: Apache-2.0
"""What the file-based sources share: text lines, plain or gzipped, and numbers in them."""

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import BinaryIO, NoReturn

from fedmill_agent.fields.cells import Encoding
from fedmill_shared.errors import DataError

LONGEST_LINE = 4 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_ENCODING_REMEDY = "convert the file to UTF-8; a CSV source has an option `encoding`"


def open_binary(path: str) -> BinaryIO:
    """``path`` opened for reading bytes.

    Raises:
        DataError: it is missing, a folder, or may not be read.
    """
    try:
        # pathlib would turn a folder into an error only at the first read
        return open(path, "rb")  # noqa: PTH123  the caller owns and closes it
    except OSError as error:
        _refuse(path, error)


def lines(path: str, encoding: Encoding = "utf-8") -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of every line of a file, gzipped or not.

    Memory is bounded by one line of at most 4 MiB; gzip is told by content, not by name.

    Raises:
        DataError: the file cannot be opened, is not text, is damaged, or has a longer line.
    """
    with open_binary(path) as raw:
        try:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            source = gzip.GzipFile(fileobj=raw) if packed else raw
            number = 0
            while line := source.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise DataError(
                        f"{path}: line {number} is longer than {LONGEST_LINE} bytes",
                        remedy="check that the file is the text file the source expects",
                    )
                yield number, _decoded(line, encoding, first=number == 1)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: line {number} is not {encoding.upper()} text", remedy=_ENCODING_REMEDY
            ) from error
        except (OSError, EOFError, zlib.error) as error:
            _refuse(path, error)


def number_rows(path: str) -> Iterator[tuple[int, list[float]]]:
    """Line number and numbers of every line with something on it; blanks separate numbers.

    Raises:
        DataError: the file cannot be read, or a cell is not a number.
    """
    for number, line in lines(path):
        cells = line.split()
        if cells:
            yield number, [cell_number(path, number, i + 1, c) for i, c in enumerate(cells)]


def cell_number(path: str, line: int, column: int | str, text: str) -> float:
    """The number in one cell; ``nan`` is NaN, an infinity is not a number.

    Raises:
        DataError: naming file, line, column and value.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if math.isinf(value) or "_" in text:
        raise DataError(
            f"{path}: line {line}, column {column}: {text[:40]!r} is not a number",
            remedy="correct the cell or leave it empty; decimals are written with a point",
        )
    return value


def positions(path: str, tags: Sequence[str], known: Sequence[str]) -> list[int]:
    """Where each of ``tags`` stands in ``known``, the columns of ``path``.

    Raises:
        DataError: a tag is none of them, or several of them; it lists what there is.
    """
    for tag in tags:
        if known.count(tag) != 1:
            problem = "there is no" if tag not in known else "there is more than one"
            hint = f"did you mean {near!r}? " if (near := _meant(tag, known)) else ""
            raise DataError(
                f"{path}: {problem} tag {tag!r}; tags are {shorten(known)}",
                remedy=f"{hint}map the signal to one of them under `tags` of the source, or with "
                "--tag of replay",
            )
    return [known.index(tag) for tag in tags]


def _meant(tag: str, known: Sequence[str]) -> str:
    """The column that ``tag`` probably names, whatever its case; empty if it is there, or none."""
    from fedmill_shared.nearest import nearest  # noqa: PLC0415  only a mistake needs it

    if tag in known:
        return ""
    names = {each.lower(): each for each in known}
    near = nearest(tag.lower(), names)
    return names[near] if near else ""


def rate_factor(path: str, own_hz: float, rate_hz: float) -> int:
    """How many times as fast a file is that tells ``own_hz`` (0: nothing) as a job at ``rate_hz``.

    Raises:
        DataError: the one is no whole multiple of the other.
    """
    ratio = (own_hz or rate_hz) / rate_hz
    factor = round(ratio)
    if factor < 1 or abs(ratio - factor) > 1e-6 * ratio:
        raise DataError(
            f"{path}: has {own_hz:g} samples per second, the job wants {rate_hz:g}",
            remedy="resample the file, or set the job's rate to that of the file or a whole part",
        )
    return factor


def stem(path: str) -> str:
    """File name without folder, ``.gz`` and extension: ``a/train_FD001.txt.gz`` -> train_FD001."""
    name = PurePath(path).name
    return PurePath(name.removesuffix(".gz")).stem


def shorten(names: Sequence[str], most: int = 60) -> str:
    """``names`` as text for a message, cut after ``most`` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _decoded(line: bytes, encoding: Encoding, *, first: bool) -> str:
    return line.decode("utf-8-sig" if first and encoding == "utf-8" else encoding)


def _refuse(path: str, error: OSError | EOFError | zlib.error) -> NoReturn:
    if isinstance(error, OSError) and error.strerror:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}",
            remedy="check the path and that the service user may read it",
        ) from error
    raise DataError(
        f"{path}: is damaged: {error}", remedy="copy the file again from where it came"
    ) from error
