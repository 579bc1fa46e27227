# SPDX-License-Identifier: Apache-2.0
"""``fedmill rounds verify``: who made what a version was made of, looked at again."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from msgspec import json

from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.crypto.keys import key_id, make_key, public_bytes
from fedmill_shared.crypto.origin import sign_origin
from fedmill_shared.files import sha256
from fedmill_shared.messages import UpdateOffer
from fedmill_shared.messages.origin import label

Run = Callable[..., Result]
KEY = make_key()
PUBLIC = public_bytes(KEY)
MADE_NS = 1_700_000_000_000_000_000


def change(database: Path, **fields: object) -> None:
    """Edit the one update that was used."""
    names = ", ".join(f'"{name}" = ?' for name in fields)
    with sqlite3.connect(database) as connection:
        connection.execute(
            f"UPDATE updates SET {names} WHERE agent = 'press-1' AND round = 1",  # noqa: S608  ours
            list(fields.values()),
        )
    connection.close()


@pytest.fixture
def signed(plant: SimpleNamespace) -> SimpleNamespace:
    """A plant whose one included update is signed, by an agent with a certificate."""
    with SqlStore.in_file(plant.database) as store:
        (row,) = (each for each in store.updates("tiny", 1) if each.agent == "press-1")
        offer = UpdateOffer(
            job=row.job,
            round=row.round,
            base=row.base,
            sha256=row.sha256,
            size=row.wire_bytes,
            examples=row.examples,
            loss=row.loss,
            seconds=row.seconds,
        )
        store.add_certificate(
            CertificateRecord(
                serial="5eed",
                agent="press-1",
                public_key=PUBLIC,
                fingerprint=sha256(PUBLIC),
                request=sha256(b"request"),
                certificate=b"DER",
                not_before_ns=1,
                not_after_ns=2,
                issued_ns=1,
            )
        )
    said = label(
        offer, agent="press-1", schema=sha256(b"layout"), software="0.1.0", made_ns=MADE_NS
    )
    key, signature = sign_origin(KEY, said)
    change(plant.database, key=key, origin=said, signature=signature)
    return plant


def rows(result: Result) -> list[Any]:
    """What was printed as JSON, whatever was said on the error stream."""
    found: list[Any] = json.decode(result.stdout)
    return found


class TestVerify:
    def test_genuine(self, run: Run, signed: SimpleNamespace) -> None:
        """Who signed it, with which certificate, with what software and when."""
        result = run("rounds", "verify", signed.config, "--json")
        assert result.exit_code == 0
        (row,) = rows(result)
        assert row == {
            "round": 1,
            "made_for": 1,
            "agent": "press-1",
            "sha256": "a" * 64,
            "key": key_id(PUBLIC),
            "certificate": "5eed",
            "revoked": "",
            "made": "2023-11-14 22:13:20",
            "software": "0.1.0",
            "label": "genuine",
        }

    def test_for_people(self, run: Run, signed: SimpleNamespace) -> None:
        """A table."""
        output = run("rounds", "verify", signed.config).output
        assert "press-1" in output
        assert "genuine" in output

    def test_of_one_version(self, run: Run, signed: SimpleNamespace) -> None:
        """What made it; the first eight digits will do."""
        with SqlStore.in_file(signed.database) as store:
            first, second = store.versions("tiny")[1:]
        given = ("rounds", "verify", signed.config, "--json", "--version")
        assert len(rows(run(*given, first.version[:8]))) == 1
        assert rows(run(*given, second.version)) == []

    def test_of_one_round(self, run: Run, signed: SimpleNamespace) -> None:
        """What its close used."""
        given = ("rounds", "verify", signed.config, "--json", "--round")
        assert len(rows(run(*given, 1))) == 1
        assert rows(run(*given, 2)) == []

    def test_no_such_version(self, run: Run, signed: SimpleNamespace) -> None:
        """One line, with the exit code of a wrong command."""
        result = run("rounds", "verify", signed.config, "--version", "nothing")
        assert result.exit_code == 2
        assert "--version is 'nothing'" in result.stderr

    def test_unsigned(self, run: Run, plant: SimpleNamespace) -> None:
        """It came while no signature was wanted: that is told, and no success."""
        result = run("rounds", "verify", plant.config, "--json")
        assert result.exit_code == 25
        assert "1 of 1 updates" in result.stderr
        assert rows(result)[0]["label"] == "it has no signature"

    def test_a_row_was_edited(self, run: Run, signed: SimpleNamespace) -> None:
        """Who counts for more than it was is found."""
        change(signed.database, examples=9)
        result = run("rounds", "verify", signed.config, "--json")
        assert result.exit_code == 25
        assert "examples is 8 there" in rows(result)[0]["label"]

    def test_revoked_since(self, run: Run, signed: SimpleNamespace) -> None:
        """Who asks what a stolen key may have done finds it, and when that was noticed."""
        with SqlStore.in_file(signed.database) as store:
            store.revoke("press-1", revoked_ns=MADE_NS, reason="stolen")
        result = run("rounds", "verify", signed.config, "--json")
        assert result.exit_code == 25
        (row,) = rows(result)
        assert row["revoked"] == "2023-11-14 22:13:20"
        assert row["label"] != "genuine"


class TestParticipants:
    def test_tell_the_key(self, run: Run, signed: SimpleNamespace) -> None:
        """Of each update of a round, empty where it is unsigned."""
        found = rows(run("rounds", signed.config, "--round", "1", "--json"))
        keys = {row["agent"]: row["key"] for row in found}
        assert keys["press-1"] == key_id(PUBLIC)
        assert keys["press-2"] == ""
