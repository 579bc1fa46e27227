# SPDX-License-Identifier: Apache-2.0
"""How a bundle gets from the stick to the agent: whole or not at all, whatever happens."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.agent.trust.stick import PARTS, Stick
from tests.trusted import AGENT

from fedmill_agent.trust import handover
from fedmill_agent.trust.handover import hand_over
from fedmill_shared.errors import StoreError, TrustError
from fedmill_shared.files import sha256

WAITING = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("turn")
"""


@pytest.fixture
def rig(tmp_path: Path) -> Stick:
    """A stick on which everything is as it should be."""
    return Stick(tmp_path)


def lying(rig: Stick) -> list[Path]:
    """Everything that lies where the daemon looks, drafts as well."""
    return sorted(rig.places.imports.iterdir()) if rig.places.imports.exists() else []


class TestCopy:
    def test_has_what_the_daemon_needs_byte_by_byte(self, rig: Stick) -> None:
        """And not the rest: jobs lie in their notices."""
        place = rig.handed_over()
        assert {each.name for each in place.iterdir()} == {
            "metadata",
            "targets",
            "notices",
            "blobs",
        }
        assert [each.name for each in (place / "targets").iterdir()] == ["config"]
        for path in (each for each in place.rglob("*") if each.is_file()):
            assert path.read_bytes() == (rig.stick / path.relative_to(place)).read_bytes()

    def test_is_for_its_owner_only_whatever_the_stick_says(self, rig: Stick) -> None:
        """One that was mounted read-only could not be removed any more."""
        for path in sorted(rig.stick.rglob("*"), reverse=True):
            path.chmod(0o555 if path.is_dir() else 0o444)
        place = rig.handed_over()
        for path in (place, *place.rglob("*")):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)

    def test_is_on_the_disk_before_it_counts(
        self, rig: Stick, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a power cut there are no empty files in it."""
        order: list[str] = []
        fsync = os.fsync

        def noted(handle: int) -> None:
            order.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
            fsync(handle)

        monkeypatch.setattr(handover.os, "fsync", noted)  # type: ignore[attr-defined]
        place = rig.handed_over()
        draft = str(place.with_name(f".{place.name}"))
        files = {str(each).replace(str(place), draft) for each in place.rglob("*")}
        assert files <= set(order)
        assert order[-1] == str(place.parent)

    def test_twice_is_once(self, rig: Stick) -> None:
        """Nothing is copied again, and nothing is left over."""
        place = rig.handed_over()
        mark = place / "metadata" / "timestamp.json"
        before = mark.stat().st_ino
        assert rig.handed_over() == place
        assert mark.stat().st_ino == before
        assert lying(rig) == [place]

    def test_once_more_after_it_was_done_with(self, rig: Stick) -> None:
        """The daemon has removed it; it may be needed again."""
        handover.remove(rig.handed_over())
        assert lying(rig) == []
        assert rig.handed_over().is_dir()


class TestExchange:
    """Between the check and the copy a stick may become another one."""

    @pytest.mark.parametrize("size", [-1, 0, 1])
    def test_a_file_that_is_another(self, rig: Stick, size: int) -> None:
        """Shorter, as long, or longer."""
        checked, blob = rig.checked(), rig.blob("snapshot")
        blob.write_bytes(b"x" * (len(PARTS["snapshot"]) + size))
        with pytest.raises(TrustError, match="changed while it was copied"):
            hand_over(checked, rig.state)
        assert lying(rig) == []

    def test_a_file_that_became_a_link(self, rig: Stick) -> None:
        """A secret of the agent does not get into its folder of bundles."""
        checked, blob = rig.checked(), rig.blob("manifest")
        blob.unlink()
        blob.symlink_to("/etc/passwd")
        with pytest.raises(StoreError, match=blob.name):
            hand_over(checked, rig.state)
        assert lying(rig) == []

    def test_a_file_that_became_a_pipe(self, rig: Stick) -> None:
        """It is not waited for."""
        checked, blob = rig.checked(), rig.blob("manifest")
        blob.unlink()
        os.mkfifo(blob)
        with pytest.raises(TrustError, match="no plain file any more"):
            hand_over(checked, rig.state)
        assert lying(rig) == []

    def test_a_file_that_is_gone(self, rig: Stick) -> None:
        """The stick was pulled out."""
        checked = rig.checked()
        rig.blob("manifest").unlink()
        with pytest.raises(StoreError, match="No such file"):
            hand_over(checked, rig.state)
        assert lying(rig) == []

    def test_what_came_to_it_meanwhile_is_not_copied(self, rig: Stick) -> None:
        """Only what was checked is."""
        checked = rig.checked()
        (rig.stick / "blobs" / sha256(b"junk")).write_bytes(b"junk")
        place = hand_over(checked, rig.state)
        assert not (place / "blobs" / sha256(b"junk")).exists()


class TestDisk:
    def test_too_little_room_is_told_before_anything_is_copied(
        self, rig: Stick, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With how much is needed and how much there is."""
        checked = rig.checked()
        monkeypatch.setattr(
            handover.shutil,  # type: ignore[attr-defined]
            "disk_usage",
            lambda _: SimpleNamespace(free=1000),
        )
        with pytest.raises(StoreError, match=r"\d{5} bytes are needed .* 1000 are free"):
            hand_over(checked, rig.state)
        assert lying(rig) == []

    def test_one_that_fills_up_meanwhile_is_left_as_it_was(
        self, rig: Stick, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Half a bundle takes no room."""
        checked, left = rig.checked(), [5]
        fsync = os.fsync

        def full(handle: int) -> None:
            left[0] -= 1
            if not left[0]:
                raise OSError(28, "No space left on device")
            fsync(handle)

        monkeypatch.setattr(handover.os, "fsync", full)  # type: ignore[attr-defined]
        with pytest.raises(StoreError, match=r"No space left on device.*room on the disk"):
            hand_over(checked, rig.state)
        assert lying(rig) == []
        assert hand_over(checked, rig.state).is_dir()

    def test_a_folder_that_cannot_be_made_is_told(self, rig: Stick) -> None:
        """Something else is called so."""
        checked = rig.checked()
        rig.places.folder.mkdir()
        rig.places.imports.write_bytes(b"")
        with pytest.raises(StoreError, match="import: folder cannot be created"):
            hand_over(checked, rig.state)


class TestDeath:
    @pytest.mark.parametrize("event", ["os.mkdir", "open", "os.rename"])
    @pytest.mark.parametrize("call", [1, 5])
    def test_an_import_that_is_killed_is_done_by_the_next(
        self, rig: Stick, event: str, call: int
    ) -> None:
        """The daemon never sees half of one, and what was left is cleared away."""
        killer = rig.folder / "killer.py"
        killer.write_text(
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from fedmill_agent.trust.bundle import check\n"
            "from fedmill_agent.trust.handover import hand_over\n"
            "stick, state, root, agent = sys.argv[1:]\n"
            "checked, count = check(Path(stick), Path(state), Path(root), agent), 0\n"
            "def hook(event, arguments):\n"
            "    global count\n"
            f"    if event == {event!r} and '/import/' in str(arguments[0]):\n"
            "        count += 1\n"
            f"        if count == {call}: os.kill(os.getpid(), signal.SIGKILL)\n"
            "sys.addaudithook(hook)\n"
            "hand_over(checked, Path(state))\n"
        )
        paths = [str(each) for each in (killer, rig.stick, rig.state, rig.root)]
        code = subprocess.run([sys.executable, *paths, AGENT], check=False).returncode
        assert code in (0, -9)
        seen = [each for each in lying(rig) if not each.name.startswith(".")]
        assert bool(seen) is (code == 0)
        place = rig.handed_over()
        assert lying(rig) == [place]
        assert (place / "blobs" / sha256(PARTS["snapshot"])).read_bytes() == PARTS["snapshot"]

    def test_what_another_import_left_is_cleared_away(self, rig: Stick) -> None:
        """Of another bundle, perhaps gigabytes."""
        left = rig.places.imports / ".0123" / "blobs"
        left.mkdir(parents=True)
        (left / "part").write_bytes(b"x")
        assert lying(rig) == [left.parent]
        assert lying(rig) != [rig.handed_over()]
        assert not left.exists()

    def test_two_at_once_take_their_turns(self, rig: Stick) -> None:
        """The second waits, and finds it there."""
        checked = rig.checked()
        rig.places.folder.mkdir(exist_ok=True)
        lock = rig.places.imports.with_suffix(".lock")
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            other = subprocess.Popen(
                [sys.executable, "-c", WAITING, str(lock)], stdout=subprocess.PIPE
            )
            assert other.poll() is None
        assert other.communicate()[0] == b"turn\n"
        assert hand_over(checked, rig.state).is_dir()

    def test_a_link_in_the_place_of_the_lock_leads_nowhere(self, rig: Stick) -> None:
        """Whoever is in the state folder has nothing elsewhere written."""
        checked, elsewhere = rig.checked(), rig.folder / "elsewhere"
        rig.places.folder.mkdir(exist_ok=True)
        rig.places.imports.with_suffix(".lock").symlink_to(elsewhere)
        with pytest.raises(StoreError, match="lock"):
            hand_over(checked, rig.state)
        assert not elsewhere.exists()
