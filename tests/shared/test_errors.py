# SPDX-License-Identifier: Apache-2.0
"""The tree of errors."""

import re

import pytest

from fedmill_shared import errors
from fedmill_shared.errors import FedmillError, JobError

CLASSES = [
    member
    for member in vars(errors).values()
    if isinstance(member, type) and issubclass(member, FedmillError)
]


class TestText:
    """What a person reads."""

    def test_remedy_follows_the_message(self) -> None:
        """The remedy stands in brackets behind the message."""
        assert str(JobError("rig.toml is empty", remedy="add [job]")) == (
            "rig.toml is empty (add [job])"
        )

    def test_without_remedy_only_the_message(self) -> None:
        """No empty brackets."""
        assert str(JobError("rig.toml is empty")) == "rig.toml is empty"

    def test_parts_are_kept(self) -> None:
        """Message and remedy can be read apart, for structured logs."""
        error = JobError("a", remedy="b")
        assert (error.message, error.remedy) == ("a", "b")


class TestExitCodes:
    """One code for each class, and the tree in the module's docstring."""

    def test_codes_are_unique(self) -> None:
        """No two classes share a code."""
        codes = [kind.exit_code for kind in CLASSES]
        assert len(set(codes)) == len(codes)

    @pytest.mark.parametrize("kind", CLASSES)
    def test_code_fits_a_shell(self, kind: type[FedmillError]) -> None:
        """0 is success, and above 130 shells report signals."""
        assert 1 <= kind.exit_code <= 130

    def test_docstring_draws_the_same_tree(self) -> None:
        """The tree at the top of the module names every class with its code."""
        drawn = re.findall(r"(\w+) \((\d+)\)", str(errors.__doc__))
        assert dict(drawn) == {kind.__name__: str(kind.exit_code) for kind in CLASSES}

    def test_every_class_says_when(self) -> None:
        """The generated table has no empty row."""
        assert all(kind.__doc__ for kind in CLASSES)
