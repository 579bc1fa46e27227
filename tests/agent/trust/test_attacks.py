# SPDX-License-Identifier: Apache-2.0
"""What somebody who holds the broker, or the stick, can do: nothing that is taken.

Metadata is made by the coordinator's own code and checked by the agent's child, in this process.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.trusted import AGENT, SigningPlant, a_release
from tuf.api.exceptions import DownloadError
from tuf.api.metadata import MetaFile, TargetFile

from fedmill_agent.trust.fetcher import METADATA_URL, TARGETS_URL, FolderFetcher
from fedmill_agent.trust.verified import Verified, read_verified
from fedmill_coordinator.trust import ceremony
from fedmill_coordinator.trust.keys import ONLINE, make_key, read_public
from fedmill_shared.files import make_folder
from fedmill_shared.trust import METADATA_LIMIT, TrustRole

RELEASE = "releases/press/1.json"


@pytest.fixture
def plant(tmp_path: Path) -> SigningPlant:
    """A plant with a signed job, a signed release and an agent that has checked both."""
    plant = SigningPlant(tmp_path)
    plant.sign_job()
    plant.keeper().vouch(a_release(1))
    found = plant.checked()
    assert (found.word, found.error) == ("", "")
    assert set(found.targets) == {"jobs/press.toml", RELEASE}
    return plant


def unmoved(plant: SigningPlant, before: Verified, found: Verified) -> bool:
    """Whether all that was signed before, and no more, still is."""
    kept = read_verified(plant.places.verified)
    same = (found.targets, found.versions, found.expires_ns, found.configs) == (
        before.targets,
        before.versions,
        before.expires_ns,
        before.configs,
    )
    return same and kept == found


def nothing(_signed: Any) -> None:
    """Change nothing."""


class TestRollback:
    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "models"])
    def test_of_one_role_is_refused(self, plant: SigningPlant, role: str) -> None:
        """Even where the keys of the daemon sign it: what was seen is a floor."""
        plant.keeper().vouch(a_release(2))
        before = plant.checked()
        if role == "timestamp":
            plant.forge(role, 1, nothing, plant.key("timestamp"))
        else:
            roles = (TrustRole.TARGETS, TrustRole.MODELS, TrustRole.SOFTWARE)
            versions = {str(each): plant.repository.version(each) for each in roles}
            if role in versions:
                versions[role] = 1
            newest = before.versions["snapshot"] + (role != "snapshot")
            number = newest if role != "snapshot" else 1

            def listing(signed: Any) -> None:
                signed.meta = {f"{name}.json": MetaFile(one) for name, one in versions.items()}

            def pointing(signed: Any) -> None:
                signed.snapshot_meta = MetaFile(number)

            plant.forge("snapshot", number, listing, plant.key("snapshot"))
            after = before.versions["timestamp"] + 1
            plant.forge("timestamp", after, pointing, plant.key("timestamp"))
        found = plant.check()
        assert found.word == "refused"
        assert "version" in found.error
        assert found.targets == before.targets

    def test_is_refused_where_the_checked_metadata_is_lost(self, plant: SigningPlant) -> None:
        """A power cut may leave empty files: what the daemon was told is a floor as well."""
        plant.deliver()
        early = {path.name: path.read_bytes() for path in metadata_of(plant)}
        plant.keeper().vouch(a_release(2))
        before = plant.checked()
        for path in plant.places.metadata.glob("*.json"):
            path.unlink()
        for name, data in early.items():
            (plant.places.incoming / "metadata" / name).write_bytes(data)
        found = plant.check()
        assert found.word == "refused"
        assert "older than what was seen" in found.error
        assert found.targets == before.targets


def metadata_of(plant: SigningPlant) -> Iterator[Path]:
    """Files of metadata that came."""
    yield from (plant.places.incoming / "metadata").iterdir()


class TestFreeze:
    def test_an_expired_timestamp_brings_nothing_new(self, plant: SigningPlant) -> None:
        """What was signed stays, and it is said that it is over."""
        before = read_verified(plant.places.verified)
        number = before.versions["timestamp"] + 1

        def over(signed: Any) -> None:
            signed.expires -= timedelta(days=30)

        plant.forge("timestamp", number, over, plant.key("timestamp"))
        found = plant.check()
        assert found.word == "expired"
        assert "over" in found.error
        assert unmoved(plant, before, found)

    def test_fresh_metadata_heals_it(self, plant: SigningPlant) -> None:
        """Nobody has to do anything at the agent."""
        self.test_an_expired_timestamp_brings_nothing_new(plant)
        plant.clock.seconds = 2 * 3600
        plant.refresh()
        plant.refresh()
        plant.clock.seconds = 4 * 3600
        plant.keeper().vouch(a_release(2))
        plant.deliver()
        found = plant.check()
        assert (found.word, "releases/press/2.json" in found.targets) == ("", True)


class TestTampering:
    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "models"])
    @pytest.mark.parametrize("where", [0.2, 0.5, 0.9])
    def test_one_byte_of_any_file_is_noticed(
        self, plant: SigningPlant, role: str, where: float
    ) -> None:
        """Wherever it is."""
        before = read_verified(plant.places.verified)
        plant.keeper().vouch(a_release(2))
        plant.operator().renew(TrustRole.TARGETS)
        plant.refresh()

        def change(name: str, data: bytes) -> bytes:
            if not name.endswith(f"{role}.json"):
                return data
            place = int(len(data) * where)
            return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

        plant.deliver(change)
        found = plant.check()
        assert found.word in ("refused", "incomplete")
        assert unmoved(plant, before, found)

    def test_mix_and_match_is_noticed(self, plant: SigningPlant) -> None:
        """A snapshot names one version of each role, by its digest."""
        before = read_verified(plant.places.verified)
        number = plant.repository.version(TrustRole.MODELS) + 1
        plant.keeper().vouch(a_release(2))
        plant.refresh()
        plant.deliver()

        def other(signed: Any) -> None:
            signed.targets.clear()

        plant.forge("models", number, other, plant.key("models"))
        found = plant.check()
        assert found.word == "refused"
        assert found.targets == before.targets


class TestKeys:
    @pytest.mark.parametrize("key", ["stranger", "software", "models", "root-1"])
    def test_a_job_from_a_wrong_key_is_none(self, plant: SigningPlant, key: str) -> None:
        """Also where whoever has the daemon's keys puts it among the newest metadata."""
        made = make_key(plant.folder / "stranger.pem")
        before = read_verified(plant.places.verified)
        versions = {role: number + 1 for role, number in before.versions.items()}

        def with_job(signed: Any) -> None:
            path = "jobs/evil.toml"
            signed.targets[path] = TargetFile.from_data(path, b"evil", ["sha256"])

        def listing(signed: Any) -> None:
            signed.meta["targets.json"] = MetaFile(versions["targets"])

        def pointing(signed: Any) -> None:
            signed.snapshot_meta = MetaFile(versions["snapshot"])

        signer = made if key == "stranger" else plant.key(key)
        plant.forge("targets", versions["targets"], with_job, signer)
        plant.forge("snapshot", versions["snapshot"], listing, plant.key("snapshot"))
        plant.forge("timestamp", versions["timestamp"], pointing, plant.key("timestamp"))
        found = plant.check()
        assert found.word == "refused"
        assert "not signed by whom we trust" in found.error
        assert unmoved(plant, before, found)

    def test_a_strangers_key_signs_nothing(self, plant: SigningPlant, tmp_path: Path) -> None:
        """Not even that there is nothing new."""
        stranger = make_key(tmp_path / "stranger.pem")
        before = read_verified(plant.places.verified)
        number = before.versions["timestamp"] + 1
        plant.forge("timestamp", number, nothing, stranger)
        found = plant.check()
        assert found.word == "refused"
        assert "not signed by whom we trust" in found.error
        assert unmoved(plant, before, found)

    def test_the_daemons_keys_sign_no_job(self, plant: SigningPlant) -> None:
        """What is listed outside of the paths of a delegation is nobody's."""
        before = read_verified(plant.places.verified)
        models, snapshot = before.versions["models"] + 1, before.versions["snapshot"] + 1

        def with_job(signed: Any) -> None:
            path = "jobs/evil.toml"
            signed.targets[path] = TargetFile.from_data(path, b"evil", ["sha256"])

        def listing(signed: Any) -> None:
            signed.meta["models.json"] = MetaFile(models)

        def pointing(signed: Any) -> None:
            signed.snapshot_meta = MetaFile(snapshot)

        plant.forge("models", models, with_job, plant.key("models"))
        plant.forge("snapshot", snapshot, listing, plant.key("snapshot"))
        number = before.versions["timestamp"] + 1
        plant.forge("timestamp", number, pointing, plant.key("timestamp"))
        found = plant.check()
        assert found.word == ""
        assert set(found.targets) == {"jobs/press.toml", RELEASE}

    def test_one_of_two_root_keys_changes_no_root(self, plant: SigningPlant) -> None:
        """And the false one does not stand in the way of the true one."""
        before = read_verified(plant.places.verified)
        plant.forge("root", 2, nothing, plant.key("root-1"))
        found = plant.check()
        assert found.word == "refused"
        assert unmoved(plant, before, found)
        renew_root(plant, "root-1", "root-2")
        assert plant.checked().versions["root"] == 2

    def test_an_agent_that_missed_two_roots_follows_them(self, plant: SigningPlant) -> None:
        """Root by root, each signed by the keys of the one before it."""
        new = make_key(plant.folder / "new" / "root-3.pem")
        assert new
        renew_root(plant, "root-1", "root-2", replace={"root-3": plant.folder / "new/root-3.pem"})
        renew_root(plant, "root-1", "root-2")
        renew_root(plant, "root-1", "root-2")
        assert plant.checked().versions["root"] == 4

    def test_fast_forward_is_healed_by_other_keys(self, plant: SigningPlant) -> None:
        """Whoever had the timestamp key made it as high as can be; a new key begins anew."""

        def pointing(signed: Any) -> None:
            signed.snapshot_meta.hashes = signed.snapshot_meta.hashes

        plant.forge("timestamp", 900_000_000, pointing, plant.key("timestamp"))
        assert plant.check().versions["timestamp"] == 900_000_000
        plant.clock.seconds = 7200
        stuck = plant.checked()
        assert stuck.word == "refused"
        fresh = plant.folder / "fresh" / "timestamp.pem"
        make_key(fresh)
        renew_root(plant, "root-1", "root-3", replace={"timestamp": fresh})
        (plant.online / "timestamp.pem").write_bytes(fresh.read_bytes())
        found = plant.checked()
        assert (found.word, found.versions["root"]) == ("", 2)
        assert found.versions["timestamp"] < 100

    def test_whoever_had_all_keys_of_the_daemon_is_got_rid_of(self, plant: SigningPlant) -> None:
        """Step by step as the guide says; agents take what is true again."""
        far = 900_000_000

        def with_release(signed: Any) -> None:
            path = f"releases/press/{far}.json"
            signed.targets = {path: TargetFile.from_data(path, b"evil", ["sha256"])}

        def listing(signed: Any) -> None:
            signed.meta["models.json"] = MetaFile(far)

        def pointing(signed: Any) -> None:
            signed.snapshot_meta = MetaFile(far)

        plant.forge("models", far, with_release, plant.key("models"))
        plant.forge("snapshot", far, listing, plant.key("snapshot"))
        plant.forge("timestamp", far, pointing, plant.key("timestamp"))
        assert f"releases/press/{far}.json" in plant.check().targets
        plant.clock.seconds = 7200
        assert plant.checked().word == "refused"
        new = {role: plant.folder / "fresh" / f"{role}.pem" for role in ONLINE}
        for path in new.values():
            make_key(path)
        replaced = {role: path for role, path in new.items() if role != TrustRole.MODELS}
        renew_root(plant, "root-1", "root-2", replace=replaced)
        plant.operator().replace_key(TrustRole.MODELS, read_public(new[TrustRole.MODELS], "models"))
        for role, path in new.items():
            (plant.online / f"{role}.pem").write_bytes(path.read_bytes())
        plant.keeper().vouch(a_release(2))
        found = plant.checked()
        assert found.word == ""
        assert set(found.targets) == {"jobs/press.toml", RELEASE, "releases/press/2.json"}


def renew_root(plant: SigningPlant, *names: str, replace: dict[str, Path] | None = None) -> None:
    """The whole ceremony, signed by these keys."""
    file = plant.folder / "next.root.json"
    ceremony.prepare(plant.repository, file, replace or {}, plant.clock)
    for name in names:
        ceremony.sign(file, plant.key(name))
    ceremony.take_in(plant.repository, file)


class TestFloods:
    def test_endless_metadata_is_not_read_to_its_end(self, plant: SigningPlant) -> None:
        """A file larger than a message can be is none of ours."""
        before = read_verified(plant.places.verified)
        path = plant.places.incoming / "metadata" / "timestamp.json"
        path.write_bytes(b" " * (METADATA_LIMIT + 2))
        found = plant.check()
        assert found.word in ("refused", "incomplete")
        assert unmoved(plant, before, found)

    @pytest.mark.parametrize(
        "url",
        [
            METADATA_URL + "../../etc/passwd",
            METADATA_URL + "1.other.json",
            METADATA_URL + "a/1.root.json",
            METADATA_URL,
            TARGETS_URL + "../metadata/1.root.json",
            TARGETS_URL + "config/" + "a" * 64 + "./../../x.toml",
            "https://example.com/1.root.json",
            "file:///etc/passwd",
        ],
    )
    def test_no_other_file_is_read(self, tmp_path: Path, url: str) -> None:
        """Names are ours, or nothing is read."""
        with pytest.raises(DownloadError):
            list(FolderFetcher(tmp_path).fetch(url))

    def test_no_link_is_followed(self, tmp_path: Path) -> None:
        """A link on a stick leads nowhere."""
        secret = tmp_path / "secret"
        secret.write_text("secret")
        folder = make_folder(tmp_path / "bundle" / "metadata")
        (folder / "1.root.json").symlink_to(secret)
        with pytest.raises(DownloadError):
            list(FolderFetcher(folder.parent).fetch(METADATA_URL + "1.root.json"))


class TestWaiting:
    def test_what_has_not_come_yet_is_waited_for(self, plant: SigningPlant) -> None:
        """An agent that reads between two is never wrong for good."""
        before = read_verified(plant.places.verified)
        plant.keeper().vouch(a_release(2))
        newest = plant.repository.path(TrustRole.MODELS, plant.repository.version(TrustRole.MODELS))
        plant.deliver()
        (plant.places.incoming / "metadata" / newest.name).unlink()
        found = plant.check()
        assert found.word == "incomplete"
        assert found.targets == before.targets
        plant.deliver()
        assert "releases/press/2.json" in plant.check().targets

    def test_nothing_came_at_all(self, tmp_path: Path) -> None:
        """An agent that was just installed trusts nothing but the root it was given."""
        found = SigningPlant(tmp_path).check()
        assert (found.word, found.targets) == ("incomplete", {})

    def test_configurations_are_for_whom_they_name(self, plant: SigningPlant) -> None:
        """Everybody's, then its own; those of others are not kept."""
        for agent, text in (("all", "nice = 1"), (AGENT, "nice = 2"), ("other", "nice = 3")):
            file = plant.folder / "overlay.toml"
            file.write_text(f"[training]\n{text}\n")
            plant.operator().set_config(agent, file)
        found = plant.checked()
        assert [each.path for each in found.configs] == ["config/all.toml", f"config/{AGENT}.toml"]
