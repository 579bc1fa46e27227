# SPDX-License-Identifier: Apache-2.0
"""The coordinator's configuration file."""

from pathlib import Path

import pytest

from fedmill_coordinator.config import load
from fedmill_shared.errors import ConfigError


class TestLoad:
    """Read, checked, and independent of the working directory."""

    def test_every_field_has_a_default(self, tmp_path: Path) -> None:
        """An empty file is a coordinator without jobs beside a local broker."""
        path = tmp_path / "coordinator.toml"
        path.write_text("")
        config = load(path)
        assert (config.broker.host, config.broker.port) == ("127.0.0.1", 1883)
        assert config.broker.connect_seconds == 10.0
        assert (config.coordinator.id, config.coordinator.jobs) == ("coordinator", [])
        assert config.database == tmp_path / "state" / "fedmill.sqlite"
        assert config.blobs == tmp_path / "state" / "blobs"

    def test_paths_are_relative_to_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wherever it is started from; absolute ones stay as they are."""
        (tmp_path / "etc").mkdir()
        path = tmp_path / "etc" / "c.toml"
        path.write_text('[coordinator]\nstate = "../var"\njobs = ["rig.toml", "/srv/press.toml"]\n')
        monkeypatch.chdir(tmp_path)
        config = load(Path("etc/c.toml"))
        assert Path(config.coordinator.state).resolve() == tmp_path / "var"
        assert config.coordinator.jobs == [str(tmp_path / "etc" / "rig.toml"), "/srv/press.toml"]

    def test_an_authority_is_kept_in_the_state_folder(self, tmp_path: Path) -> None:
        """Or where the section says; without a section there is none."""
        path = tmp_path / "c.toml"
        path.write_text("")
        assert load(path).pki is None
        path.write_text('[pki]\nca_key = "credential:ca.key"\ncrl = "/etc/mosquitto/crl.pem"\n')
        pki = load(path).pki
        assert pki is not None
        assert pki.ca_certificate == str(tmp_path / "state" / "pki" / "ca.pem")
        assert (pki.ca_key, pki.crl) == ("credential:ca.key", "/etc/mosquitto/crl.pem")
        path.write_text('[coordinator]\nstate = "/var/f"\n[pki]\nca_certificate = "ca.pem"\n')
        pki = load(path).pki
        assert pki is not None
        assert (pki.ca_certificate, pki.ca_key) == (str(tmp_path / "ca.pem"), "/var/f/pki/ca.key")
        assert pki.certificate_days == 90

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("[broker]\nport = 70000", r"c\.toml:2: broker\.port is 70000"),
            ("[broker]\nhots = 'a'", r"c\.toml:2: .*hots"),
            ("[coordinator]\nid = 'Plant 1'", r"c\.toml:2: coordinator\.id is \"Plant 1\""),
            ("[coordinator]\nlog_level = 'loud'", r"c\.toml:2: coordinator\.log_level"),
            ("[pki]\ncertificate_days = 0", r"c\.toml:2: pki\.certificate_days is 0"),
            ("[pki]\nca_key = 'credential:../k'", r"c\.toml:2: pki\.ca_key .*no credential"),
            ("[pki]\nca_key = 'credential:'", r"c\.toml:2: pki\.ca_key .*LoadCredential="),
            ("[pki]\npassword = 'x'", r"c\.toml:2: .*password"),
            ("[broker\n", r"c\.toml:1.*is not TOML"),
        ],
    )
    def test_errors_name_line_and_field(self, tmp_path: Path, text: str, named: str) -> None:
        """What is wrong, where, and what would be right."""
        path = tmp_path / "c.toml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=named):
            load(path)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        """Named, with what to do."""
        with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
            load(tmp_path / "none.toml")
