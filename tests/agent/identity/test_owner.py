# SPDX-License-Identifier: Apache-2.0
"""Root works in a service's folder as the service: files belong to it, and links lead nowhere."""

import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.conftest import NOBODY

from fedmill_agent.identity.owner import as_owner

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")


class TestOwner:
    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        """Is made, and is ours."""
        with as_owner(tmp_path / "state") as here:
            assert here == tmp_path / "state"
            (here / "file").touch()
        assert (tmp_path / "state" / "file").exists()

    @ONLY_ROOT
    def test_a_folder_of_the_service(self, tmp_path: Path) -> None:
        """What is made in it belongs to the service, even below a folder that only root enters."""
        state = tmp_path / "private" / "agent"
        state.mkdir(parents=True)
        os.chown(state, NOBODY, NOBODY)
        (tmp_path / "private").chmod(0o700)
        before = Path.cwd()
        with as_owner(state) as here:
            (here / "file").touch()
            assert os.geteuid() == NOBODY
            assert os.getegid() == NOBODY
            assert os.getgroups() == []
        made = (state / "file").stat()
        assert (made.st_uid, made.st_gid) == (NOBODY, NOBODY)
        assert (os.geteuid(), os.getegid()) == (0, 0)
        assert Path.cwd() == before

    @ONLY_ROOT
    def test_a_link_to_what_is_not_the_services(self, tmp_path: Path) -> None:
        """A service that was taken over cannot have root write elsewhere."""
        state, secret = tmp_path / "state", tmp_path / "secret"
        state.mkdir()
        secret.mkdir()
        os.chown(state, NOBODY, NOBODY)
        secret.chmod(0o700)
        (state / "identity").symlink_to(secret)
        with as_owner(state) as here, pytest.raises(PermissionError):
            (here / "identity" / "key.pem").touch()
        assert list(secret.iterdir()) == []

    @ONLY_ROOT
    def test_an_error_within(self, tmp_path: Path) -> None:
        """Gives root back what was root's."""
        os.chown(tmp_path, NOBODY, NOBODY)
        before = Path.cwd()
        with pytest.raises(ValueError, match="within"), as_owner(tmp_path):
            raise ValueError("within")
        assert os.geteuid() == 0
        assert Path.cwd() == before

    def test_who_is_not_root(self, as_nobody: Callable[[], AbstractContextManager[None]]) -> None:
        """Stays who they are, and works with what they may."""
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder)
            state.chmod(0o777)
            with as_nobody(), as_owner(state) as here:
                assert here == state
