# SPDX-License-Identifier: Apache-2.0
"""The ceremony of the root when something is lost, leaked or mistyped."""

from pathlib import Path

import pytest
from tests.trusted import SigningPlant, a_release

from fedmill_coordinator.trust import ceremony
from fedmill_coordinator.trust.keys import make_key, read_signer
from fedmill_shared.errors import StoreError, TrustError
from fedmill_shared.trust import METADATA_LIMIT, TrustRole


class Hall(SigningPlant):
    """Where the owners meet, with a file to sign."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.file = folder / "next.root.json"

    def new(self, name: str) -> Path:
        """A fresh key; its public half."""
        path = self.folder / "new" / f"{name}.pem"
        make_key(path)
        self.made.keys[f"new {name}"] = path
        return path.with_suffix(".pub.pem")

    def prepare(self, **replace: Path) -> None:
        """Prepare the next root, with successors of some keys."""
        names = {name.replace("_", "-"): path for name, path in replace.items()}
        ceremony.prepare(self.repository, self.file, names, self.clock)

    def sign(self, *names: str) -> int:
        """These owners sign; how many signatures there are."""
        return max(ceremony.sign(self.file, self.key(name)) for name in names)

    def take_in(self) -> int:
        """Make it count; its version."""
        return ceremony.take_in(self.repository, self.file).signed.version


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    """A plant whose keys were just made."""
    return Hall(tmp_path)


class TestLoss:
    @pytest.mark.parametrize("lost", ["root-1", "root-2", "root-3"])
    def test_of_one_root_key_is_mended_by_the_others(self, hall: Hall, lost: str) -> None:
        """Whichever it is; agents follow."""
        assert hall.checked().word == ""
        hall.prepare(**{lost: hall.new(lost)})
        others = [name for name in ("root-1", "root-2", "root-3") if name != lost]
        assert hall.sign(*others) == 2
        assert hall.take_in() == 2
        assert hall.checked().versions["root"] == 2

    def test_of_two_root_keys_is_not(self, hall: Hall) -> None:
        """Neither with the third nor with the new ones: agents need another root by hand."""
        hall.prepare(root_1=hall.new("root-1"), root_2=hall.new("root-2"))
        hall.sign("root-3", "new root-1", "new root-2")
        with pytest.raises(TrustError, match=r"the root before wants 2 .* it has 1 \(root-3\)"):
            hall.take_in()
        assert hall.repository.version(TrustRole.ROOT) == 1

    @pytest.mark.parametrize("role", ["snapshot", "timestamp"])
    def test_of_a_key_of_the_daemon_is_mended_by_the_root(self, hall: Hall, role: str) -> None:
        """The daemon takes up the new one, and the thief's signs nothing any more."""
        thief = hall.key(role)
        hall.prepare(**{role: hall.new(role)})
        hall.sign("root-1", "root-2")
        hall.take_in()
        new = hall.made.keys[f"new {role}"]
        (hall.online / f"{role}.pem").write_bytes(new.read_bytes())
        hall.keeper().vouch(a_release())
        before = hall.checked()
        assert (before.word, "releases/press/1.json" in before.targets) == ("", True)
        hall.forge("timestamp", before.versions["timestamp"] + 1, lambda _: None, thief)
        found = hall.check()
        assert (found.word, found.targets) == ("refused", before.targets)

    def test_a_thief_with_two_old_keys_comes_too_late(self, hall: Hall) -> None:
        """Once the keys were changed, and agents have heard of it."""
        hall.prepare(root_1=hall.new("root-1"), root_2=hall.new("root-2"))
        hall.sign("root-1", "root-2", "new root-1", "new root-2")
        hall.take_in()
        hall.checked()
        hall.forge("root", 3, lambda _: None, hall.key("root-1"), hall.key("root-2"))
        found = hall.check()
        assert (found.word, found.versions["root"]) == ("refused", 2)


class TestMistakes:
    def test_one_key_does_not_take_two_places(self, hall: Hall) -> None:
        """Two of three would become two of two, and one stick too few."""
        other = hall.made.keys["root-1"].with_suffix(".pub.pem")
        with pytest.raises(TrustError, match="the new key of root-2 is the one of root-1"):
            hall.prepare(root_2=other)
        with pytest.raises(TrustError, match="is the one of snapshot"):
            hall.prepare(root_2=hall.made.keys["snapshot"])
        with pytest.raises(TrustError, match="is the one of root-2"):
            hall.prepare(root_2=hall.made.keys["root-2"].with_suffix(".pub.pem"))
        assert not hall.file.exists()

    def test_a_key_is_not_written_over(self, hall: Hall) -> None:
        """By a slip of the hand at --out."""
        path = hall.made.keys["root-1"]
        with pytest.raises(TrustError, match="is no metadata"):
            ceremony.prepare(hall.repository, path, {}, hall.clock)
        assert read_signer(path)

    def test_one_that_was_begun_may_be_begun_anew(self, hall: Hall) -> None:
        """Without the signatures of before."""
        hall.prepare()
        hall.sign("root-1")
        hall.prepare()
        assert hall.sign("root-2") == 1

    def test_who_signs_twice_counts_once(self, hall: Hall) -> None:
        """And says so."""
        hall.prepare()
        assert hall.sign("root-1", "root-1") == 1

    @pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 10_000, b" " * METADATA_LIMIT])
    def test_a_file_of_something_else_is_told(self, hall: Hall, data: bytes) -> None:
        """With its name."""
        hall.file.write_bytes(data)
        for act in (hall.take_in, lambda: hall.sign("root-1")):
            with pytest.raises(TrustError, match=r"next\.root\.json: is no metadata"):
                act()
        assert hall.file.read_bytes() == data

    def test_a_stick_without_the_file_is_told(self, hall: Hall) -> None:
        """It is another stick."""
        with pytest.raises(TrustError, match="cannot be read: No such file"):
            hall.take_in()
        hall.file = hall.folder / "nowhere" / "next.json"
        with pytest.raises(StoreError, match="nowhere"):
            hall.prepare()

    @pytest.mark.parametrize("steps", [0, 2])
    def test_no_root_is_left_out(self, hall: Hall, steps: int) -> None:
        """Agents follow one after the other."""
        hall.prepare()
        data = hall.file.read_bytes().replace(b'"version":2', b'"version":%d' % (1 + steps))
        hall.file.write_bytes(data)
        hall.sign("root-1", "root-2")
        with pytest.raises(TrustError, match="the newest here is 1"):
            hall.take_in()

    def test_what_was_signed_is_what_counts(self, hall: Hall) -> None:
        """Somebody changes the file between the two sticks."""
        hall.prepare()
        hall.sign("root-1")
        data = hall.file.read_bytes()
        assert b'"threshold":2' in data
        hall.file.write_bytes(data.replace(b'"threshold":2', b'"threshold":1'))
        hall.sign("root-2")
        with pytest.raises(TrustError, match="wants 2 signatures"):
            hall.take_in()
