# SPDX-License-Identifier: Apache-2.0
"""``fedmill bundle``: what goes along, what does not, and what is left where it goes wrong."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec import structs
from tests.trusted import AGENT, JOB_FILE, SigningPlant, digest_of

from fedmill_agent.trust.bundle import check
from fedmill_coordinator.cli import main
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import JobRecord, VersionRecord
from fedmill_coordinator.store.records_releases import ReleaseRecord
from fedmill_coordinator.trust import bundle, operator
from fedmill_coordinator.trust.bundle import Bundled, write_bundle
from fedmill_coordinator.trust.keys import read_online
from fedmill_shared.errors import FedmillError, StoreError, TrustError
from fedmill_shared.files import sha256
from fedmill_shared.job_check import canonical, load_job
from fedmill_shared.messages import JobNotice, ReleaseNotice, decode
from fedmill_shared.trust import TrustRole


class Rig(SigningPlant):
    """A plant that runs the jobs ``press`` and ``oven``; ``press`` has a signed release."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.blobs = Blobs(folder / "blobs")
        self.store = MemoryStore()
        self.out = folder / "stick"
        for name in ("press", "oven"):
            self.run(name)
        self.release(1)

    def run(self, name: str, *, signed: bool = True) -> None:
        """The coordinator runs a job."""
        path = self.folder / f"{name}.toml"
        path.write_text(JOB_FILE.replace('"press"', f'"{name}"'))
        if signed:
            self.operator().add_job(path, {})
        text = canonical(load_job(path)).decode()
        part = self.blobs.put(b"part of " + name.encode())
        record = JobRecord(
            name=name,
            text=text,
            sha256=sha256(text.encode()),
            state="running",
            created_ns=1,
            updated_ns=1,
            manifest=b"manifest",
            template=part,
            canary_inputs=part,
        )
        self.store.add_job(record)

    def release(self, number: int, *, signed: bool = True) -> None:
        """The coordinator releases a version of ``press``."""
        version = VersionRecord(
            job="press",
            number=number,
            version=digest_of(str(number)),
            base=None,
            weights=self.blobs.put(b"weights %d" % number),
            delta=None,
            canary_outputs=b"outputs",
            round=None,
            created_ns=1,
        )
        self.store.add_version(version)
        record = ReleaseRecord(
            job="press",
            release=number,
            version=version.version,
            before=None,
            why="last",
            rings=["fleet"],
            created_ns=1,
        )
        self.store.add_release(record)
        if signed:
            notice = bundle._notice(self.store, self.blobs, record)
            assert notice is not None
            self.keeper().vouch(structs.replace(notice, agents=["press-1"]))

    def write(self, *jobs: str, software: bool = False) -> Bundled:
        """Write a bundle."""
        self.refresh()
        return write_bundle(
            self.repository, self.store, self.blobs, self.out, jobs=jobs, software=software
        )


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A plant with something to carry."""
    return Rig(tmp_path)


class TestContent:
    def test_all_jobs_and_the_newest_release_go_along(self, rig: Rig) -> None:
        """With every blob, and no other."""
        made = rig.write()
        assert (sorted(made.jobs), made.releases) == (["oven", "press"], {"press": 1})
        notice = decode((rig.out / "notices" / "press.release").read_bytes(), ReleaseNotice)
        named = {each.sha256 for each in bundle.blobs_of(notice.notice)}
        assert {each.name for each in (rig.out / "blobs").iterdir()} == named
        for each in (rig.out / "blobs").iterdir():
            assert sha256(each.read_bytes()) == each.name

    def test_one_job_if_asked(self, rig: Rig) -> None:
        """Nothing of the others is installed by it, though what is signed is named."""
        made = rig.write("oven")
        assert (made.jobs, made.releases) == (["oven"], {})
        assert [each.name for each in (rig.out / "notices").iterdir()] == ["oven.job"]
        assert not (rig.out / "blobs").exists()

    def test_what_is_signed_a_moment_before_fits_together(self, rig: Rig) -> None:
        """Nobody signs between what is due and the copy: the folder is held meanwhile."""
        rig.run("late")

        def refresh() -> None:
            with pytest.raises(StoreError, match="holds the folder"):
                rig.repository.alone(seconds=0).__enter__()
            rig.repository.refresh(read_online(rig.online), rig.clock)

        write_bundle(rig.repository, rig.store, rig.blobs, rig.out, refresh=refresh)
        checked = check(rig.out, rig.state, rig.root, AGENT)
        assert sorted(checked.jobs) == ["late", "oven", "press"]

    def test_the_same_job_twice_is_once(self, rig: Rig) -> None:
        """At the command line it may be given several times."""
        assert rig.write("press", "press").jobs == ["press"]

    def test_a_release_that_is_not_signed_yet_stays_behind(self, rig: Rig) -> None:
        """The one before it goes along."""
        rig.release(2, signed=False)
        assert rig.write().releases == {"press": 1}

    def test_a_release_is_for_whoever_has_the_stick(self, rig: Rig) -> None:
        """Not only for the ring that is open at present."""
        rig.write()
        notice = decode((rig.out / "notices" / "press.release").read_bytes(), ReleaseNotice)
        assert notice.agents is None
        assert decode((rig.out / "notices" / "press.job").read_bytes(), JobNotice).job == "press"

    def test_every_root_goes_along_and_the_newest_of_all_others(self, rig: Rig) -> None:
        """An agent may have been away for years."""
        rig.write()
        versions = {role: rig.repository.version(role) for role in TrustRole}
        names = {rig.repository.path(role, number).name for role, number in versions.items()}
        assert {each.name for each in (rig.out / "metadata").iterdir()} == names


class TestRefusal:
    def refused(self, rig: Rig, error: type[FedmillError], why: str, *jobs: str) -> None:
        """Nothing is left that the next one would stumble over."""
        with pytest.raises(error, match=why):
            rig.write(*jobs)
        assert not rig.out.exists() or not any(rig.out.iterdir())

    def test_a_job_that_nobody_knows(self, rig: Rig) -> None:
        """With its name; the right one goes to the same folder."""
        self.refused(rig, TrustError, "mill, saw: no such job", "saw", "press", "mill")
        assert rig.write("press").jobs == ["press"]

    def test_a_job_that_runs_unsigned(self, rig: Rig) -> None:
        """It was started before somebody wrote [trust]."""
        rig.run("mill", signed=False)
        self.refused(rig, TrustError, "mill: no such job is signed", "mill")
        assert sorted(rig.write().jobs) == ["oven", "press"]

    def test_a_stick_with_something_on_it(self, rig: Rig) -> None:
        """It is not touched."""
        rig.out.mkdir()
        (rig.out / "notices").write_text("mine")
        with pytest.raises(TrustError, match="is not empty"):
            rig.write()
        assert (rig.out / "notices").read_text() == "mine"

    def test_a_file_in_the_place_of_the_folder(self, rig: Rig) -> None:
        """It stays as it is."""
        rig.out.write_text("mine")
        with pytest.raises(TrustError, match="is not empty"):
            rig.write()
        assert rig.out.read_text() == "mine"

    @pytest.mark.parametrize("call", [1, 5, 12])
    def test_a_stick_that_is_full(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch, call: int
    ) -> None:
        """What was written of it is cleared away."""
        rig.refresh()
        copy, count = bundle.shutil.copyfile, [0]  # type: ignore[attr-defined]

        def full(source: Path, target: Path) -> None:
            count[0] += 1
            if count[0] == call:
                raise OSError(28, "No space left on device", str(target))
            copy(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(bundle.shutil, "copyfile", full)  # type: ignore[attr-defined]
            self.refused(rig, StoreError, r"stick/.*No space left on device.*room on the stick")
        assert rig.write().releases == {"press": 1}

    def test_a_blob_that_is_gone(self, rig: Rig) -> None:
        """It says which; a bundle without it would be of no use."""
        version = rig.store.version("press", digest_of("1"))
        assert version is not None
        assert version.weights is not None
        rig.blobs.path(version.weights).unlink()
        self.refused(rig, StoreError, version.weights[:12])

    def test_is_on_the_stick_before_it_ends(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """People pull sticks out."""
        synced: set[str] = set()
        fsync = os.fsync

        def noted(handle: int) -> None:
            synced.add(str(Path(f"/proc/self/fd/{handle}").readlink()))
            fsync(handle)

        monkeypatch.setattr(bundle.os, "fsync", noted)  # type: ignore[attr-defined]
        rig.write()
        assert {str(each) for each in rig.out.rglob("*")} <= synced


class TestSoftware:
    def wheel(self, rig: Rig) -> Path:
        """A file to sign."""
        path = rig.folder / "fedmill-1.0-py3-none-any.whl"
        path.write_bytes(b"wheel" * 1000)
        return path

    def test_nothing_is_copied_for_a_wrong_key(self, rig: Rig) -> None:
        """Four gigabytes would be."""
        with pytest.raises(TrustError, match="not the key of software"):
            rig.operator().add_software(self.wheel(rig))
        assert not (rig.repository.targets_folder / "software").exists()

    def test_nothing_is_left_where_the_disk_is_full(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And nothing is signed."""

        def full(_handle: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(operator.os, "fsync", full)  # type: ignore[attr-defined]
            with pytest.raises(StoreError, match="cannot be copied: No space left"):
                rig.operator("software").add_software(self.wheel(rig))
        assert list((rig.repository.targets_folder / "software").iterdir()) == []
        assert rig.repository.targets(TrustRole.SOFTWARE).signed.targets == {}

    @pytest.mark.parametrize("name", ["-x.whl", "a b.whl", "x\n.whl", "ä.whl", "x" * 129])
    def test_a_name_that_is_none_is_refused(self, rig: Rig, name: str) -> None:
        """It would be no file on the other side."""
        path = rig.folder / name
        path.write_bytes(b"wheel")
        with pytest.raises(TrustError, match="cannot be signed"):
            rig.operator("software").add_software(path)


class TestCommand:
    def typed(self, folder: Path, *words: object) -> Result:
        """Type a command."""
        config = folder / "coordinator.toml"
        return CliRunner().invoke(main, [*map(str, words), "--config", str(config)])

    @pytest.fixture
    def plant(self, tmp_path: Path) -> Path:
        """A coordinator that has never run."""
        (tmp_path / "coordinator.toml").write_text("[trust]\n")
        assert self.typed(tmp_path, "trust", "init", "--keys", tmp_path / "k").exit_code == 0
        return tmp_path

    def test_without_trust_there_is_nothing_to_carry(self, tmp_path: Path) -> None:
        """It says which section is missing."""
        (tmp_path / "coordinator.toml").write_text("")
        result = self.typed(tmp_path, "bundle", "--out", tmp_path / "x")
        assert (result.exit_code, "has no section [trust]" in result.output) == (10, True)

    def test_without_the_daemons_keys_nothing_is_written(self, plant: Path) -> None:
        """It is run as somebody else, or on another machine."""
        (plant / "keys" / "models.pem").unlink()
        result = self.typed(plant, "bundle", "--out", plant / "x")
        assert (result.exit_code, "models.pem" in result.output) == (25, True)
        assert not (plant / "x").exists()

    def test_a_coordinator_that_never_ran_is_told(self, plant: Path) -> None:
        """There is no store yet."""
        result = self.typed(plant, "bundle", "--out", plant / "x")
        assert result.exit_code == 21
        assert not (plant / "x").exists()
