# SPDX-License-Identifier: Apache-2.0
"""Tables of configuration fields, written from the types into the pages that describe them.

``python -m fedmill_shared.config_reference docs/agent.md docs/coordinator.md`` rewrites what stands
between ``<!-- fields of module:Type -->`` and ``<!-- end of fields -->`` in each page. The page
names the type, so nothing here knows agents or coordinators.
"""

import inspect as python
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from msgspec import NODEFAULT, Struct, inspect

from fedmill_shared.errors import FedmillError, UsageError
from fedmill_shared.files import write_atomic
from fedmill_shared.toml.place import structs
from fedmill_shared.toml.words import bare, description, show, words

_REGION = re.compile(
    r"(<!-- fields of (?P<module>[\w.]+):(?P<type>\w+) -->\n).*?(<!-- end of fields -->)", re.DOTALL
)
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def rewritten(page: str) -> str:
    """``page`` with every marked region as the types say now.

    Raises:
        UsageError: it marks none, or one names no configuration type.
    """
    if not _REGION.search(page):
        raise UsageError("no region is marked", remedy="write <!-- fields of module:Type -->")
    return _REGION.sub(lambda region: f"{region[1]}{_tables(region)}{region[4]}", page)


def tables(config: type[Struct]) -> str:
    """One table for each section of a configuration file, Markdown."""
    lines = [line for field in _fields(config) for line in _section(field)]
    return "\n".join([*lines, ""])


def main(pages: list[str]) -> int:
    """Rewrite ``pages``; the exit code."""
    try:
        if not pages:
            raise UsageError("name the pages", remedy="config_reference docs/agent.md")
        for page in map(Path, pages):
            write_atomic(page, rewritten(_read(page)).encode())
    except FedmillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _read(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{page}: {error.strerror}", remedy="name a page") from error


def _tables(region: re.Match[str]) -> str:
    try:
        config = getattr(import_module(region["module"]), region["type"])
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{region['module']}:{region['type']} is no type", remedy="correct the marker"
        ) from error
    return tables(config)


def _section(field: inspect.Field) -> Iterator[str]:
    name = field.encode_name
    if not isinstance(bare(field.type), inspect.CollectionType):
        yield from _tables_of(name, field)
        return
    kinds = sorted((struct.cls for struct in structs(field.type)), key=_tag)
    shared = _common_base(kinds)
    yield from _table(f"`[[{name}]]`", shared, _fields(shared))
    for base in _families(kinds, shared):
        members = ", ".join(f"`{_tag(kind)}`" for kind in kinds if issubclass(kind, base))
        title = f"`[[{name}]]` with `{shared.__struct_config__.tag_field}` one of {members}"
        yield from _table(title, base, _added(base))
    for kind in kinds:
        title = f'`[[{name}]]` with `{kind.__struct_config__.tag_field} = "{_tag(kind)}"`'
        yield from _table(title, kind, _added(kind))


def _tables_of(name: str, field: inspect.Field) -> Iterator[str]:
    """The table of a section, and of those inside it."""
    for struct in structs(field.type):
        fields = _fields(struct.cls)
        yield from _table(f"`[{name}]`", struct.cls, fields)
        for inner in fields:
            if not isinstance(bare(inner.type), inspect.CollectionType):
                yield from _tables_of(f"{name}.{inner.encode_name}", inner)


def _families(kinds: list[type[Struct]], shared: type[Struct]) -> list[type[Struct]]:
    """Types between ``shared`` and several of ``kinds``, the most general first."""
    bases = {base: None for kind in kinds for base in reversed(kind.__mro__[1:])}
    between = [base for base in bases if issubclass(base, shared) and base is not shared]
    return [b for b in between if sum(issubclass(kind, b) for kind in kinds) > 1]


def _added(kind: type[Struct]) -> list[inspect.Field]:
    """Fields of ``kind`` that its base does not have, or not with this default and meaning."""
    known = {field.name: field for field in _fields(kind.__mro__[1])}
    return [field for field in _fields(kind) if known.get(field.name) != field]


def _table(title: str, struct: type[Struct], fields: list[inspect.Field]) -> Iterator[str]:
    meanings = dict(_attributes(struct))
    yield f"### {title}\n"
    yield f"{_prose(python.getdoc(struct) or '').partition('Attributes:')[0].strip()}\n"
    if not fields:
        return
    yield "| Field | Accepts | Default | Meaning |"
    yield "|---|---|---|---|"
    for field in fields:
        meaning = description(field.type) or meanings.get(field.name, "")
        cells = f"{words(field.type)} | {_default(field)} | {_prose(meaning)}".replace("\n", " ")
        yield f"| `{field.encode_name}` | {cells} |"
    yield ""


def _fields(struct: type[Struct]) -> list[inspect.Field]:
    info = inspect.type_info(struct)
    return list(info.fields) if isinstance(info, inspect.StructType) else []


def _attributes(struct: type[Struct]) -> Iterator[tuple[str, str]]:
    """Name and meaning of every attribute that the docstrings of ``struct`` and its bases list."""
    for kind in reversed(struct.__mro__):
        listed = python.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
        for name, text in _ATTRIBUTE.findall(listed):
            meaning = " ".join(text.split())
            yield name, meaning[:1].upper() + meaning[1:]


def _common_base(kinds: list[type[Struct]]) -> type[Struct]:
    return next(
        base
        for base in kinds[0].__mro__
        if all(base is not k and issubclass(k, base) for k in kinds)
    )


def _tag(kind: type[Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not NODEFAULT else field.default_factory()
    return "`{}`" if value == {} else f"`{show(value)}`"


def _prose(text: str) -> str:
    """Docstring markup as Markdown, safe inside a table."""
    return text.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
