# SPDX-License-Identifier: Apache-2.0
"""Fields of whatever reads rows of cells: how they are written, and which column is what."""

from typing import Annotated, Literal, Protocol

from msgspec import Meta

LONGEST = 200
"""Characters of the longest cell that can be told to hold no value."""

Delimiter = Annotated[
    str,
    Meta(
        max_length=1,  # the pattern alone would let a line break through behind the character
        pattern=r'^[^"\r\n\x00]$',
        description="What separates cells: one character, neither a quote nor a line break.",
    ),
]
Decimal = Annotated[
    Literal[".", ","], Meta(description="What separates whole and fraction of a number.")
]
Cells = Annotated[list[Annotated[str, Meta(max_length=LONGEST)]], Meta(max_length=64)]
Missing = Annotated[
    Cells,
    Meta(
        description='Cells that hold no value, whatever the case, such as "Bad Input", beside '
        "empty ones, NaN, NA, null and none."
    ),
]
Encoding = Annotated[
    Literal["utf-8", "cp1252"],
    Meta(description="Of the text; cp1252 is what Windows writes in Western Europe."),
]
LabelColumn = Annotated[str, Meta(description="Column with the truth; empty for none.")]
LabelKind = Annotated[
    Literal["class", "number"], Meta(description="Whether labels are class texts or numbers.")
]


class Written(Protocol):
    """Options that tell how cells are written."""

    @property
    def delimiter(self) -> str:
        """What separates cells."""
        ...

    @property
    def decimal(self) -> Decimal:
        """What separates whole and fraction of a number."""
        ...

    @property
    def missing(self) -> list[str]:
        """Cells that hold no value, whatever the case."""
        ...


def tell_apart(options: Written) -> None:
    """Raise ValueError where a comma could be either of two things."""
    if options.decimal == options.delimiter:
        raise ValueError(f"`decimal` and `delimiter` are both {options.decimal!r}")
