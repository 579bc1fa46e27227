# SPDX-License-Identifier: Apache-2.0
"""The coordinator's side: keys, what each of them may sign, and what is signed when."""

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs
from tests.trusted import JOB_FILE, SigningPlant, a_release, digest_of

from fedmill_coordinator.trust import ceremony
from fedmill_coordinator.trust.founding import found
from fedmill_coordinator.trust.keeper import KEPT_RELEASES, LOOK_SECONDS, TELL_ALL_SECONDS
from fedmill_coordinator.trust.keys import make_key, read_online, read_public, read_signer
from fedmill_coordinator.trust.repository import KEPT_FILES, when
from fedmill_coordinator.trust.standing import standing
from fedmill_shared.errors import ConfigError, StoreError, TrustError
from fedmill_shared.files import sha256
from fedmill_shared.job_check import canonical, load_job
from fedmill_shared.trust import TrustRole


@pytest.fixture
def plant(tmp_path: Path) -> SigningPlant:
    """A plant whose keys were just made."""
    return SigningPlant(tmp_path)


class TestKeys:
    def test_are_for_their_owner_only(self, plant: SigningPlant) -> None:
        """From their first byte on."""
        assert {path.stat().st_mode & 0o777 for path in plant.made.keys.values()} == {0o600}

    def test_are_never_written_over(self, plant: SigningPlant) -> None:
        """Neither by a second foundation nor one by one."""
        with pytest.raises(TrustError, match="there is a repository already"):
            found(plant.repository, plant.folder / "other", plant.online, plant.clock)
        with pytest.raises(TrustError, match="never written over"):
            make_key(plant.made.keys["targets"])

    def test_a_passphrase_protects_them(self, tmp_path: Path) -> None:
        """Without it, or with another, nothing is signed."""
        path = tmp_path / "key.pem"
        made = make_key(path, "correct horse")
        assert b"ENCRYPTED" in path.read_bytes()
        assert read_signer(path, "correct horse").public_key.keyid == made.public_key.keyid
        with pytest.raises(TrustError, match="it has a passphrase"):
            read_signer(path)
        with pytest.raises(TrustError, match="no private key"):
            read_signer(path, "battery staple")

    @pytest.mark.parametrize("data", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nx\n"])
    def test_damaged_ones_are_told(self, tmp_path: Path, data: bytes) -> None:
        """With the file's name."""
        path = tmp_path / "key.pem"
        path.write_bytes(data)
        with pytest.raises(TrustError, match=r"key\.pem"):
            read_signer(path)
        with pytest.raises(TrustError, match=r"key\.pem"):
            read_public(path, "root-1")

    @pytest.mark.parametrize("role", ["snapshot", "timestamp", "models"])
    def test_the_daemon_starts_with_all_of_its_own_only(
        self, plant: SigningPlant, role: str
    ) -> None:
        """Missing, open to others, or of another role: it says which."""
        path = plant.online / f"{role}.pem"
        data = path.read_bytes()
        path.chmod(0o640)
        with pytest.raises(TrustError, match="others may read this key"):
            plant.keeper()
        path.unlink()
        with pytest.raises(TrustError, match=rf"{role}\.pem: the key cannot be read"):
            plant.keeper()
        make_key(path)
        with pytest.raises(TrustError, match=f"this is not the key of {role}"):
            plant.keeper()
        path.write_bytes(data)
        assert plant.keeper()


class TestOperator:
    def test_signs_jobs(self, plant: SigningPlant) -> None:
        """The file's bytes, and the text that agents are told."""
        path = plant.sign_job()
        target = plant.repository.targets().signed.targets["jobs/press.toml"]
        assert target.hashes["sha256"] == sha256(path.read_bytes())
        text = sha256(canonical(load_job(path)))
        assert target.unrecognized_fields["custom"] == {"canonical": {"press": [text]}}

    def test_a_text_of_earlier_software_stays_good(self, plant: SigningPlant) -> None:
        """Where it says the same; another one does not."""
        path = plant.sign_job()
        text = canonical(load_job(path)).decode()
        spaced = text.replace("{", "{ ", 1)
        plant.operator().add_job(path, {"press": spaced})
        keeper = plant.keeper()
        keeper.check_text(path, "press", spaced.encode())
        keeper.check_text(path, "press", text.encode())
        with pytest.raises(TrustError, match="text that is not signed"):
            keeper.check_text(path, "press", b"{}")

    def test_signs_no_job_whose_versions_nobody_would_sign(self, plant: SigningPlant) -> None:
        """And says what to write instead."""
        with pytest.raises(TrustError, match='give "better", "last" or "manual"'):
            plant.sign_job(JOB_FILE.replace('release = "last"', 'release = "each"'))

    def test_takes_back_what_was_signed(self, plant: SigningPlant) -> None:
        """Once."""
        path = plant.sign_job()
        plant.operator().remove("jobs/press.toml")
        with pytest.raises(TrustError, match="is not signed"):
            plant.keeper().check_job(path)
        with pytest.raises(TrustError, match="is not signed"):
            plant.operator().remove("jobs/press.toml")

    def test_signs_configuration_that_may_be_changed_from_afar(self, plant: SigningPlant) -> None:
        """And no other, and for agents only."""
        file = plant.folder / "overlay.toml"
        file.write_text("[training]\nnice = 5\n")
        plant.operator().set_config("all", file)
        assert "config/all.toml" in plant.repository.targets().signed.targets
        with pytest.raises(TrustError, match="names no agent"):
            plant.operator().set_config("../all", file)
        file.write_text('[broker]\nhost = "evil"\n')
        with pytest.raises(ConfigError, match="broker is unknown"):
            plant.operator().set_config("all", file)
        file.write_bytes(b"#" * 20_000)
        with pytest.raises(TrustError, match="at most"):
            plant.operator().set_config("all", file)

    @pytest.mark.parametrize("key", ["root-1", "software", "models", "timestamp"])
    def test_has_a_key_that_no_other_takes_the_place_of(
        self, plant: SigningPlant, key: str
    ) -> None:
        """Nobody else signs jobs."""
        path = plant.folder / "press.toml"
        path.write_text(JOB_FILE)
        with pytest.raises(TrustError, match="not the key of targets"):
            plant.operator(key).add_job(path, {})

    def test_signs_no_software_without_its_key(self, plant: SigningPlant) -> None:
        """Which signs nothing else."""
        wheel = plant.folder / "fedmill-1.0-py3-none-any.whl"
        wheel.write_bytes(b"wheel")
        with pytest.raises(TrustError, match="not the key of software"):
            plant.operator().add_software(wheel)
        path = plant.operator("software").add_software(wheel)
        assert plant.repository.target(path, sha256(b"wheel")) == b"wheel"

    def test_a_lost_key_of_a_delegation_is_replaced(self, plant: SigningPlant) -> None:
        """With the operator's key; the daemon takes up the new one by itself."""
        keeper = plant.keeper()
        keeper.announce()
        new = plant.folder / "new" / "models.pem"
        make_key(new)
        plant.operator().replace_key(TrustRole.MODELS, read_public(new, "models"))
        plant.clock.seconds += LOOK_SECONDS + 1
        keeper.tick()
        with pytest.raises(StoreError, match="not the key of models"):
            keeper.vouch(a_release())
        (plant.online / "models.pem").write_bytes(new.read_bytes())
        plant.clock.seconds += 60
        keeper.tick()
        keeper.vouch(a_release())
        assert "releases/press/1.json" in plant.repository.targets(TrustRole.MODELS).signed.targets


class TestRoot:
    def prepared(self, plant: SigningPlant, **replace: Path) -> Path:
        """The next root, unsigned."""
        file = plant.folder / "next.root.json"
        names = {name.replace("_", "-"): path for name, path in replace.items()}
        ceremony.prepare(plant.repository, file, names, plant.clock)
        return file

    @pytest.mark.parametrize("keys", [(), ("root-1",), ("root-1", "root-1"), ("root-1", "targets")])
    def test_needs_two_of_three(self, plant: SigningPlant, keys: tuple[str, ...]) -> None:
        """Different ones, of the root."""
        file = self.prepared(plant)
        for key in keys:
            ceremony.sign(file, plant.key(key))
        with pytest.raises(TrustError, match="wants 2 signatures"):
            ceremony.take_in(plant.repository, file)
        assert plant.repository.version(TrustRole.ROOT) == 1

    def test_a_lost_key_is_replaced(self, plant: SigningPlant) -> None:
        """With the two that are left; it signs nothing any more."""
        new = plant.folder / "new" / "root-2.pem"
        make_key(new)
        file = self.prepared(plant, root_2=new.with_suffix(".pub.pem"))
        for key in ("root-1", "root-3"):
            ceremony.sign(file, plant.key(key))
        ceremony.take_in(plant.repository, file)
        again = self.prepared(plant)
        for key in ("root-1", "root-2"):
            ceremony.sign(again, plant.key(key))
        with pytest.raises(TrustError, match="wants 2 signatures"):
            ceremony.take_in(plant.repository, again)
        ceremony.sign(again, read_signer(new))
        assert ceremony.take_in(plant.repository, again).signed.version == 3

    def test_the_operators_lost_key_is_replaced(self, plant: SigningPlant) -> None:
        """What was signed with it is signed anew with the other."""
        plant.sign_job()
        new = plant.folder / "new" / "targets.pem"
        make_key(new)
        file = self.prepared(plant, targets=new)
        for key in ("root-1", "root-3"):
            ceremony.sign(file, plant.key(key))
        ceremony.take_in(plant.repository, file)
        with pytest.raises(TrustError, match="not the key of targets"):
            plant.operator().renew(TrustRole.TARGETS)
        plant.made.keys["targets"] = new
        plant.operator().renew(TrustRole.TARGETS)
        assert set(plant.checked().targets) == {"jobs/press.toml"}

    def test_an_old_one_or_another_file_is_refused(self, plant: SigningPlant) -> None:
        """And what was wrong is told."""
        with pytest.raises(TrustError, match="prepare it anew"):
            ceremony.take_in(plant.repository, plant.made.root)
        with pytest.raises(TrustError, match="no root"):
            ceremony.take_in(plant.repository, plant.repository.metadata / "1.targets.json")
        with pytest.raises(TrustError, match="no key called 'root-9'"):
            self.prepared(plant, root_9=plant.made.keys["root-1"])


class TestKeeper:
    def test_tells_in_the_order_that_counts(self, plant: SigningPlant) -> None:
        """Whoever reads meanwhile lacks something, and is never wrong."""
        keeper = plant.keeper()
        keeper.announce()
        expected = ["1.root.json", "models.json", "targets.json", "snapshot.json", "timestamp.json"]
        assert plant.order == expected
        plant.order.clear()
        keeper.vouch(a_release())
        assert plant.order == ["models.json", "snapshot.json", "timestamp.json"]

    def test_signs_a_release_once(self, plant: SigningPlant) -> None:
        """However often it is told, and whichever ring is open."""
        keeper = plant.keeper()
        keeper.vouch(a_release())
        version = plant.repository.version(TrustRole.MODELS)
        plant.order.clear()
        keeper.vouch(structs.replace(a_release(), agents=["press-1"]))
        assert (plant.repository.version(TrustRole.MODELS), plant.order) == (version, [])
        keeper.vouch(a_release(1, version=digest_of("d")))
        assert plant.repository.version(TrustRole.MODELS) == version + 1

    def test_keeps_the_newest_releases_of_each_job(self, plant: SigningPlant) -> None:
        """Metadata stays small for years."""
        keeper = plant.keeper()
        for number in range(1, 13):
            keeper.vouch(a_release(number))
        keeper.vouch(a_release(1, job="other"))
        signed = plant.repository.targets(TrustRole.MODELS).signed.targets
        newest = {f"releases/press/{number}.json" for number in range(13 - KEPT_RELEASES, 13)}
        assert set(signed) == newest | {"releases/other/1.json"}

    def test_old_metadata_makes_room(self, plant: SigningPlant) -> None:
        """What cannot be removed stays, and no release waits for it."""
        keeper, first = plant.keeper(), plant.repository.path(TrustRole.MODELS, 1)
        keeper.vouch(a_release(1))
        first.unlink()
        first.mkdir()
        for number in range(2, KEPT_FILES + 4):
            keeper.vouch(a_release(number))
        kept = {path.name for path in plant.repository.metadata.glob("*.models.json")}
        newest = plant.repository.version(TrustRole.MODELS)
        expected = range(newest - KEPT_FILES + 1, newest + 1)
        assert kept == {first.name, *(f"{number}.models.json" for number in expected)}

    def test_numbers_that_a_thief_signed_push_no_true_release_out(
        self, plant: SigningPlant
    ) -> None:
        """Whoever had our keys signed some that are higher than ours will ever be."""
        keeper = plant.keeper()
        for number in range(KEPT_RELEASES + 1):
            keeper.vouch(a_release(10**9 + number))
        keeper.vouch(a_release(5))
        keeper.vouch(a_release(6))
        assert "releases/press/6.json" in plant.checked().targets

    def test_signs_the_timestamp_hourly_and_the_snapshot_in_time(self, plant: SigningPlant) -> None:
        """For months, with nobody there."""
        keeper = plant.keeper()
        for _ in range(24 * 10):
            plant.clock.seconds += 3600
            keeper.tick()
            now = when(plant.clock)
            assert plant.repository.timestamp().signed.expires - now > timedelta(days=1)
            assert plant.repository.snapshot().signed.expires - now > timedelta(days=3)
        assert plant.repository.version(TrustRole.SNAPSHOT) < 6
        plant.clock.seconds += 60 * 86_400
        keeper.tick()
        models = plant.repository.targets(TrustRole.MODELS).signed
        assert models.expires - when(plant.clock) > timedelta(days=80)

    def test_a_clock_set_back_is_no_reason_to_sign_all_the_time(self, plant: SigningPlant) -> None:
        """Once is enough."""
        keeper = plant.keeper()
        plant.clock.seconds = -86_400
        plant.refresh()
        version = plant.repository.timestamp().signed.version
        plant.refresh()
        keeper.tick()
        assert plant.repository.timestamp().signed.version == version

    def test_tells_what_the_operator_signs_meanwhile(self, plant: SigningPlant) -> None:
        """And takes back what is no longer signed."""
        keeper = plant.keeper()
        keeper.announce()
        file = plant.folder / "overlay.toml"
        file.write_text("[training]\nnice = 5\n")
        plant.operator().set_config("press-1", file)
        plant.clock.seconds += LOOK_SECONDS + 1
        keeper.tick()
        assert plant.told["config.press-1.toml"] == file.read_bytes()
        plant.operator().remove("config/press-1.toml")
        plant.clock.seconds += LOOK_SECONDS + 1
        keeper.tick()
        assert "config.press-1.toml" not in plant.told

    def test_tells_all_again_every_hour(self, plant: SigningPlant) -> None:
        """What somebody has written over at the broker is mended."""
        keeper = plant.keeper()
        keeper.announce()
        plant.order.clear()
        plant.clock.seconds += TELL_ALL_SECONDS + 1
        keeper.tick()
        assert "1.root.json" in plant.order

    def test_runs_the_signed_job_only(self, plant: SigningPlant) -> None:
        """One space more is another job."""
        path = plant.sign_job()
        keeper = plant.keeper()
        keeper.check_job(path)
        path.write_text(JOB_FILE + " ")
        with pytest.raises(TrustError, match="is not the one that is signed"):
            keeper.check_job(path)

    def test_damaged_metadata_is_told_and_waited_for(self, plant: SigningPlant) -> None:
        """No release is told that is not signed; nothing ends."""
        keeper = plant.keeper()
        path = plant.repository.path(TrustRole.MODELS, 1)
        data = path.read_bytes()
        path.write_bytes(data[:50])
        keeper.tick()
        with pytest.raises(StoreError, match="release 1 is not signed"):
            keeper.vouch(a_release())
        path.write_bytes(data)
        keeper.vouch(a_release())

    @pytest.mark.parametrize("last", ["models", "snapshot"])
    def test_a_power_cut_between_two_files_is_gone_on_from(
        self, plant: SigningPlant, last: str
    ) -> None:
        """Agents find the state before, and then the one after."""
        plant.sign_job()
        before = plant.checked()
        keeper = plant.keeper()
        timestamp = plant.repository.raw(TrustRole.TIMESTAMP)
        keeper.vouch(a_release())
        (plant.repository.metadata / "timestamp.json").write_bytes(timestamp)
        if last == "models":
            newest = plant.repository.version(TrustRole.SNAPSHOT)
            plant.repository.path(TrustRole.SNAPSHOT, newest).unlink()
        plant.deliver()
        assert plant.check().targets == before.targets
        assert "releases/press/1.json" in plant.checked().targets


class TestStanding:
    def test_names_roles_terms_and_keys(self, plant: SigningPlant) -> None:
        """What a person asks of it."""
        plant.sign_job()
        rows = {row.role: row for row in standing(plant.repository, when(plant.clock))}
        assert rows["root"].keys == ["root-1", "root-2", "root-3"]
        assert rows["root"].threshold == 2
        assert rows["targets"].targets == ["jobs/press.toml"]
        assert rows["models"].keys == ["models"]
        days = {role: round(row.days_left) for role, row in rows.items()}
        assert days == {
            "root": 365,
            "targets": 90,
            "software": 365,
            "models": 90,
            "snapshot": 7,
            "timestamp": 2,
        }

    def test_the_daemon_has_three_keys(self, plant: SigningPlant) -> None:
        """And none that signs a job."""
        ids = {signer.public_key.keyid for signer in read_online(plant.online).values()}
        assert len(ids) == 3
        assert not ids & set(plant.repository.key_ids(TrustRole.TARGETS))
