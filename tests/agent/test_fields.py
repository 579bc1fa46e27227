# SPDX-License-Identifier: Apache-2.0
"""Fields that sources and labels have in common accept and mean the same wherever they stand."""

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from msgspec import Struct, inspect

from fedmill_agent.fields.cells import Cells, Delimiter, tell_apart
from fedmill_agent.fields.signing_in import go_together
from fedmill_agent.labels.options import CsvLabels, MqttLabels, RestLabels
from fedmill_agent.sources.broker import BrokerOptions
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.sources.parquet import ParquetOptions
from fedmill_agent.sources.rest.options import RestOptions
from fedmill_agent.sources.tabular import TabularOptions
from fedmill_agent.sources.tail.options import TailOptions

CERTIFICATES = {"ca_file", "certificate_file", "key_file"}
PASSWORD = {"user", "password_file", "plain_password"}
WRITTEN = {"delimiter", "decimal", "encoding"}


class Cell(Struct, frozen=True):
    """As options tell how cells are written."""

    delimiter: Delimiter = ","
    decimal: Any = "."
    missing: Cells = []


class Secret(Struct, frozen=True):
    """As options tell who signs in."""

    user: str = ""
    password_file: str = ""


def described(options: type[Struct]) -> dict[str, inspect.Type]:
    """Field -> what it accepts, with its description."""
    info = inspect.type_info(options)
    assert isinstance(info, inspect.StructType)
    return {field.name: field.type for field in info.fields}


class TestOneMeaning:
    @pytest.mark.parametrize(
        ("one", "other", "names"),
        [
            (BrokerOptions, MqttLabels, {"host", "port", "version", "tls"}),
            (BrokerOptions, MqttLabels, PASSWORD | CERTIFICATES),
            (RestOptions, RestLabels, PASSWORD | CERTIFICATES),
            (RestOptions, RestLabels, {"token_file", "token_header", "timeout_seconds"}),
            (CsvOptions, TailOptions, WRITTEN | {"missing", "label_column", "label_kind"}),
            (CsvOptions, CsvLabels, WRITTEN),
            (ParquetOptions, RestOptions, {"time_unit"}),
            (TabularOptions, TailOptions, {"label_column", "label_kind"}),
        ],
    )
    def test_of_a_field_in_two_entries(
        self, one: type[Struct], other: type[Struct], names: set[str]
    ) -> None:
        """Who knows the one knows the other."""
        here, there = described(one), described(other)
        assert {name: here[name] for name in names} == {name: there[name] for name in names}

    def test_a_table_is_a_table_in_any_format(self) -> None:
        """What a column means does not depend on how the file is written."""
        table = described(TabularOptions)
        for kind in (CsvOptions, ParquetOptions):
            assert {name: described(kind)[name] for name in table} == table


class TestCells:
    @pytest.mark.parametrize("text", ["", ",,", ",\n", "\n", "\r", '"', "\0", ";\r"])
    @pytest.mark.parametrize(
        ("options", "more"),
        [
            (CsvOptions, {"kind": "csv", "path": "a.csv"}),
            (TailOptions, {"kind": "tail", "path": "a.csv"}),
            (RestOptions, {"kind": "rest", "format": "csv"}),
            (CsvLabels, {"kind": "csv", "path": "a.csv"}),
        ],
    )
    def test_a_delimiter_is_one_character(
        self, text: str, options: type[Struct], more: dict[str, str]
    ) -> None:
        """A line break behind it is refused with the file, and not only once a line is read."""
        with pytest.raises(msgspec.ValidationError, match=r"\$\.delimiter"):
            msgspec.convert({"name": "a", "delimiter": text, **more}, options)

    @pytest.mark.parametrize("text", [",", ";", "\t", "|", " ", "é"])
    def test_any_other_character_may_be_one(self, text: str) -> None:
        """Whatever a program writes."""
        assert msgspec.convert({"delimiter": text}, Cell) == Cell(delimiter=text)

    def test_one_character_cannot_be_both(self) -> None:
        """Of 1,5 nobody could tell whether it is one cell or two."""
        tell_apart(Cell(";", ","))
        tell_apart(Cell(",", "."))
        with pytest.raises(ValueError, match="`decimal` and `delimiter` are both ','"):
            tell_apart(Cell(",", ","))


class TestSigningIn:
    @pytest.mark.parametrize(("user", "file"), [("u", ""), ("", "f")])
    def test_half_of_a_pair_is_refused(self, user: str, file: str) -> None:
        """Both names are told, so that either can be corrected."""
        with pytest.raises(ValueError, match="`user` and `password_file` go together"):
            go_together(Secret(user, file), "user", "password_file")

    def test_both_or_neither_are_fine(self) -> None:
        """Nobody has to sign in."""
        go_together(Secret(), "user", "password_file")
        go_together(Secret("u", "f"), "user", "password_file")


def test_fields_cost_no_connector() -> None:
    """A configuration without labels or brokers imports nothing that would talk to one."""
    program = (
        "import sys\n"
        "from fedmill_agent.fields import cells, mqtt, signing_in, web\n"
        "print([name for name in sys.modules if name.startswith('fedmill_agent.sources')\n"
        "       or name in ('numpy', 'paho', 'csv', 'ssl')])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"
