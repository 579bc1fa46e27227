# SPDX-License-Identifier: Apache-2.0
"""Names and sizes of signed metadata, and what the signature of a release covers."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fedmill_shared.errors import FrameError
from fedmill_shared.messages import BlobName, ReleaseNotice, VersionNotice
from fedmill_shared.trust import (
    METADATA_LIMIT,
    config_of,
    file_name,
    in_folder,
    is_metadata_file,
    is_target_file,
    is_told,
    release_statement,
    version_in,
)

BLOB = BlobName(sha256="b" * 64, size=1)
NOTICE = VersionNotice(
    job="press",
    number=3,
    version="a" * 64,
    manifest=BLOB,
    template=BLOB,
    canary_inputs=BLOB,
    canary_outputs=b"outputs",
    snapshot=BLOB,
)
RELEASE = ReleaseNotice(job="press", release=3, notice=NOTICE)
OTHER = BlobName(sha256="c" * 64, size=1)


class TestStatement:
    @pytest.mark.parametrize(
        "fields",
        [
            {"number": 4},
            {"version": "c" * 64},
            {"manifest": OTHER},
            {"template": OTHER},
            {"canary_inputs": OTHER},
            {"canary_outputs": b"other"},
            {"snapshot": OTHER},
            {"quantised": OTHER},
        ],
    )
    def test_covers_every_byte_of_a_version(self, fields: dict[str, Any]) -> None:
        """Another part is another statement."""
        other = structs.replace(RELEASE, notice=structs.replace(NOTICE, **fields))
        assert release_statement(other) != release_statement(RELEASE)

    @pytest.mark.parametrize("fields", [{"job": "other"}, {"release": 4}, {"back": True}])
    def test_covers_which_release_it_is(self, fields: dict[str, Any]) -> None:
        """So that none passes for another."""
        assert release_statement(structs.replace(RELEASE, **fields)) != release_statement(RELEASE)

    @pytest.mark.parametrize("notice", [{"delta": OTHER, "base": "d" * 64}, {"serve": False}])
    def test_does_not_cover_the_way_that_it_takes(self, notice: dict[str, Any]) -> None:
        """What a delta gives is checked against the version."""
        other = structs.replace(RELEASE, notice=structs.replace(NOTICE, **notice), agents=["x"])
        assert release_statement(other) == release_statement(RELEASE)

    def test_never_changes(self) -> None:
        """Agents of another version of the software make the same bytes of the same notice."""
        assert release_statement(RELEASE).startswith(
            b'{"format":1,"job":"press","release":3,"number":3,"version":"aaaa'
        )


class TestNames:
    @pytest.mark.parametrize(
        "name", ["1.root.json", "timestamp.json", "snapshot.json", "targets.json", "models.json"]
    )
    def test_of_what_is_told(self, name: str) -> None:
        """Only roots carry their version."""
        assert is_told(name)

    @pytest.mark.parametrize(
        "name", ["root.json", "0.root.json", "1.snapshot.json", "../1.root.json", "a.json", ""]
    )
    def test_of_what_is_not(self, name: str) -> None:
        """Nothing else is kept."""
        assert not is_told(name)

    @given(st.text(max_size=40))
    def test_no_name_of_ours_leaves_its_folder(self, name: str) -> None:
        """Whoever makes it up."""
        if is_told(name) or is_metadata_file(name) or config_of(name):
            assert "/" not in name
        if is_target_file(name):
            assert ".." not in name.split("/")
            assert not name.startswith("/")

    def test_a_digest_stands_before_the_name_of_a_target(self) -> None:
        """As the specification has it."""
        place = in_folder("config/all.toml", "a" * 64)
        assert place == f"config/{'a' * 64}.all.toml"
        assert is_target_file(place)
        assert config_of("config.all.toml") == "all"
        assert file_name("snapshot.json", 7) == "7.snapshot.json"


class TestVersions:
    def test_are_read_without_trusting_anything_else(self) -> None:
        """To file what has come."""
        assert version_in(b'{"signed": {"version": 7, "more": []}, "signatures": []}') == 7

    @given(st.binary(max_size=300))
    def test_whatever_comes_is_a_version_or_an_error(self, data: bytes) -> None:
        """Bytes of a stranger."""
        with suppress(FrameError):
            assert version_in(data) > 0

    @pytest.mark.parametrize(
        "data",
        [b"", b"{}", b'{"signed": {"version": 0}}', b'{"signed": {"version": 1e9}}', b"[" * 5000],
    )
    def test_impossible_ones_are_refused(self, data: bytes) -> None:
        """Before anything is kept."""
        with pytest.raises(FrameError):
            version_in(data)

    def test_no_more_than_a_message_is_read(self) -> None:
        """Of endless data."""
        with pytest.raises(FrameError, match="exceeds"):
            version_in(b" " * (METADATA_LIMIT + 1))
