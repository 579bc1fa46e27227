# SPDX-License-Identifier: Apache-2.0
"""The commands of the authority: what a plant engineer types, and what comes of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from cryptography.x509 import load_pem_x509_crl
from msgspec import json
from tests.coordinator.pki.kit import Box

from fedmill_coordinator.store.records_pki import EnrolmentRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.crypto.certificates import read_certificate
from fedmill_shared.crypto.codes import parse_code

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with an authority, which the environment names."""
    path = tmp_path / "coordinator.toml"
    path.write_text("[pki]\n")
    monkeypatch.setenv("FEDMILL_CONFIG", str(path))
    return path


@pytest.fixture
def made(config: Path, run: Run) -> Path:
    """The folder of an authority that was made."""
    assert run("ca", "init", "--name", "Plant CA").exit_code == 0
    return config.parent / "state" / "pki"


@pytest.fixture
def store(made: Path) -> Iterator[SqlStore]:
    """The store that the commands share with a daemon."""
    with SqlStore.in_file(made.parent / "fedmill.sqlite") as opened:
        yield opened


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    """A request that was fetched from gw7."""
    path = tmp_path / "gw7.csr"
    path.write_bytes(Box("gw7").csr)
    return path


def listed(made: Path) -> set[str]:
    """Serial numbers on the list for the broker."""
    crl = load_pem_x509_crl((made / "crl.pem").read_bytes())
    return {f"{each.serial_number:x}" for each in crl}


def audited(made: Path) -> list[str]:
    """What the audit log says was done."""
    lines = (made.parent / "audit.jsonl").read_bytes().splitlines()
    return [json.decode(line)["what"] for line in lines]


class TestAuthority:
    def test_is_made_once(self, made: Path, run: Run) -> None:
        """With a list of revocations, and the word that its key must be kept."""
        assert listed(made) == set()
        assert (made / "ca.key").stat().st_mode & 0o777 == 0o600
        again = run("ca", "init")
        assert (again.exit_code, "is there already" in again.stderr) == (24, True)
        assert audited(made) == ["authority.made"]

    def test_no_command_prints_its_key(self, made: Path, run: Run) -> None:
        """Nor does the audit log have it."""
        secret = (made / "ca.key").read_text().splitlines()[1]
        said = run("ca", "show").output + run("ca", "show", "--json").output
        said += run("ca", "crl").output + (made.parent / "audit.jsonl").read_text()
        assert secret not in said
        assert "PRIVATE" not in said

    def test_is_shown(self, made: Path, run: Run) -> None:
        """As the fingerprint that people compare, without reading the key."""
        (made / "ca.key").unlink()
        facts = read_certificate((made / "ca.pem").read_bytes())
        told = json.decode(run("ca", "show", "--json").stdout)
        assert (told["name"], told["fingerprint"]) == ("Plant CA", facts.fingerprint)
        assert facts.fingerprint in run("ca", "show").stdout

    @pytest.mark.parametrize(
        ("text", "code", "told"),
        [
            ("", 10, "there is no [pki]"),
            ("[pki]\ncertificate_days = 0\n", 10, "pki.certificate_days"),
            ("[pki]\n", 24, "fedmill ca init"),
        ],
    )
    def test_before_there_is_one(
        self, config: Path, run: Run, text: str, code: int, told: str
    ) -> None:
        """One error with a remedy, and its exit code."""
        config.write_text(text)
        result = run("enrol", "new", "gw7")
        assert (result.exit_code, result.stdout) == (code, "")
        assert told in result.stderr

    def test_a_key_that_others_may_read(self, made: Path, run: Run) -> None:
        """Nothing is signed with it."""
        (made / "ca.key").chmod(0o640)
        result = run("ca", "crl")
        assert (result.exit_code, "chmod 600" in result.stderr) == (24, True)

    def test_a_key_that_systemd_hands_over(self, made: Path, config: Path, run: Run) -> None:
        """Codes need no key; what is signed does, and says where it comes from."""
        config.write_text('[pki]\nca_key = "credential:ca.key"\n')
        assert run("enrol", "new", "gw7").exit_code == 0
        result = run("ca", "crl")
        assert (result.exit_code, "--ca-key" in result.stderr) == (24, True)
        assert run("ca", "crl", "--ca-key", made / "ca.key").exit_code == 0
        assert audited(made)[-1] == "revocations.written"

    def test_certificates_of_servers(self, made: Path, run: Run, tmp_path: Path) -> None:
        """A folder each; run again, they are left alone."""
        broker = ("ca", "issue-broker", "broker.plant", "10.0.0.5", "--out", tmp_path / "broker")
        own = ("ca", "issue-coordinator", "--out", tmp_path / "own", "--days", "30")
        for arguments in (broker, own):
            assert run(*arguments).exit_code == 0
        held = (tmp_path / "broker" / "certificate.pem").read_bytes()
        assert "holds until" in run(*broker).stdout
        assert (tmp_path / "broker" / "certificate.pem").read_bytes() == held
        assert "for coordinator coordinator" in run(*own).stdout  # less than a month is left
        roles = [row["role"] for row in json.decode(run("certificates", "list", "--json").stdout)]
        assert roles == ["broker", "coordinator", "coordinator"]
        assert audited(made).count("certificate.issued") == 3
        wrong = run("ca", "issue-broker", "a b", "--out", tmp_path / "x")
        assert (wrong.exit_code, "neither a name" in wrong.stderr) == (24, True)


class TestEnrol:
    def test_literally(self, made: Path, store: SqlStore, run: Run) -> None:
        """The command of the guide: the code alone on the output, what to do beside it."""
        result = run("enrol", "new", "gw7", "--ttl", "24h")
        assert result.exit_code == 0
        code = parse_code(result.stdout)
        assert code.fits(read_certificate((made / "ca.pem").read_bytes()).fingerprint)
        assert "sudo fedmill-agent enrol" in result.stderr
        [record] = store.enrolments("gw7")
        assert (record.proof, record.state, record.confirm) == (code.proof_key(), "open", False)
        assert record.expires_ns - record.created_ns == 86_400 * 10**9
        assert audited(made)[-1] == "enrolment.opened"
        assert str(code)[:9] not in (made.parent / "audit.jsonl").read_text()

    def test_for_programs(self, made: Path, run: Run) -> None:
        """One object."""
        told = json.decode(run("enrol", "new", "gw7", "--confirm", "--json").stdout)
        assert (told["agent"], told["confirm"]) == ("gw7", True)
        assert parse_code(told["code"])

    @pytest.mark.parametrize(
        ("arguments", "code", "told"),
        [
            (["Gw7"], 2, "AGENT is 'Gw7'"),
            (["enrol"], 2, "none of all, enrol"),
            (["broker"], 24, "no agent may be called"),
            (["coordinator"], 24, "no agent may be called"),
            (["gw7", "--ttl", "soon"], 2, "--ttl is 'soon'"),
            ([], 2, "AGENT"),
        ],
    )
    def test_what_cannot_be(
        self, made: Path, run: Run, arguments: list[str], code: int, told: str
    ) -> None:
        """One error; no code."""
        result = run("enrol", "new", *arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert told in result.stderr
        assert audited(made) == ["authority.made"]

    def test_listed(self, made: Path, store: SqlStore, run: Run) -> None:
        """Those that are good; all of them when asked; nothing about codes."""
        assert "none yet" in run("enrol").stdout
        for agent in ("gw7", "gw7", "gw8"):
            run("enrol", "new", agent)
        rows = json.decode(run("enrol", "list", "--json").stdout)
        assert [(row["agent"], row["state"]) for row in rows] == [("gw7", "open"), ("gw8", "open")]
        rows = json.decode(run("enrol", "list", "--all", "--json").stdout)
        assert [row["state"] for row in rows] == ["replaced", "open", "open"]
        assert "proof" not in rows[0]

    def test_what_a_new_code_voids_is_on_record(self, made: Path, run: Run) -> None:
        """By how the code before it stood, if there was any that was good."""
        for _ in range(2):
            run("enrol", "new", "gw8")
        lines = (made.parent / "audit.jsonl").read_bytes().splitlines()
        told = [json.decode(line) for line in lines[-2:]]
        assert [(each["what"], each["before"]) for each in told] == [
            ("enrolment.opened", ""),
            ("enrolment.opened", "open"),
        ]

    def test_how_it_stood_before_is_on_record(self, made: Path, run: Run) -> None:
        """A code that was withdrawn had not been used."""
        run("enrol", "new", "gw8")
        assert run("enrol", "reject", "gw8").exit_code == 0
        last = (made.parent / "audit.jsonl").read_bytes().splitlines()[-1]
        told = json.decode(last)
        assert (told["what"], told["before"]) == ("enrolment.rejected", "open")

    def test_accepted_and_rejected(self, made: Path, store: SqlStore, run: Run) -> None:
        """While the daemon runs: it finds the decision in the store."""
        for agent in ("gw7", "gw8"):
            run("enrol", "new", agent, "--confirm")
            self.comes(store, agent)
        assert "accepted" in run("enrol", "accept", "gw7").stdout
        assert run("enrol", "reject", "gw8", "--reason", "not ours").exit_code == 0
        states = {each.agent: (each.state, each.reason) for each in store.enrolments()}
        assert states == {"gw7": ("accepted", ""), "gw8": ("rejected", "not ours")}
        again = run("enrol", "accept", "gw8")
        assert (again.exit_code, "nothing waits" in again.stderr) == (24, True)
        assert audited(made)[-2:] == ["enrolment.accepted", "enrolment.rejected"]

    def comes(self, store: SqlStore, agent: str) -> None:
        """A box has come with its code, and waits."""
        [record] = store.enrolments(agent)
        waits: EnrolmentRecord = record
        fields = {"state": "pending", "request": b"csr"}
        store.save_enrolment(
            EnrolmentRecord(
                **{name: getattr(waits, name) for name in waits.__struct_fields__} | fields
            )
        )


class TestPreauthorise:
    def test_as_ansible_does(
        self, made: Path, store: SqlStore, run: Run, csr: Path, tmp_path: Path
    ) -> None:
        """Run twice it changes nothing: same file, same row, one line in the audit log."""
        out = tmp_path / "gw7.pem"
        arguments = ("enrol", "preauthorise", "gw7", "--csr", csr, "--out", out)
        assert "certificate of gw7" in run(*arguments).stdout
        first = out.read_bytes()
        assert "unchanged" in run(*arguments).stdout
        out.unlink()
        assert run(*arguments).exit_code == 0
        assert out.read_bytes() == first
        assert read_certificate(first).agent == "gw7"
        assert len(store.certificates()) == 1
        assert audited(made).count("certificate.preauthorised") == 1

    @pytest.mark.parametrize(
        ("agent", "data", "code"),
        [("gw8", None, 24), ("gw7", b"x", 24), ("Gw7", None, 2), ("gw7", b"", 24)],
    )
    @pytest.mark.usefixtures("made")
    def test_what_is_no_request_of_it(
        self, run: Run, csr: Path, agent: str, data: bytes | None, code: int
    ) -> None:
        """Nothing is written."""
        out = csr.with_name("out.pem")
        if data is not None:
            csr.write_bytes(data)
        result = run("enrol", "preauthorise", agent, "--csr", csr, "--out", out)
        assert (result.exit_code, result.stdout) == (code, "")
        assert not out.exists()

    def test_a_file_that_is_missing(self, made: Path, run: Run, tmp_path: Path) -> None:
        """Named, with where it comes from."""
        result = run(
            *("enrol", "preauthorise", "gw7", "--csr", tmp_path / "none", "--out", tmp_path / "o")
        )
        assert (result.exit_code, "identity request" in result.stderr) == (2, True)


class TestRevoke:
    @pytest.fixture
    def held(self, made: Path, run: Run, csr: Path, tmp_path: Path) -> str:
        """Serial number of the certificate that gw7 holds."""
        out = tmp_path / "gw7.pem"
        run("enrol", "preauthorise", "gw7", "--csr", csr, "--out", out)
        return read_certificate(out.read_bytes()).serial

    def test_everything_of_an_agent(self, made: Path, store: SqlStore, run: Run, held: str) -> None:
        """Certificates, codes, and the list for the broker, which must read it again."""
        run("enrol", "new", "gw7")
        result = run("revoke", "gw7", "--reason", "stolen from hall 3")
        assert result.exit_code == 0
        assert "1 certificate revoked" in result.stdout
        assert "read it again" in result.stdout
        assert listed(made) == {held}
        assert store.denied() == ["gw7"]
        assert [each.state for each in store.enrolments("gw7")] == ["rejected"]
        assert audited(made)[-1] == "certificate.revoked"
        assert run("certificates", "list").stdout.startswith("certificates: none yet")
        rows = json.decode(run("certificates", "list", "--all", "--json").stdout)
        assert [(r["state"], r["reason"]) for r in rows] == [("revoked", "stolen from hall 3")]

    def test_one_certificate(self, made: Path, store: SqlStore, run: Run, held: str) -> None:
        """Its code stays good."""
        run("enrol", "new", "gw7")
        result = run("revoke", "gw7", "--reason", "copied", "--serial", held)
        assert "1 certificate revoked" in result.stdout
        assert [each.state for each in store.enrolments("gw7")] == ["open"]

    def test_who_has_none(self, made: Path, run: Run, held: str) -> None:
        """And a reason is not optional."""
        unknown = run("revoke", "gw9", "--reason", "x")
        assert (unknown.exit_code, "certificates list" in unknown.stderr) == (2, True)
        assert run("revoke", "gw7").exit_code == 2
        assert run("revoke", "gw7", "--reason", "x", "--serial", "ff").exit_code == 2

    def test_with_a_key_that_only_the_daemon_has(
        self, made: Path, config: Path, store: SqlStore, run: Run, held: str
    ) -> None:
        """It is revoked all the same; the daemon writes the list."""
        config.write_text('[pki]\nca_key = "credential:ca.key"\n')
        result = run("revoke", "gw7", "--reason", "lost")
        assert (result.exit_code, "the coordinator writes it" in result.stdout) == (0, True)
        assert store.denied() == ["gw7"]

    def test_with_a_damaged_audit_log(
        self, made: Path, store: SqlStore, run: Run, held: str
    ) -> None:
        """It is told, and keeps nobody in: neither here nor at the broker."""
        (made.parent / "audit.jsonl").write_bytes(b"x" * 100_000)
        result = run("revoke", "gw7", "--reason", "stolen")
        assert (result.exit_code, "audit.jsonl" in result.stderr) == (26, True)
        assert listed(made) == {held}
        assert store.denied() == ["gw7"]
