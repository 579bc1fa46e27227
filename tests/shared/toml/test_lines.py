# SPDX-License-Identifier: Apache-2.0
"""Where a field is written in a TOML text."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.toml.lines import Field, line_of, line_of_long_key

TRICKY = """\
# [decoy] one = 1
title = "a # b = [c]"     # line 2

[owner]                   # 4
"quoted key" = 1
"caf\\u00e9" = 2
'lit"eral' = 3
site.plant.name = "x"     # 8

[text]                    # 10
long = \"\"\"
[decoy]
one = 1 \\\"\"\"
\"\"\"\"\"
after = '''
[[decoy]]''''             # 16
last = 1979-05-27 07:32:00

[numbers]                 # 19
grid = [
  [1, 2],                 # 21
  # ] a comment
  [3,
   4.5],                  # 24
]
point = { x = 1, "y z" = { deep = [7,
  8] } }                  # 27

[[signals]]               # 29
name = "a"
[[signals]]
name = "b"                # 32
[signals.limits]
high = 3                  # 34
[[signals.alarms]]
text = "x"                # 36
[[signals.alarms]]
text = "y"                # 38
[[signals]]
[[signals.alarms]]
text = "z"                # 41
[late.child]
[late]
x = 1                     # 44
"""

KNOWN: list[tuple[Field, int]] = [
    (("title",), 2),
    (("owner",), 4),
    (("owner", "quoted key"), 5),
    (("owner", "café"), 6),
    (("owner", 'lit"eral'), 7),
    (("owner", "site", "plant", "name"), 8),
    (("owner", "site"), 8),
    (("text", "long"), 11),
    (("text", "after"), 15),
    (("text", "last"), 17),
    (("numbers", "grid"), 20),
    (("numbers", "grid", 0), 21),
    (("numbers", "grid", 1, 0), 23),
    (("numbers", "grid", 1, 1), 24),
    (("numbers", "point", "x"), 26),
    (("numbers", "point", "y z", "deep", 0), 26),
    (("numbers", "point", "y z", "deep", 1), 27),
    (("signals",), 29),
    (("signals", 0), 29),
    (("signals", 0, "name"), 30),
    (("signals", 1), 31),
    (("signals", 1, "name"), 32),
    (("signals", 1, "limits", "high"), 34),
    (("signals", 1, "alarms", 0, "text"), 36),
    (("signals", 1, "alarms", 1), 37),
    (("signals", 1, "alarms", 1, "text"), 38),
    (("signals", 2), 39),
    (("signals", 2, "alarms", 0, "text"), 41),
    (("late",), 43),
    (("late", "child"), 42),
    (("late", "x"), 44),
]


class TestTrickyText:
    """One text with everything that looks like something else."""

    def test_it_is_toml(self) -> None:
        """The text is what it pretends to be."""
        data = tomllib.loads(TRICKY)
        for field, _ in KNOWN:
            node = data
            for part in field:
                node = node[part]

    @pytest.mark.parametrize(("field", "line"), KNOWN)
    def test_line(self, field: Field, line: int) -> None:
        """Each field is found on its own line."""
        assert line_of(TRICKY, field) == line

    @pytest.mark.parametrize(("field", "line"), KNOWN)
    def test_windows_line_ends(self, field: Field, line: int) -> None:
        """Carriage returns change nothing."""
        assert line_of(TRICKY.replace("\n", "\r\n"), field) == line

    @pytest.mark.parametrize(
        ("field", "line"),
        [
            ((), 1),
            (("absent",), 1),
            (("owner", "absent"), 4),
            (("signals", 1, "unit"), 31),
            (("signals", 9), 29),
            (("decoy", "one"), 1),
        ],
    )
    def test_absent_field(self, field: Field, line: int) -> None:
        """What is not written is reported where its section begins."""
        assert line_of(TRICKY, field) == line


class Writer:
    """Writes TOML and remembers the line of every field: the oracle."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[Field, int] = {}
        self.serial = 0

    def note(self, field: Field) -> None:
        """The next character belongs to ``field``."""
        self.lines.setdefault(field, self.text.count("\n") + 1)

    def key(self) -> tuple[str, str]:
        """A fresh key as it is written and as it is meant."""
        self.serial += 1
        name = f"k{self.serial}"
        forms = [(name, name), (f'"{name}.x"', f"{name}.x"), (f"'{name}['", f"{name}[")]
        return self.draw(st.sampled_from([*forms, (f'"\\u0061{name}"', f"a{name}")]))

    def pair(self, table: Field, depth: int) -> None:
        """``key = value``, now and then with a dotted key."""
        written, meant = self.key()
        self.note((*table, meant))
        if self.draw(st.booleans()):
            inner, inner_meant = self.key()
            self.note((*table, meant, inner_meant))
            written, table, meant = f"{written} . {inner}", (*table, meant), inner_meant
        self.text += f"{written} = "
        self.value((*table, meant), depth)

    def value(self, field: Field, depth: int) -> None:
        """A scalar, an array over several lines, or an inline table."""
        scalars = ["1", "-2.5e3", "true", '"a ] } # = \\" b"', "'c:\\'", "1979-05-27 07:32:00"]
        scalars += ['"""\n[fake]\nk1 = 1\\\n"""', "'''\n[[fake]]\n'''", '""""two"" quotes"""""']
        kind = self.draw(st.sampled_from(["scalar", "array", "table"])) if depth else "scalar"
        if kind == "scalar":
            self.text += self.draw(st.sampled_from(scalars))
            return
        self.text += "[" if kind == "array" else "{"
        for index in range(self.draw(st.integers(0, 3))):
            if index:
                self.text += ", "
            if kind == "table":
                self.pair(field, depth - 1)
                continue
            self.text += self.draw(st.sampled_from(["", "\n", " # ] no\n"]))
            self.note((*field, index))
            self.value((*field, index), depth - 1)
        self.text += "]" if kind == "array" else "}"

    def document(self) -> None:
        """Sections, arrays of tables, comments and pairs."""
        table: Field = ()
        elements = 0
        for _ in range(self.draw(st.integers(0, 8))):
            kind = self.draw(st.sampled_from(["pair", "pair", "table", "array", "comment"]))
            if kind == "comment":
                self.text += "\t# [x]\n\n"
            elif kind == "pair":
                self.pair(table, 2)
                self.text += " # c\n"
            elif kind == "table":
                written, meant = self.key()
                table = (meant,)
                self.note(table)
                self.text += f"[{written}]\n"
            else:
                table = ("list", elements)
                self.note(("list",))
                self.note(table)
                self.text += "[[ list ]]\n"
                elements += 1


@st.composite
def documents(draw: st.DrawFn) -> Writer:
    """A written document with its oracle."""
    writer = Writer(draw)
    writer.document()
    return writer


class TestAnyText:
    """Documents made up by hypothesis."""

    @given(writer=documents())
    def test_agrees_with_the_writer(self, writer: Writer) -> None:
        """Every field is found where the writer put it."""
        tomllib.loads(writer.text)
        for field, line in writer.lines.items():
            assert line_of(writer.text, field) == line

    @given(text=st.text("[]{}=,.\"'#ab1 \n", max_size=40))
    def test_never_fails(self, text: str) -> None:
        """Brackets and quotes in any order end with a line of the text."""
        assert 1 <= line_of(text, ("a", 0, "b")) <= text.count("\n") + 1


class TestLongKey:
    """Names of very many parts."""

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("a.b.c = 1", None),
            ("a.b.c.d = 1", 1),
            ("\n\"a\" . b .'c'. d = 1", 2),
            ("\n\n[a.b.c.d]", 3),
            ("x = { a.b.c.d = 1 }", 1),
            ("x = [1.5, 2.5, 3.5, 4.5]", None),
            ('x = "a.b.c.d"', None),
            ("# a.b.c.d", None),
        ],
    )
    def test_line(self, text: str, line: int | None) -> None:
        """Only dots between the parts of one name count."""
        assert line_of_long_key(text, 3) == line
