# SPDX-License-Identifier: Apache-2.0
"""Who may read a private key: the same for the authority's and for those of trust."""

from pathlib import Path

import pytest

from fedmill_coordinator.private import check_private
from fedmill_shared.errors import IdentityError, TrustError

KINDS = pytest.mark.parametrize("kind", [IdentityError, TrustError])


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key of ours."""
    path = tmp_path / "snapshot.pem"
    path.write_text("secret")
    path.chmod(0o600)
    return path


@KINDS
@pytest.mark.parametrize("mode", [0o640, 0o440, 0o604, 0o620, 0o601, 0o777])
def test_open_to_others(key: Path, mode: int, kind: type[IdentityError | TrustError]) -> None:
    """Refused, with its mode and what to do."""
    key.chmod(mode)
    with pytest.raises(kind, match=f"others may read this key .mode {mode:04o}") as error:
        check_private(key, kind, {})
    assert f"chmod 600 {key}" in error.value.remedy


@KINDS
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_for_its_owner(key: Path, mode: int, kind: type[IdentityError | TrustError]) -> None:
    """Whatever its owner may do with it."""
    key.chmod(mode)
    check_private(key, kind, {})


class TestCredential:
    @pytest.mark.parametrize("mode", [0o400, 0o440])
    def test_as_systemd_hands_it_over(self, key: Path, mode: int) -> None:
        """The folder keeps others out; root's group may read the file."""
        key.chmod(mode)
        check_private(key, TrustError, {"CREDENTIALS_DIRECTORY": str(key.parent)})

    @pytest.mark.parametrize("mode", [0o444, 0o460, 0o404])
    def test_no_more_than_that(self, key: Path, mode: int) -> None:
        """Not everybody, and nobody else may write it."""
        key.chmod(mode)
        with pytest.raises(TrustError, match=f"mode {mode:04o}"):
            check_private(key, TrustError, {"CREDENTIALS_DIRECTORY": str(key.parent)})

    def test_elsewhere_is_none(self, key: Path) -> None:
        """A service that is handed others has no wider right to this one."""
        key.chmod(0o440)
        other = key.parent / "credentials"
        other.mkdir()
        with pytest.raises(TrustError, match="mode 0440"):
            check_private(key, TrustError, {"CREDENTIALS_DIRECTORY": str(other)})


@KINDS
def test_not_there(tmp_path: Path, kind: type[IdentityError | TrustError]) -> None:
    """One error that names it."""
    with pytest.raises(kind, match=r"none\.pem: the key cannot be read"):
        check_private(tmp_path / "none.pem", kind, {})
