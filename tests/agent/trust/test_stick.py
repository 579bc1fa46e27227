# SPDX-License-Identifier: Apache-2.0
"""What whoever owns a stick can put on it: whatever it is, nothing is changed and it is told."""

import os
from pathlib import Path

import pytest
from msgspec import structs
from tests.agent.trust.stick import PARTS, Stick, notice_of
from tests.trusted import AGENT, JOB_FILE, SigningPlant, a_release

from fedmill_agent.trust import bundle
from fedmill_agent.trust.bundle import check
from fedmill_coordinator.trust.keys import make_key, read_public
from fedmill_shared.errors import FedmillError, FrameError, StoreError, TrustError
from fedmill_shared.files import sha256
from fedmill_shared.job_check import canonical, load_job
from fedmill_shared.messages import BlobName, JobNotice, encode
from fedmill_shared.trust import TrustRole


@pytest.fixture
def rig(tmp_path: Path) -> Stick:
    """A stick on which everything is as it should be."""
    return Stick(tmp_path)


def refused(rig: Stick, error: type[FedmillError], why: str) -> None:
    """The check must say so, and leave no trace in the agent's folder."""
    with pytest.raises(error, match=why):
        rig.checked()
    assert list(rig.state.iterdir()) == []


class TestWhole:
    def test_names_all_that_is_in_it(self, rig: Stick) -> None:
        """Jobs, releases, configuration, and every file with its digest."""
        found = rig.checked()
        assert (found.jobs, found.releases, found.software) == (["press"], {"press": 1}, [])
        assert [each.path for each in found.verified.configs] == ["config/all.toml"]
        files = [path for path in rig.stick.rglob("*") if path.is_file()]
        assert {rig.stick / path for path in found.digests} == set(files)
        for path, digest in found.digests.items():
            assert sha256((rig.stick / path).read_bytes()) == digest

    def test_has_the_name_of_what_it_says(self, rig: Stick) -> None:
        """The same again is the same; what is signed later is another."""
        first = rig.checked().name
        assert rig.checked().name == first
        rig.clock.seconds = 7200
        rig.write(rig.folder / "later")
        assert check(rig.folder / "later", rig.state, rig.root, AGENT).name != first


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "evil.txt",
            "metadata/evil.json",
            "metadata/sub/1.root.json",
            "metadata/._1.root.json",
            "targets/jobs/evil.toml",
            "targets/../evil",
            "notices/press.exe",
            "notices/\x1b[2Jpress.job",
            "notices/UPPER.job",
            "notices/" + "a" * 33 + ".job",
            "blobs/evil",
            "blobs/" + "A" * 64,
            ".hidden",
            "System Volume Information/IndexerVolumeGuid",
        ],
    )
    def test_a_file_of_another_name_is_refused(self, rig: Stick, name: str) -> None:
        """Whatever a desktop, or somebody else, has left there."""
        path = rig.stick / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("evil")
        refused(rig, TrustError, "does not belong in a bundle")

    def test_a_name_that_steers_a_terminal_is_told_harmlessly(self, rig: Stick) -> None:
        """As is one that is no text at all."""
        (rig.stick / os.fsdecode(b"\x1b[2J\xff")).symlink_to("/etc/passwd")
        with pytest.raises(TrustError) as caught:
            rig.checked()
        assert "is a link" in str(caught.value)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("place", ["blobs/link", "metadata/9.root.json", "notices/x.job"])
    @pytest.mark.parametrize("target", ["/etc/passwd", "/dev/zero", "/", "nowhere", "."])
    def test_no_link_is_followed(self, rig: Stick, place: str, target: str) -> None:
        """To a secret, to an endless device, to a folder, to itself."""
        (rig.stick / place).symlink_to(target)
        refused(rig, TrustError, "is a link")

    def test_a_folder_that_is_a_link_is_refused(self, rig: Stick) -> None:
        """What is behind it may change at any time."""
        (rig.stick / "notices").rename(rig.folder / "elsewhere")
        (rig.stick / "notices").symlink_to(rig.folder / "elsewhere")
        refused(rig, TrustError, "is a link")

    def test_a_pipe_is_not_waited_for(self, rig: Stick) -> None:
        """It would never end."""
        os.mkfifo(rig.stick / "notices" / "x.job")
        refused(rig, TrustError, "does not belong in a bundle")

    def test_something_else_is_no_bundle(self, rig: Stick) -> None:
        """A folder too high or too low, or a file."""
        for path in (rig.folder, rig.stick / "blobs", rig.root, rig.folder / "nowhere"):
            with pytest.raises(StoreError, match="is no bundle"):
                check(path, rig.state, rig.root, AGENT)


class TestFloods:
    def test_endless_files_and_folders_are_not_counted_to_the_end(
        self, rig: Stick, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Empty folders, too, cost nothing to make."""
        count = sum(1 for _ in rig.stick.rglob("*"))
        monkeypatch.setattr(bundle, "MOST_FILES", count)
        assert rig.checked()
        (rig.stick / "blobs" / "empty").mkdir()
        refused(rig, TrustError, f"more than {count} files and folders")

    @pytest.mark.parametrize("place", ["metadata/9.root.json", "notices/x.job", "targets/big"])
    def test_a_huge_file_is_not_read(self, rig: Stick, place: str) -> None:
        """A sparse one takes no room on the stick."""
        with (rig.stick / place).open("wb") as file:
            file.truncate(1 << 40)
        refused(rig, TrustError, "too large")

    def test_blobs_of_no_release_are_refused(self, rig: Stick) -> None:
        """However well they are named: they would fill the agent's disk."""
        data = b"junk" * 1000
        (rig.stick / "blobs" / sha256(data)).write_bytes(data)
        refused(rig, TrustError, "belongs to no release")

    def test_without_the_notice_its_blobs_belong_to_nothing(self, rig: Stick) -> None:
        """Half a bundle is none."""
        (rig.stick / "notices" / "press.release").unlink()
        refused(rig, TrustError, "belongs to no release")


class TestTampering:
    @pytest.mark.parametrize("part", sorted(PARTS))
    def test_a_blob_that_was_changed(self, rig: Stick, part: str) -> None:
        """By one byte, of the same size."""
        data = bytearray(rig.blob(part).read_bytes())
        data[-1] ^= 1
        rig.blob(part).write_bytes(data)
        refused(rig, TrustError, "was changed")

    @pytest.mark.parametrize("part", sorted(PARTS))
    def test_a_blob_that_is_missing_or_cut_off(self, rig: Stick, part: str) -> None:
        """A stick that was pulled out too early."""
        rig.blob(part).write_bytes(rig.blob(part).read_bytes()[:-1])
        refused(rig, TrustError, "missing, or of another size")
        rig.blob(part).unlink()
        refused(rig, TrustError, "missing, or of another size")

    def test_a_release_that_nobody_signed(self, rig: Stick) -> None:
        """A later number of the same parts."""
        forged = structs.replace(notice_of(), release=2)
        (rig.stick / "notices" / "press.release").write_bytes(encode(forged))
        refused(rig, TrustError, "release 2 is not signed")

    @pytest.mark.parametrize(
        "fields", [{"back": True}, {"agents": ["other"]}, {"agents": []}], ids=str
    )
    def test_a_notice_that_says_more_than_is_signed(
        self, rig: Stick, fields: dict[str, object]
    ) -> None:
        """Whom it is for is nothing that a stick may say."""
        forged = structs.replace(notice_of(), **fields)
        (rig.stick / "notices" / "press.release").write_bytes(encode(forged))
        refused(rig, TrustError, "changed|not made of what is signed")

    def test_a_notice_with_a_delta_of_a_stranger(self, rig: Stick) -> None:
        """It would be asked for of the network."""
        delta = BlobName(sha256="d" * 64, size=1 << 30)
        notice = structs.replace(notice_of().notice, delta=delta, base="a" * 64)
        forged = structs.replace(notice_of(), notice=notice)
        (rig.stick / "notices" / "press.release").write_bytes(encode(forged))
        refused(rig, TrustError, "release 1 was changed")

    def test_a_size_that_is_another(self, rig: Stick) -> None:
        """No signature covers it, but the file does."""
        snapshot = structs.replace(notice_of().notice.snapshot, size=1 << 40)
        notice = structs.replace(notice_of().notice, snapshot=snapshot)
        forged = structs.replace(notice_of(), notice=notice)
        (rig.stick / "notices" / "press.release").write_bytes(encode(forged))
        refused(rig, TrustError, "of another size")

    def test_a_job_that_is_another(self, rig: Stick) -> None:
        """Its text is what is signed."""
        other = rig.folder / "other.toml"
        other.write_text(JOB_FILE.replace("length = 256", "length = 512"))
        notice = JobNotice(job="press", text=canonical(load_job(other)), state="running")
        (rig.stick / "notices" / "press.job").write_bytes(encode(notice))
        refused(rig, TrustError, "text of job press is not the one that is signed")

    def test_a_job_that_was_never_signed(self, rig: Stick) -> None:
        """Under whatever name."""
        notice = JobNotice(job="evil", text=b"evil", state="running")
        (rig.stick / "notices" / "evil.job").write_bytes(encode(notice))
        refused(rig, TrustError, "job evil is not signed")

    @pytest.mark.parametrize("kind", ["job", "release"])
    def test_a_notice_under_another_name(self, rig: Stick, kind: str) -> None:
        """It would be one too many, or taken for another job's."""
        path = rig.stick / "notices" / f"press.{kind}"
        path.rename(path.with_name(f"other.{kind}"))
        refused(rig, TrustError, "called by another name")

    @pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x81\xa3job\xa5press", b"x" * 5000])
    @pytest.mark.parametrize("kind", ["job", "release"])
    def test_a_notice_that_is_damaged(self, rig: Stick, kind: str, data: bytes) -> None:
        """Cut off, or of something else."""
        (rig.stick / "notices" / f"press.{kind}").write_bytes(data)
        refused(rig, FrameError, rf"notices/press\.{kind}: ")

    def test_a_configuration_that_was_changed(self, rig: Stick) -> None:
        """One that is not signed, or not as it is here."""
        (path,) = (rig.stick / "targets" / "config").iterdir()
        path.write_bytes(path.read_bytes().replace(b"5", b"6"))
        refused(rig, TrustError, "was changed")
        path.rename(path.with_name(f"{'0' * 64}.all.toml"))
        refused(rig, TrustError, "has not come yet")

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "models"])
    def test_metadata_that_is_missing(self, rig: Stick, role: str) -> None:
        """A stick from which something was taken away."""
        (path,) = (rig.stick / "metadata").glob(f"*{role}.json")
        path.unlink()
        refused(rig, TrustError, "not all of the metadata has come")

    def test_metadata_of_another_plant(self, rig: Stick, tmp_path: Path) -> None:
        """Well made, and signed by somebody whom nobody here knows."""
        other = Stick(tmp_path / "other")
        with pytest.raises(TrustError, match="not signed by whom we trust"):
            check(other.stick, rig.state, rig.root, AGENT)


class TestSoftware:
    def test_a_wheel_that_was_changed_or_is_not_signed(self, rig: Stick) -> None:
        """The deployment installs what lies there."""
        rig.stick = rig.folder / "full"
        rig.write(rig.stick, software=True)
        (wheel,) = rig.checked().software
        data = wheel.read_bytes()
        wheel.write_bytes(data[:-1])
        refused(rig, TrustError, "was changed")
        wheel.write_bytes(data)
        wheel.with_name(f"{sha256(b'evil')}.evil.whl").write_bytes(b"evil")
        refused(rig, TrustError, "is not signed")

    def test_a_lost_key_of_it_holds_up_no_bundle_without_it(self, rig: Stick) -> None:
        """Who signs software is nobody's business where there is none."""
        new = rig.folder / "new" / "software.pem"
        make_key(new)
        rig.operator().replace_key(TrustRole.SOFTWARE, read_public(new, "software"))
        rig.stick, full = rig.folder / "plain", rig.folder / "full"
        rig.write(rig.stick)
        assert rig.checked().releases == {"press": 1}
        rig.write(full, software=True)
        with pytest.raises(TrustError, match="not signed by whom we trust"):
            check(full, rig.state, rig.root, AGENT)
        rig.made.keys["software"] = new
        rig.operator("software").renew(TrustRole.SOFTWARE)
        rig.write(rig.folder / "again", software=True)
        assert check(rig.folder / "again", rig.state, rig.root, AGENT).software


class TestTerm:
    def test_one_that_is_over_is_refused(self, rig: Stick) -> None:
        """It lay about for too long; what to do is told."""
        rig.clock.seconds = -3 * 86_400
        rig.write(rig.folder / "old")
        with pytest.raises(TrustError, match="signed metadata is over"):
            check(rig.folder / "old", rig.state, rig.root, AGENT)

    def test_an_agent_that_knows_more_goes_back_to_none(self, rig: Stick) -> None:
        """Its own metadata is a floor, for a stick as for the network."""
        rig.keeper().vouch(a_release(2))
        assert SigningPlant.checked(rig).word == ""
        with pytest.raises(TrustError, match="version"):
            rig.checked()


class TestDisk:
    def test_a_stick_that_fails_is_told_with_the_file(
        self, rig: Stick, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was pulled out while it was read."""

        def gone(path: Path) -> str:
            raise OSError(5, "Input/output error", str(path))

        monkeypatch.setattr(bundle, "_digest", gone)
        refused(rig, StoreError, r"stick/.*Input/output error.*is the stick in place")

    def test_no_room_for_the_copy_that_is_checked(
        self, rig: Stick, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The folder for temporary files is full."""

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        rig.places.metadata.mkdir(parents=True)
        monkeypatch.setattr(bundle.shutil, "copytree", full)  # type: ignore[attr-defined]
        with pytest.raises(StoreError, match="No space left on device"):
            rig.checked()
