# SPDX-License-Identifier: Apache-2.0
"""What is asked for, what is taken, and what is refused with a sentence."""

import time
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from tests.pki import DAY, Authority, Credential, now

from fedmill_agent.identity import operations
from fedmill_agent.identity.folder import CA, CERTIFICATE, KEY, NAMES, REQUEST, IdentityFolder
from fedmill_shared.crypto.certificates import read_request
from fedmill_shared.crypto.codes import check_renewal
from fedmill_shared.crypto.keys import key_id, public_bytes, read_key
from fedmill_shared.errors import IdentityError
from fedmill_shared.messages import RenewalRequest, decode

AGENT = "press-4"
PLANT = Authority()


@pytest.fixture
def folder(tmp_path: Path) -> IdentityFolder:
    """An identity folder that is not there yet."""
    return IdentityFolder(tmp_path / "identity")


def issue(folder: IdentityFolder, agent: str = AGENT, plant: Authority = PLANT) -> Credential:
    """What the authority issues for the request that waits."""
    operations.request(folder, agent)
    return plant.issue(agent, key=read_key(folder.next / KEY))


def enrolled(folder: IdentityFolder) -> Credential:
    """An agent with a certificate of the plant."""
    issued = issue(folder)
    take(folder, issued.pem)
    return issued


def take(
    folder: IdentityFolder, certificate: bytes, ca: bytes = PLANT.pem, agent: str = AGENT
) -> bool:
    """Install; whether something has changed."""
    return operations.install(folder, agent, certificate, ca, time.time_ns())[1]


class TestRequest:
    def test_asking_again(self, folder: IdentityFolder) -> None:
        """Gives the same bytes for the same key, which only its owner can read."""
        first = operations.request(folder, AGENT)
        again = operations.request(folder, AGENT)
        assert first.made
        assert not again.made
        assert (again.pem, again.key) == (first.pem, first.key)
        agent, public = read_request(first.pem)
        assert (agent, key_id(public)) == (AGENT, first.key)
        assert operations.waiting_key(folder) == first.key

    def test_another_agent(self, folder: IdentityFolder) -> None:
        """Another id is asked for with the same key: nothing was issued for it yet."""
        first = operations.request(folder, AGENT)
        other = operations.request(folder, "press-5")
        assert read_request(other.pem)[0] == "press-5"
        assert other.key == first.key

    @given(st.binary(max_size=200))
    def test_a_damaged_request(self, data: bytes) -> None:
        """Is made again."""
        assert not operations._asks(data, AGENT, bytes(32))

    def test_a_damaged_key(self, folder: IdentityFolder) -> None:
        """Is named; it is for the operator to say that it may go."""
        operations.request(folder, AGENT)
        (folder.next / KEY).write_text("nothing")
        with pytest.raises(IdentityError, match=r"next/key.pem: this is no private key"):
            operations.request(folder, AGENT)

    def test_each_certificate_has_a_key_of_its_own(self, folder: IdentityFolder) -> None:
        """The one in use is never asked for again."""
        enrolled(folder)
        used = read_key(folder.path / KEY)
        assert operations.waiting_key(folder) == ""
        made = operations.request(folder, AGENT)
        assert made.made
        assert made.key != key_id(public_bytes(used))


class TestInstall:
    def test_the_first(self, folder: IdentityFolder) -> None:
        """Files and facts are there; taking the same again changes nothing."""
        issued = issue(folder)
        waiting = operations.waiting_key(folder)
        assert take(folder, issued.pem)
        assert not take(folder, issued.pem)
        assert folder.number == 1
        facts = folder.facts()
        assert facts is not None
        assert facts.agent == AGENT
        assert facts.serial == issued.serial
        assert facts.key == waiting
        assert (folder.path / CERTIFICATE).read_bytes() == issued.pem
        assert (folder.path / CA).read_bytes() == PLANT.pem
        assert not folder.next.exists()

    def test_another_for_the_key_in_use(self, folder: IdentityFolder) -> None:
        """As an inventory does that issues again for a request that it has kept."""
        enrolled(folder)
        key = read_key(folder.path / KEY)
        again = PLANT.issue(AGENT, key=key)
        assert take(folder, again.pem)
        assert public_bytes(read_key(folder.path / KEY)) == public_bytes(key)

    def test_what_was_damaged_is_put_right(self, folder: IdentityFolder) -> None:
        """The same certificate again, where a file of it is gone."""
        issued = enrolled(folder)
        (folder.path / CERTIFICATE).unlink()
        (folder.current / CERTIFICATE).unlink()
        assert take(folder, issued.pem)
        assert (folder.path / CERTIFICATE).read_bytes() == issued.pem

    def test_of_another_agent(self, folder: IdentityFolder) -> None:
        """Both names are told."""
        issued = issue(folder, "press-5")
        with pytest.raises(IdentityError, match="of 'press-5', and this is agent 'press-4'"):
            take(folder, issued.pem)

    def test_for_another_key(self, folder: IdentityFolder) -> None:
        """As after a request that was made anew."""
        operations.request(folder, AGENT)
        with pytest.raises(IdentityError, match="for a key that is not here"):
            take(folder, PLANT.issue(AGENT).pem)

    def test_of_another_authority(self, folder: IdentityFolder) -> None:
        """Also where that has the same name."""
        issued = issue(folder, plant=Authority())
        with pytest.raises(IdentityError, match="not issued by the authority 'CN=Plant CA'"):
            take(folder, issued.pem)

    def test_an_agent_is_no_authority(self, folder: IdentityFolder) -> None:
        """A certificate that a certificate of an agent has signed is none."""
        other = PLANT.issue("press-9")
        forged = Authority()
        forged._key = other.key  # type: ignore[assignment]
        issued = issue(folder, plant=forged)
        with pytest.raises(IdentityError, match="not issued by"):
            take(folder, issued.pem, other.pem)

    @pytest.mark.parametrize(
        ("begin", "told"),
        [
            (now() + DAY, "this machine's clock says .* valid from"),
            (now() - 2 * DAY, "was valid until"),
        ],
    )
    def test_at_a_wrong_time(self, folder: IdentityFolder, begin: datetime, told: str) -> None:
        """The sentence names the clock."""
        operations.request(folder, AGENT)
        issued = PLANT.issue(AGENT, key=read_key(folder.next / KEY), begin=begin, life=DAY)
        with pytest.raises(IdentityError, match=told):
            take(folder, issued.pem)
        assert folder.number == 0

    @given(st.binary(max_size=200), st.booleans())
    def test_foreign_bytes(self, data: bytes, as_ca: bool) -> None:  # noqa: FBT001
        """In place of either certificate: refused, whatever they are."""
        given_ = (PLANT.issue(AGENT).pem, data) if as_ca else (data, PLANT.pem)
        with pytest.raises(IdentityError):
            operations._checked(AGENT, *given_)


class TestRenewal:
    def test_is_signed_with_the_key_in_use(self, folder: IdentityFolder) -> None:
        """For a key that is another; asking again sends the same bytes."""
        issued = enrolled(folder)
        payload = operations.ask_for_renewal(folder, AGENT)
        assert operations.ask_for_renewal(folder, AGENT) == payload
        message = decode(payload, RenewalRequest)
        public = issued.certificate.public_key()
        assert isinstance(public, Ed25519PublicKey)
        assert message.key == key_id(public.public_bytes_raw())
        check_renewal(public.public_bytes_raw(), AGENT, message.csr, message.signature)
        assert read_request(message.csr)[1] != public.public_bytes_raw()

    def test_without_an_identity(self, folder: IdentityFolder) -> None:
        """There is nothing to sign with."""
        with pytest.raises(IdentityError, match="cannot be read"):
            operations.ask_for_renewal(folder, AGENT)
        with pytest.raises(IdentityError, match="cannot be read"):
            operations.authority(folder)

    def test_the_authority_stays(self, folder: IdentityFolder) -> None:
        """A certificate of another one does not come in over the network."""
        enrolled(folder)
        other = issue(folder, plant=Authority())
        with pytest.raises(IdentityError, match="not issued by"):
            take(folder, other.pem, operations.authority(folder))
        renewed = issue(folder)
        assert take(folder, renewed.pem, operations.authority(folder))


class TestByHand:
    def put(self, folder: IdentityFolder, credential: Credential) -> None:
        """Files as somebody copies them."""
        credential.write(folder.path, PLANT.pem)

    def test_is_taken_over(self, folder: IdentityFolder) -> None:
        """The files keep their names, and the agent renews from then on."""
        made = PLANT.issue(AGENT)
        self.put(folder, made)
        facts = operations.look(folder, AGENT)
        assert facts is not None
        assert facts.serial == made.serial
        assert folder.number == 1
        assert (folder.path / KEY).read_bytes() == made.key_pem
        assert all((folder.path / name).is_symlink() for name in NAMES)
        assert operations.look(folder, AGENT) == facts
        assert decode(operations.ask_for_renewal(folder, AGENT), RenewalRequest).key == facts.key

    def test_files_that_do_not_belong_together(self, folder: IdentityFolder) -> None:
        """They stay as they are, and are told."""
        self.put(folder, PLANT.issue(AGENT))
        (folder.path / KEY).write_bytes(PLANT.issue(AGENT).key_pem)
        with pytest.raises(IdentityError, match="do not belong together"):
            operations.look(folder, AGENT)
        assert folder.number == 0

    def test_elsewhere(self, tmp_path: Path) -> None:
        """Looked at where they are; nothing is written."""
        place = PLANT.issue(AGENT).write(tmp_path / "certs", PLANT.pem)
        paths = [place / name for name in (CERTIFICATE, KEY, CA)]
        facts = operations.look_at(*paths)
        assert facts.agent == AGENT
        assert sorted(each.name for each in place.iterdir()) == sorted(NAMES)
        (place / CA).write_bytes(Authority().pem)
        with pytest.raises(IdentityError, match="not issued by"):
            operations.look_at(*paths)

    def test_nothing_is_there(self, folder: IdentityFolder) -> None:
        """Nothing is known."""
        assert operations.look(folder, AGENT) is None
        assert not (folder.next / REQUEST).exists()
