# SPDX-License-Identifier: Apache-2.0
"""Nothing secret leaves a plant in a support bundle."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.crypto.codes import make_code
from fedmill_shared.files import sha256
from fedmill_shared.support.redaction import (
    REMOVED,
    configuration,
    scrubbed,
    secrets_of,
    without_user,
)


class TestConfiguration:
    def test_shows_what_the_table_names(self) -> None:
        """Names, places, numbers; every other text is gone, whatever its field is called."""
        found = configuration(
            {
                "agent": {"id": "gw1", "labels": {"line": "secret line"}},
                "broker": {"host": "b", "port": 8883, "passphrase": "x", "harmless": "hunter2"},
                "sources": [
                    {
                        "kind": "rest",
                        "url": "https://anna:pw@host:1/p?token=t#f",
                        "headers": {"X-Api": "k"},
                        "user": "anna",
                        "token_file": "token",
                        "tags": {"speed": "ns=2;s=Speed"},
                    }
                ],
            }
        )
        assert found == {
            "agent": {"id": "gw1", "labels": {"line": REMOVED}},
            "broker": {"host": "b", "port": 8883, "passphrase": REMOVED, "harmless": REMOVED},
            "sources": [
                {
                    "kind": "rest",
                    "url": "https://host:1/p",
                    "headers": {"X-Api": REMOVED},
                    "user": REMOVED,
                    "token_file": "token",
                    "tags": {"speed": "ns=2;s=Speed"},
                }
            ],
        }

    @given(st.text(min_size=1))
    def test_unknown_fields_show_no_text(self, text: str) -> None:
        """Whatever it is."""
        assert configuration({"unheard_of": [text, {"deep": text}]}) == {
            "unheard_of": [REMOVED, {"deep": REMOVED}]
        }

    @given(st.text())
    def test_urls(self, url: str) -> None:
        """No text makes it fail."""
        assert "@" not in without_user(f"https://{url}@host/")


class TestTexts:
    @pytest.mark.parametrize(
        "text",
        [
            "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nhunter2 and cut off",
            "opc.tcp://anna:hunter2@plc:4840/x",
            "https://hunter2@host/x",
            "password=hunter2 next",
            "Passphrase: 'hunter2'",
            '"token": "hunter2"',
            "Authorization: Bearer hunter2hunter2",
            "sent bearer hunter2.hunter2",
            "api_key=hunter2",
            "UID=sa;PWD=hunter2;",
        ],
    )
    def test_what_looks_like_a_secret_goes(self, text: str) -> None:
        """From texts that others wrote."""
        assert "hunter2" not in scrubbed(text)

    def test_enrolment_codes_go(self) -> None:
        """They may still be good."""
        assert scrubbed("code ABCD-EFGH-IJKL-MNOP-QRST-UVWX-Y2 given") == f"code {REMOVED} given"

    @pytest.mark.parametrize("change", [str, str.lower, lambda code: code.replace("-", " ")])
    def test_real_codes_go(self, change: Callable[[str], str]) -> None:
        """As they are printed and typed; their alphabet is not that of RFC 4648."""
        for number in range(50):
            code = str(make_code("ab" * 32, lambda size, number=number: bytes([number]) * size))
            for each in (code, code.replace("-", "")):
                assert scrubbed(f"code={change(each)} given") == f"code={REMOVED} given"

    def test_digests_stay(self) -> None:
        """Whoever helps must see which version, and which round."""
        digest = sha256(b"version")
        assert scrubbed(f"version={digest} {digest[:12]}") == f"version={digest} {digest[:12]}"

    def test_known_secrets_go_wherever_they_stand(self) -> None:
        """Also in the middle of a word, the longest first."""
        assert scrubbed("xhunter22y", {"hunter2", "hunter22"}) == f"x{REMOVED}y"

    @pytest.mark.parametrize(
        "text",
        ["password_file = /etc/x", "broker 10.0.0.1:8883: connected", "token_header", "a: b"],
    )
    def test_the_rest_stays(self, text: str) -> None:
        """A bundle that says nothing helps nobody."""
        assert scrubbed(text) == text


def test_secrets_of_the_files_that_are_named(tmp_path: Path) -> None:
    """Lines of password, token and key files; what is too short to be one is left in."""
    (tmp_path / "pw").write_text("hunter2\n")
    (tmp_path / "key").write_text("-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END X-----\n")
    (tmp_path / "short").write_text("ab\n")
    tables = {
        "sources": [{"password_file": "pw"}, {"token_file": "short"}, {"token_file": "none"}],
        "broker": {"tls": {"key": "key"}},
    }
    assert secrets_of(tables, tmp_path) == {"hunter2", "MC4CAQAw"}


def test_secrets_that_stand_in_the_configuration(tmp_path: Path) -> None:
    """Where none belongs; a log that repeats one must not show it either."""
    tables = {
        "broker": {"password": "hunter2", "host": "plant"},
        "sources": [
            {
                "url": "https://anna:hunter3@mes/x?sig=hunter45&format=json",
                "headers": {"Authorization": "Bearer hunter6", "Accept": "text/csv"},
                "token_header": "X-Token",
            }
        ],
    }
    found = secrets_of(tables, tmp_path)
    assert found == {"hunter2", "hunter3", "hunter45", "Bearer hunter6", "hunter6"}
    assert secrets_of({"url": "http://[::1"}, tmp_path) == set()
