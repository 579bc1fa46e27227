# SPDX-License-Identifier: Apache-2.0
"""Which agents a job is for: an expression over the labels that agents have.

>>> parse('line == "A" and "press" in tags').matches({"line": "A", "tags": ["press"]})
True

It is Python's syntax, cut down to ``and``, ``or``, ``not``, comparisons (also chained, as in
``1 < rate <= 5``), labels, texts, numbers, True, False, and lists of these values. Nothing is ever
run, and a text can be neither long nor deep.

The id of an agent is there as ``agent``, beside its labels.

A label by itself is true unless it is missing, False, zero or empty. Where Python would raise, a
comparison is simply false: with a missing label, of unlike types (text, number, True or False,
list), or in order of anything but texts and numbers. ``!=`` and ``not in`` are comparisons like the
others, and ``not x`` is true wherever ``x`` is false: an agent without ``line`` does not match
``line != "A"`` and does match ``not line == "A"``.
"""

import keyword
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedmill_shared.errors import JobError
from fedmill_shared.lean import without
from fedmill_shared.toml.words import show

with without(later={"ast": {}}):  # most jobs are for everybody
    import ast

Label = str | bool | int | float | list[str]
"""What an agent may say of itself under one name."""

AGENT = "agent"
"""Name under which a selector finds the id of an agent, as if it were one of its labels."""
LABEL_NAME = r"^[a-z][a-z0-9_]{0,31}\Z"
LONGEST = 500
"""Characters of the longest selector."""
DEEPEST = 16
"""Most brackets in brackets, and uses of ``not``."""

_Value = Label | tuple[str | bool | int | float, ...] | None

_BLANKS = " \t\r\n"
_BREAKS = str.maketrans("\t\r\n", "   ")
_TOKEN = re.compile(
    r"[ \t\r\n]*(?:"
    r"(?P<word>[A-Za-z_][A-Za-z0-9_]*)(?![\"'])"  # a prefix would change what the quotes mean
    r"|(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_.])"
    r"|(?P<text>\"(?:[^\"\\]|\\[\"'\\])*\"|'(?:[^'\\]|\\[\"'\\])*')"
    r"|(?P<open>[(\[])"
    r"|(?P<close>[)\]])"
    r"|(?P<sign>[=!<>]=|[<>,])"
    r")"
)
_JOINS = frozenset({"and", "or", "not", "in"})
_TOML_BOOLS = frozenset({"true", "false"})
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
}
_REMEDY = 'write it as in: line == "A" and "press" in tags'
_QUOTE_REMEDY = "close the quote; before a quote or a backslash in a text write a backslash"
_REMEDIES = {
    "=": "write == to compare",
    "&": "write and",
    "|": "write or",
    "!": "write not, or != to compare",
    '"': _QUOTE_REMEDY,
    "'": _QUOTE_REMEDY,
    "true": "write True",
    "false": "write False",
}
_SHOWN = 60
"""Characters of a value that an error or a reason shows."""
_TOLD = 3
"""Labels that one reason names."""


@dataclass(frozen=True, slots=True)
class Selector:
    """An expression that was read.

    Attributes:
        text: as it was written.
        names: labels that it asks for.
        tree: its syntax, checked; None matches everybody.
    """

    text: str
    names: frozenset[str]
    tree: "ast.expr | None" = field(default=None, repr=False, compare=False)

    def matches(self, labels: Mapping[str, Label]) -> bool:
        """Whether an agent with ``labels`` is meant."""
        return self.tree is None or _is_true(self.tree, labels)

    def unmet(self, labels: Mapping[str, Label]) -> str:
        """What the first ``and`` part that fails found in ``labels``; nothing if all hold."""
        for part in _conjuncts(self.tree):
            if not _is_true(part, labels):
                names = list(dict.fromkeys(_names(part)))
                return " and ".join(_told(name, labels) for name in names[:_TOLD])
        return ""


def labels_of(agent: str, labels: Mapping[str, Label]) -> dict[str, Label]:
    """All that a selector may ask of ``agent``: its ``labels`` and its id."""
    return {**labels, AGENT: agent}


def literal(value: str | float) -> str:
    """A text, number or truth value as a selector writes it."""
    if not isinstance(value, str):
        return repr(value)
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def valid_label_name(name: str) -> bool:
    """Whether a label may be called ``name``, so that a selector can ask for it."""
    word = keyword.iskeyword(name) or name in _TOML_BOOLS
    return re.match(LABEL_NAME, name) is not None and not word


def parse(text: str) -> Selector:
    """``text`` as a selector; an empty one matches everybody.

    Raises:
        JobError: naming the text, where it is wrong, and what to write.
    """
    if len(text) > LONGEST:
        raise JobError(
            f"selector {show(text)} has {len(text)} characters, at most {LONGEST} are read",
            remedy="give the agents one label for what it asks",
        )
    line = text.strip(_BLANKS)  # Python takes blanks for indentation
    if not line:
        return Selector(text, frozenset())
    _check_tokens(line)
    tree = _syntax(line)
    _check_condition(tree, line)
    return Selector(text, frozenset(_names(tree)), tree)


def _wrong(line: str, at: int, problem: str, remedy: str = _REMEDY) -> JobError:
    return JobError(f"selector {show(line)}, character {at + 1}: {problem}", remedy=remedy)


def _check_tokens(line: str) -> None:
    """Refuse what no selector has before Python's parser meets it.

    That one warns, and needs a level of its stack for each bracket, call, attribute or sign.
    """
    at = brackets = nots = 0
    after_operand = False
    while at < len(line):
        found = _TOKEN.match(line, at)
        if found is None or not found[0].lstrip(_BLANKS).isprintable():
            at = len(line) - len(line[at:].lstrip(_BLANKS))
            remedy = _REMEDIES.get(line[at], _REMEDY)
            raise _wrong(line, at, f"{show(line[at])} means nothing here", remedy)
        kind, word = str(found.lastgroup), found[0].lstrip(_BLANKS)
        at = found.end() - len(word)
        is_operand = kind in ("number", "text") or (kind == "word" and word not in _JOINS)
        if after_operand and (is_operand or kind == "open"):
            raise _wrong(line, at, f"expected an operator, and or or, found {show(word)}")
        if kind == "word" and word not in _JOINS | {"True", "False"}:
            _check_name(line, at, word)
        if kind == "number" and not _is_ordinary(word):
            raise _wrong(line, at, f"{word[:_SHOWN]} is not a finite 64-bit number")
        brackets += (kind == "open") - (kind == "close")
        nots += word == "not"
        if max(brackets, nots) > DEEPEST:
            problem = f"over {DEEPEST} brackets in brackets, or uses of not"
            raise _wrong(line, at, problem, "write it flatter")
        after_operand = is_operand or kind == "close"
        at = found.end()


def _check_name(line: str, at: int, name: str) -> None:
    if not valid_label_name(name):
        remedy = "labels are small letters, digits and _; texts stand in quotes"
        raise _wrong(line, at, f"{show(name)} can be no label", _REMEDIES.get(name, remedy))


def _is_ordinary(number: str) -> bool:
    """Whether a label can have this number, and Python reads it as people do."""
    if any(mark in number for mark in ".eE"):
        return math.isfinite(float(number))
    return str(abs(int(number))) == number.lstrip("-") and abs(int(number)) < 2**63


def _syntax(line: str) -> "ast.expr":
    try:
        return ast.parse(line.translate(_BREAKS), mode="eval").body  # no text has one
    except SyntaxError as error:
        at = error.offset - 1 if error.offset else len(line)  # 0 is the end
        raise _wrong(line, at, f"cannot be read: {error.msg}") from error


def _check_condition(node: "ast.expr", line: str) -> None:
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                _check_condition(part, line)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            _check_condition(part, line)
        case ast.Compare(left=left, comparators=others):
            for operand in (left, *others):
                _check_operand(operand, line)
            if not any(_names(node)):
                remedy = "write labels without quotes"
                raise _wrong_at(node, line, "nothing here is a label", remedy)
        case ast.Name():
            return
        case _:
            remedy = "compare it with a label; write labels without quotes"
            raise _wrong_at(node, line, "a value is no condition", remedy)


def _check_operand(node: "ast.expr", line: str) -> None:
    items = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
    for item in items:
        if isinstance(item, ast.Name) and item is node:
            continue
        if not _is_constant(item):
            problem = "expected a label, a text, a number, True, False or a list of these values"
            raise _wrong_at(item, line, problem)


def _is_constant(node: "ast.expr") -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant)


def _wrong_at(node: "ast.expr", line: str, problem: str, remedy: str = _REMEDY) -> JobError:
    at = len(line.encode()[: node.col_offset].decode())  # Python counts bytes
    return _wrong(line, at, problem, remedy)


def _names(node: "ast.expr") -> Iterator[str]:
    """Labels in the order in which they are written."""
    match node:
        case ast.Name(id=name):
            yield name
        case ast.BoolOp(values=parts):
            for part in parts:
                yield from _names(part)
        case ast.Compare(left=left, comparators=others):
            for part in (left, *others):
                yield from _names(part)
        case ast.UnaryOp(operand=part):
            yield from _names(part)


def _conjuncts(node: "ast.expr | None") -> "Iterator[ast.expr]":
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        for part in node.values:
            yield from _conjuncts(part)
    elif node is not None:
        yield node


def _is_true(node: "ast.expr", labels: Mapping[str, Label]) -> bool:
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_is_true(part, labels) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_is_true(part, labels) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return not _is_true(part, labels)
        case ast.Compare(left=left, ops=signs, comparators=others):
            values = [_value(operand, labels) for operand in (left, *others)]
            return all(map(_holds, signs, values, values[1:]))
    return bool(_value(node, labels))


def _value(node: "ast.expr", labels: Mapping[str, Label]) -> _Value:
    if isinstance(node, ast.Name):
        return labels.get(node.id)
    value: _Value = ast.literal_eval(node)  # constants only, as they were checked to be
    return value


def _holds(sign: "ast.cmpop", left: _Value, right: _Value) -> bool:
    """Whether one comparison is true; where it has no meaning it is not."""
    if left is None or right is None:
        return False
    if isinstance(sign, ast.In | ast.NotIn):
        return _contains(right, left) is isinstance(sign, ast.In)
    if _kind(left) != _kind(right):
        return False
    if isinstance(sign, ast.Eq | ast.NotEq):
        return _equal(left, right) is isinstance(sign, ast.Eq)
    return _kind(left) in ("text", "number") and _ORDERS[type(sign).__name__](left, right)


def _contains(whole: _Value, part: _Value) -> bool | None:
    """Whether ``part`` is an item of a list or a piece of a text; None where it can be neither."""
    if isinstance(whole, list | tuple) and not isinstance(part, list | tuple):
        return any(_equal(item, part) for item in whole)
    return part in whole if isinstance(whole, str) and isinstance(part, str) else None


def _equal(left: _Value, right: _Value) -> bool:
    """Equality in which 1 is not True, and the brackets of a list do not matter."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    return _kind(left) == _kind(right) and left == right


def _kind(value: _Value) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "list"


def _told(name: str, labels: Mapping[str, Label]) -> str:
    if name not in labels:
        return f"there is no label {name}"
    value = repr(labels[name])
    return f"{name} is {value if len(value) <= _SHOWN else value[:_SHOWN] + '...'}"
