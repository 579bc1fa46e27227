# SPDX-License-Identifier: Apache-2.0
"""Where the authority's key lies, and who may read it."""

from pathlib import Path

import pytest

from fedmill_coordinator.pki.keyfile import load_authority, make_authority
from fedmill_coordinator.pki.options import PkiSection, key_path, settled_pki
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import IdentityError, StoreError

NOW = SystemClock().now_ns()


@pytest.fixture
def section(tmp_path: Path) -> PkiSection:
    """A section with all its defaults."""
    made = settled_pki(PkiSection(), tmp_path, tmp_path / "state")
    assert made is not None
    return made


class TestMaking:
    def test_comes_back(self, section: PkiSection) -> None:
        """The same authority; its key is for the owner only."""
        made = make_authority(section, "Plant CA", NOW)
        assert load_authority(section).fingerprint == made.fingerprint
        assert Path(section.ca_key).stat().st_mode & 0o777 == 0o600
        assert Path(section.ca_key).parent.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("left", ["ca_key", "ca_certificate"])
    def test_never_over_another(self, section: PkiSection, left: str) -> None:
        """Whichever file is there, it stays as it is."""
        make_authority(section, "Plant CA", NOW)
        other = "ca_certificate" if left == "ca_key" else "ca_key"
        Path(getattr(section, other)).unlink()
        kept = Path(getattr(section, left)).read_bytes()
        with pytest.raises(IdentityError, match="is there already"):
            make_authority(section, "Plant CA", NOW)
        assert Path(getattr(section, left)).read_bytes() == kept
        assert not Path(getattr(section, other)).exists()

    def test_nowhere_to_write(self, section: PkiSection) -> None:
        """One error that names the folder."""
        Path(section.ca_key).parent.parent.mkdir(parents=True)
        Path(section.ca_key).parent.write_text("in the way")
        with pytest.raises(StoreError, match="pki"):
            make_authority(section, "Plant CA", NOW)


class TestLoading:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
    def test_open_to_others(self, section: PkiSection, mode: int) -> None:
        """Refused, with what to do; the key is in no word of it."""
        make_authority(section, "Plant CA", NOW)
        Path(section.ca_key).chmod(mode)
        with pytest.raises(IdentityError, match=f"mode {mode:04o}") as error:
            load_authority(section)
        assert "chmod 600" in error.value.remedy
        assert "PRIVATE" not in str(error.value)

    def test_not_there(self, section: PkiSection) -> None:
        """Before it was made, and after half of it was lost."""
        with pytest.raises(IdentityError, match="fedmill ca init"):
            load_authority(section)
        make_authority(section, "Plant CA", NOW)
        Path(section.ca_key).unlink()
        with pytest.raises(IdentityError, match=r"ca\.key"):
            load_authority(section)

    @pytest.mark.parametrize("name", ["ca_key", "ca_certificate"])
    @pytest.mark.parametrize("data", [b"", b"x", b"\0" * 70_000])
    def test_damaged(self, section: PkiSection, name: str, data: bytes) -> None:
        """One sentence, whichever it is."""
        make_authority(section, "Plant CA", NOW)
        Path(getattr(section, name)).write_bytes(data)
        with pytest.raises(IdentityError):
            load_authority(section)


class TestCredential:
    @pytest.fixture
    def handed(self, section: PkiSection, tmp_path: Path) -> PkiSection:
        """A key that lies where systemd puts it, readable for root's group."""
        make_authority(section, "Plant CA", NOW)
        folder = tmp_path / "credentials"
        folder.mkdir()
        Path(section.ca_key).rename(folder / "ca.key")
        (folder / "ca.key").chmod(0o440)
        named = settled_pki(PkiSection(ca_key="credential:ca.key"), tmp_path, tmp_path / "state")
        assert named is not None
        return named

    def test_from_the_service_manager(self, handed: PkiSection, tmp_path: Path) -> None:
        """As LoadCredential= hands it over."""
        environment = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
        assert key_path(handed, environment) == tmp_path / "credentials" / "ca.key"
        assert load_authority(handed, environment).fingerprint
        (tmp_path / "credentials" / "ca.key").chmod(0o444)
        with pytest.raises(IdentityError, match="mode 0444"):
            load_authority(handed, environment)

    def test_for_the_service_alone(self, handed: PkiSection) -> None:
        """A command that was not handed it says so; and none can be made."""
        with pytest.raises(IdentityError, match="only the coordinator's service") as error:
            load_authority(handed, {})
        assert "--ca-key" in error.value.remedy
        with pytest.raises(IdentityError, match="cannot be written"):
            make_authority(handed, "Plant CA", NOW)
