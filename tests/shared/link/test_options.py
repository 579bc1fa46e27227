# SPDX-License-Identifier: Apache-2.0
"""``[broker.tls]``, in the files of both sides."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from fedmill_agent import config as agent
from fedmill_coordinator import config as coordinator
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.options import TlsSection


class Broker(Protocol):
    """The section above it."""

    tls: TlsSection | None


Load = Callable[[Path], Broker]
SIDES: list[tuple[str, Load]] = [
    ('[agent]\nid = "gw-7"\n', lambda path: agent.load(path).broker),
    ("[coordinator]\n", lambda path: coordinator.load(path).broker),
]


@pytest.fixture(params=SIDES, ids=["agent", "coordinator"])
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], TlsSection | None]:
    """What a file with such a section says."""
    head, read = request.param

    def of(text: str) -> TlsSection | None:
        path = tmp_path / "fedmill.toml"
        path.write_text(head + text)
        section: TlsSection | None = read(path).tls
        return section

    return of


Read = Callable[[str], TlsSection | None]


class TestSection:
    def test_is_off_without_a_word(self, load: Read) -> None:
        """As it was before there was TLS."""
        assert load("") is None

    def test_what_enrolment_leaves(self, load: Read, tmp_path: Path) -> None:
        """The header alone is enough."""
        identity = tmp_path / "state" / "identity"
        assert load("[broker.tls]\n") == TlsSection(
            ca=str(identity / "ca.pem"),
            certificate=str(identity / "certificate.pem"),
            key=str(identity / "key.pem"),
        )

    def test_files_elsewhere(self, load: Read, tmp_path: Path) -> None:
        """Relative to the file, or absolute."""
        found = load(
            '[broker.tls]\nca = "ca.pem"\ncertificate = "/etc/fedmill/me.pem"\n'
            'key = "keys/me.pem"\nserver_name = "broker.plant"\n'
        )
        assert found == TlsSection(
            ca=str(tmp_path / "ca.pem"),
            certificate="/etc/fedmill/me.pem",
            key=str(tmp_path / "keys" / "me.pem"),
            server_name="broker.plant",
        )

    @pytest.mark.parametrize(("given", "absent"), [("certificate", "key"), ("key", "certificate")])
    def test_half_of_a_pair(self, load: Read, given: str, absent: str) -> None:
        """The other half in the state folder belongs to something else."""
        with pytest.raises(ConfigError) as caught:
            load(f'[broker.tls]\n\n{given} = "me.pem"\n')
        told = str(caught.value)
        assert f'broker.tls.{given} is "me.pem": [broker.tls] has no {absent} for it' in told
        assert f'add {absent} = "..."' in told
        assert "fedmill.toml:" in told

    def test_unknown_field(self, load: Read) -> None:
        """As in any section."""
        with pytest.raises(ConfigError, match=r"broker\.tls\.cert is unknown") as caught:
            load('[broker.tls]\ncert = "me.pem"\n')
        assert caught.value.exit_code == 10


def test_sparkplug_would_need_a_second_session(tmp_path: Path) -> None:
    """The broker takes the user name for the client id, so the two would throw each other out."""
    path = tmp_path / "agent.toml"
    path.write_text(
        '[agent]\nid = "gw-7"\n[broker.tls]\n'
        '[inference.sparkplug]\ngroup = "plant"\nnode = "gw-7"\n'
    )
    with pytest.raises(ConfigError, match=r"\[inference\.sparkplug\] needs a session of its own"):
        agent.load(path)
