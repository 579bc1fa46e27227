# SPDX-License-Identifier: Apache-2.0
"""The desk between line and seats: what waits, what is passed on, what is refused and told."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs
from tests.records import Records
from tests.trusted import AGENT, a_release, digest_of

from fedmill_agent.background import Background
from fedmill_agent.config import AgentConfig, AgentSection, TrustSection
from fedmill_agent.trust.child import Asked
from fedmill_agent.trust.desk import TrustDesk, Ways
from fedmill_agent.trust.places import TrustPlaces
from fedmill_agent.trust.verified import Custom, SignedText, Target, Verified, write_verified
from fedmill_agent.trust.waiting import PATIENCE_SECONDS
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError, FrameError, ModelError, TrustError
from fedmill_shared.files import make_folder, sha256
from fedmill_shared.link.base import Message
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import get_logger
from fedmill_shared.messages import (
    BlobRequest,
    InstallReport,
    JobNotice,
    Refusal,
    ReleaseNotice,
    encode,
)
from fedmill_shared.protocol import MOST_AHEAD
from fedmill_shared.topics import broadcast
from fedmill_shared.trust import release_path, release_statement

DAY = 86_400 * 10**9


def a_job(text: bytes = b"text", job: str = "press") -> JobNotice:
    """A notice of a job."""
    return JobNotice(job=job, text=text, state="running")


def signing(*said: ReleaseNotice | JobNotice, until_ns: int, **fields: Any) -> Verified:
    """What is signed where all of this is."""
    targets = {}
    for each in said:
        if isinstance(each, ReleaseNotice):
            data = release_statement(each)
            path, custom = release_path(each.job, each.release), Custom(job=each.job)
            targets[path] = Target(length=len(data), sha256=sha256(data), custom=custom)
        else:
            texts = {each.job: [sha256(each.text)]}
            custom = Custom(canonical=texts)
            target = Target(length=1, sha256=digest_of("c"), custom=custom)
            targets[f"jobs/{each.job}.toml"] = target
    roles = ("timestamp", "snapshot", "targets", "models")
    return Verified(
        checked_ns=1,
        versions=dict.fromkeys(roles, len(targets)),
        expires_ns=dict.fromkeys(roles, until_ns),
        targets=targets,
        **fields,
    )


class Rig:
    """A desk with a clock that is set by hand, and a child that says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.root = folder / "root.json"
        self.root.write_bytes(b"{}")
        self.places = TrustPlaces(folder)
        self.taken: list[tuple[str, Any]] = []
        self.sent: list[tuple[str, Any]] = []
        self.texts: dict[str, bytes] = {}
        self.reports: dict[str, InstallReport | None] = {}
        self.overlays = 0
        self.runs = 0
        self.audit = Records()
        self.says: Verified | TrustError = Verified()
        self.desk = self.open()

    def open(self) -> TrustDesk:
        """A desk, as after a restart."""
        config = AgentConfig(
            agent=AgentSection(id=AGENT, state=str(self.folder)),
            trust=TrustSection(root=str(self.root)),
        )
        ways = Ways(
            take=lambda kind, said: self.taken.append((kind, said)),
            send=lambda kind, said: self.sent.append((kind, said)),
            text=lambda job: self.texts.get(job, b""),
            wants=lambda job: job != "unwanted",
            reports=lambda: self.reports,
            overlay=self._overlaid,
            hurry=lambda: None,
            audit=self.audit,
        )
        parts = {"background": Background(), "disk": Background(), "ways": ways}
        return TrustDesk(config, self.clock, get_logger(), run=self._run, **parts)  # type: ignore[arg-type]

    def _overlaid(self) -> None:
        self.overlays += 1

    def _run(self, asked: Asked) -> Verified:
        assert (asked.agent, asked.root) == (AGENT, self.root)
        self.runs += 1
        if isinstance(self.says, TrustError):
            raise self.says
        return self.says

    def sign(self, *said: ReleaseNotice | JobNotice, **fields: Any) -> None:
        """Metadata comes that signs all of this for two days from now."""
        self.says = signing(*said, until_ns=self.clock.now_ns() + 2 * DAY, **fields)
        self.hear("timestamp.json", b'{"signed": {"version": 1}}')
        self.wait(1.0)

    def hear(self, name: str, payload: bytes) -> None:
        """The broker has something."""
        self.desk.hear(Message(broadcast("trust", name), payload))

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        self.desk.tick()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A desk that has checked nothing yet."""
    return Rig(tmp_path)


class TestReleases:
    def test_a_signed_one_goes_on_at_once(self, rig: Rig) -> None:
        """And its gate agrees."""
        rig.sign(a_release())
        assert rig.desk.admits(a_release())
        rig.desk.verify(a_release())

    def test_one_that_comes_before_its_metadata_waits_for_it(self, rig: Rig) -> None:
        """It is handed on once that was checked."""
        assert not rig.desk.admits(a_release())
        assert rig.taken == []
        rig.sign(a_release())
        assert rig.taken == [("release", a_release())]

    def test_one_that_nobody_signs_is_told_once_and_meets_its_gate(self, rig: Rig) -> None:
        """The gate refuses it with the reason, which the coordinator hears."""
        rig.sign(a_job())
        assert not rig.desk.admits(a_release())
        rig.wait(PATIENCE_SECONDS)
        rig.wait(PATIENCE_SECONDS)
        assert rig.taken == [("release", a_release())]
        with pytest.raises(ModelError, match="release 1 is not signed"):
            rig.desk.verify(a_release())

    @pytest.mark.parametrize(
        "changed",
        [
            {"snapshot": "x"},
            {"template": "x"},
            {"manifest": "x"},
            {"canary_inputs": "x"},
            {"canary_outputs": b"other"},
            {"version": digest_of("d")},
            {"number": 2},
        ],
    )
    def test_one_of_other_parts_is_refused(self, rig: Rig, changed: dict[str, Any]) -> None:
        """Whatever part it is that somebody has put another in the place of."""
        rig.sign(a_release())
        release = a_release()
        fields = {
            name: structs.replace(release.notice.snapshot, sha256=digest_of("e"))
            if value == "x"
            else value
            for name, value in changed.items()
        }
        other = structs.replace(release, notice=structs.replace(release.notice, **fields))
        assert not rig.desk.admits(other)
        with pytest.raises(ModelError, match="not made of what is signed"):
            rig.desk.verify(other)

    def test_a_signed_one_is_not_turned_into_a_way_back(self, rig: Rig) -> None:
        """Which would be compared with nothing."""
        rig.sign(a_release())
        with pytest.raises(ModelError):
            rig.desk.verify(structs.replace(a_release(), back=True))

    def test_which_ring_is_open_is_not_part_of_it(self, rig: Rig) -> None:
        """That changes as the release goes on."""
        rig.sign(a_release())
        rig.desk.verify(structs.replace(a_release(), agents=[AGENT]))

    def test_an_old_one_is_not_passed_on(self, rig: Rig) -> None:
        """Also where it is still signed, and after a restart."""
        rig.sign(a_release(1), a_release(2))
        assert rig.desk.admits(a_release(2))
        assert not rig.desk.admits(a_release(1))
        rig.desk = rig.open()
        assert not rig.desk.admits(a_release(1))
        rig.wait(2 * PATIENCE_SECONDS)
        assert rig.taken == []

    def test_an_old_one_is_logged_once(self, rig: Rig) -> None:
        """However often it is played again, and whichever of them: a flood floods no log."""
        rig.sign(*map(a_release, (1, 2, 3)))
        assert rig.desk.admits(a_release(3))
        with capture_logs() as logs:
            for number in (1, 2, 1, 2):
                assert not rig.desk.admits(a_release(number))
        assert [(each["event"], each["release"], each["known"]) for each in logs] == [
            ("release.replayed", 1, 3)
        ]

    def test_a_number_far_beyond_all_others_leaves_none_behind(self, rig: Rig) -> None:
        """Also where it is signed, with a key that was stolen: the true ones come after it."""
        far = a_release(2 + MOST_AHEAD)
        rig.sign(a_release(1), a_release(2), far)
        assert rig.desk.admits(a_release(1))
        with capture_logs() as logs:
            assert not rig.desk.admits(far)
            assert not rig.desk.admits(far)
        assert [(each["event"], each["release"]) for each in logs] == [
            ("release.ignored", far.release)
        ]
        rig.desk = rig.open()
        rig.sign(a_release(1), a_release(2), far)
        assert rig.desk.admits(a_release(2))
        assert rig.taken == []

    def test_nor_does_one_that_waited_since_before_the_first(self, rig: Rig) -> None:
        """It came unsigned while no release was known, and is signed once there is one."""
        far = a_release(2 + MOST_AHEAD)
        assert not rig.desk.admits(far)
        rig.sign(a_release(1))
        assert rig.desk.admits(a_release(1))
        with capture_logs() as logs:
            rig.sign(a_release(1), far)
        assert "release.ignored" in [each["event"] for each in logs]
        assert rig.taken == []
        rig.sign(a_release(1), a_release(2), far)
        assert rig.desk.admits(a_release(2))

    def test_where_one_was_the_first_of_all_its_file_is_removed(self, rig: Rig) -> None:
        """As the guide says; what is signed then is taken again."""
        far = a_release(5 * MOST_AHEAD)
        rig.sign(far)
        assert rig.desk.admits(far)
        rig.sign(a_release(1))
        assert not rig.desk.admits(a_release(1))
        rig.places.seen.unlink()
        rig.desk = rig.open()
        rig.sign(a_release(1))
        assert rig.desk.admits(a_release(1))

    def test_a_deliberate_way_back_is_a_higher_one(self, rig: Rig) -> None:
        """Of an old version, and it is taken."""
        rig.sign(a_release(1), a_release(2))
        assert rig.desk.admits(a_release(2))
        back = structs.replace(a_release(1), release=3, back=True)
        rig.sign(back)
        assert rig.desk.admits(back)

    def test_what_nobody_here_wants_is_left_to_the_seats(self, rig: Rig) -> None:
        """They pass it over without a word."""
        assert rig.desk.admits(a_release(job="unwanted"))
        assert rig.desk.admits(a_job(job="unwanted"))

    def test_an_int8_form_is_signed_with_a_release(self, rig: Rig) -> None:
        """Or it scores nothing."""
        form = digest_of("f")
        rig.sign(a_release())
        assert not rig.desk.permits("press", form)
        signed = rig.says
        assert isinstance(signed, Verified)
        custom = Custom(job="press", release=1, quantised=form)
        (path, target), *_ = signed.targets.items()
        with_form = {path: structs.replace(target, custom=custom)}
        write_verified(rig.places.verified, structs.replace(signed, targets=with_form))
        rig.desk = rig.open()
        assert rig.desk.permits("press", form)
        assert not rig.desk.permits("other", form)


class TestJobs:
    def test_a_signed_one_goes_on(self, rig: Rig) -> None:
        """At once."""
        rig.sign(a_job())
        assert rig.desk.admits(a_job())

    @pytest.mark.parametrize(
        ("signed", "why"),
        [(a_job(b"other"), "text of job press is not the one"), (a_job(job="other"), "not signed")],
    )
    def test_one_that_is_not_is_refused_and_the_coordinator_told(
        self, rig: Rig, signed: JobNotice, why: str
    ) -> None:
        """Once, however often it is said."""
        rig.sign(signed)
        for _ in range(3):
            assert not rig.desk.admits(a_job())
            rig.wait(PATIENCE_SECONDS)
        ((kind, refusal),) = rig.sent
        assert kind == "refusal"
        assert isinstance(refusal, Refusal)
        assert why in refusal.text
        assert rig.taken == []

    def test_one_that_is_worked_on_goes_on_whatever_comes(self, rig: Rig) -> None:
        """Where it stands is news; its text is not."""
        rig.texts["press"] = b"text"
        assert rig.desk.admits(a_job())
        assert not rig.desk.admits(a_job(b"another text"))

    def test_a_forged_one_displaces_no_true_one(self, rig: Rig) -> None:
        """Both wait."""
        assert not rig.desk.admits(a_job())
        assert not rig.desk.admits(a_job(b"forged"))
        rig.sign(a_job())
        assert rig.taken == [("job", a_job())]

    def test_however_many_come_few_wait(self, rig: Rig) -> None:
        """A thousand jobs of a stranger fill no memory."""
        for number in range(1000):
            rig.desk.admits(a_job(job=f"job-{number}"))
        rig.sign(a_job(job="job-999"), a_job(job="job-0"))
        assert rig.taken == [("job", a_job(job="job-999"))]


class TestTerm:
    def test_after_it_nothing_new_is_taken(self, rig: Rig) -> None:
        """What is known goes on."""
        rig.sign(a_release(1), a_release(2), a_job())
        rig.texts["press"] = b"text"
        assert rig.desk.admits(a_release(1))
        rig.wait(3 * 86_400)
        assert "over since" in rig.desk.word
        assert rig.desk.admits(a_release(1))
        assert rig.desk.admits(a_job())
        assert not rig.desk.admits(a_release(2))
        with pytest.raises(ModelError, match="over since"):
            rig.desk.verify(a_release(2))
        rig.texts.clear()
        assert not rig.desk.admits(a_job())

    def test_fresh_metadata_brings_what_waited(self, rig: Rig) -> None:
        """Without being told anything again."""
        rig.sign(a_release(1))
        rig.wait(3 * 86_400)
        assert not rig.desk.admits(a_release(2))
        rig.wait(PATIENCE_SECONDS)
        rig.taken.clear()
        rig.sign(a_release(2))
        assert rig.desk.word == ""
        assert rig.taken == [("release", a_release(2))]

    def test_before_any_metadata_it_says_so(self, rig: Rig) -> None:
        """An agent that was just installed takes nothing unsigned."""
        rig.wait(1.0)
        assert rig.desk.word == "no signed metadata has come yet"


class TestChild:
    def test_files_that_come_together_are_checked_together(self, rig: Rig) -> None:
        """And one is not begun before another has ended."""
        for role in ("timestamp", "snapshot", "targets"):
            rig.hear(f"{role}.json", b'{"signed": {"version": 3}}')
        rig.desk.tick()
        assert rig.runs == 0
        rig.wait(0.3)
        assert rig.runs == 1
        names = {path.name for path in (rig.places.incoming / "metadata").iterdir()}
        assert names == {"timestamp.json", "3.snapshot.json", "3.targets.json"}

    def test_one_that_fails_is_started_again_later(self, rig: Rig) -> None:
        """What is known holds meanwhile."""
        rig.sign(a_release())
        rig.says = TrustError("killed")
        rig.hear("timestamp.json", b'{"signed": {"version": 2}}')
        rig.wait(1.0)
        assert rig.desk.admits(a_release())
        rig.says = signing(a_release(2), until_ns=rig.clock.now_ns() + DAY)
        rig.wait(10.0)
        assert not rig.desk.admits(a_release(2))
        rig.wait(30.0)
        assert rig.taken == [("release", a_release(2))]

    def test_after_a_restart_what_came_is_checked(self, rig: Rig) -> None:
        """A daemon that was killed between the two has lost nothing."""
        rig.hear("timestamp.json", b'{"signed": {"version": 2}}')
        rig.desk = rig.open()
        rig.wait(1.0)
        assert rig.runs == 1

    @pytest.mark.parametrize(
        ("name", "payload"),
        [
            ("timestamp.json", b"no json"),
            ("timestamp.json", b" " * 300_000),
            ("timestamp.json", b'{"signed": {"version": 0}}'),
            ("../../agent.toml", b'{"signed": {"version": 1}}'),
            ("5.root.json", b'{"signed": {"version": 4}}'),
            ("evil.json", b'{"signed": {"version": 1}}'),
            ("config.all.toml", b"#" * 20_000),
        ],
    )
    def test_what_is_none_of_ours_is_not_kept(self, rig: Rig, name: str, payload: bytes) -> None:
        """Neither large nor strange."""
        with pytest.raises(FrameError):
            rig.hear(name.replace("/", "_"), payload)
        assert not rig.places.incoming.exists()

    def test_many_versions_fill_no_disk(self, rig: Rig) -> None:
        """Whoever sends a thousand has four of them kept."""
        for number in range(1, 50):
            rig.hear("snapshot.json", b'{"signed": {"version": %d}}' % number)
        assert len(list((rig.places.incoming / "metadata").iterdir())) == 4

    def test_another_remote_configuration_is_taken_up(self, rig: Rig) -> None:
        """The daemon reads its configuration again."""
        rig.sign(configs=[SignedText(path="config/all.toml", sha256=digest_of("a"), text="")])
        assert rig.overlays == 1
        rig.sign(configs=[SignedText(path="config/all.toml", sha256=digest_of("a"), text="")])
        assert rig.overlays == 1

    def test_configurations_of_others_are_not_kept(self, rig: Rig) -> None:
        """There may be thousands of them."""
        rig.hear("config.press-2.toml", b"[training]")
        assert not rig.places.incoming.exists()
        rig.hear(f"config.{AGENT}.toml", b"[training]")
        rig.hear(f"config.{AGENT}.toml", b"")
        assert len(list((rig.places.incoming / "targets" / "config").iterdir())) == 1


class TestBundles:
    def bundle(self, rig: Rig, *notices: ReleaseNotice | JobNotice) -> Path:
        """A bundle that was checked and handed over."""
        folder = rig.places.imports / "bundle"
        make_folder(folder / "notices")
        make_folder(folder / "metadata")
        (folder / "metadata" / "timestamp.json").write_bytes(b'{"signed": {"version": 1}}')
        for notice in notices:
            kind = "job" if isinstance(notice, JobNotice) else "release"
            (folder / "notices" / f"{notice.job}.{kind}").write_bytes(encode(notice))
        blob = b"b" * 300_000
        make_folder(folder / "blobs")
        (folder / "blobs" / sha256(blob)).write_bytes(blob)
        return folder

    def test_it_is_heard_as_if_the_broker_had_it(self, rig: Rig) -> None:
        """Job before release, once its metadata was checked."""
        self.bundle(rig, a_release(), a_job())
        rig.says = signing(a_release(), a_job(), until_ns=rig.clock.now_ns() + DAY)
        rig.wait(1.0)
        rig.wait(1.0)
        assert rig.taken == [("job", a_job()), ("release", a_release())]

    def test_its_blobs_come_out_of_it(self, rig: Rig) -> None:
        """Those that it does not have are asked of the coordinator."""
        folder = self.bundle(rig)
        rig.wait(1.0)
        (blob,) = (folder / "blobs").iterdir()
        request = BlobRequest(job="press", blob=blob.name, missing=[0, 2])
        rig.desk.send("request", request)
        blocks = [said for kind, said in rig.taken if kind == "block"]
        assert [each.index for each in blocks if isinstance(each, Block)] == [0, 2]
        other = structs.replace(request, blob=digest_of("a"))
        rig.desk.send("request", other)
        assert rig.sent == [("request", other)]

    def test_it_is_removed_once_its_releases_have_a_last_word(self, rig: Rig) -> None:
        """Not before: a power cut finds it where it was."""
        folder = self.bundle(rig, a_release())
        rig.says = signing(a_release(), until_ns=rig.clock.now_ns() + DAY)
        rig.wait(1.0)
        rig.wait(1.0)
        version = digest_of("a")
        report = InstallReport(version=version, state="shadowing", release=1)
        rig.reports["press"] = report
        rig.wait(10.0)
        assert folder.exists()
        rig.reports["press"] = structs.replace(report, state="committed")
        rig.wait(10.0)
        assert not folder.exists()

    def test_one_that_is_damaged_on_the_disk_changes_nothing(self, rig: Rig) -> None:
        """Its notices are read with bounds."""
        folder = self.bundle(rig, a_release())
        (folder / "notices" / "press.release").write_bytes(b"\xc1")
        rig.wait(1.0)
        rig.wait(1.0)
        assert rig.taken == []


class TestConfiguration:
    def test_a_root_that_is_not_there_ends_the_start(self, rig: Rig) -> None:
        """With the name of the field and what to do."""
        rig.root.unlink()
        with pytest.raises(ConfigError, match=r"trust\.root: .* is no file"):
            rig.open()


class TestRecord:
    def test_what_people_have_signed_is_on_record(self, rig: Rig) -> None:
        """Roots, targets and software by their versions; the coordinator's hourly ones are not."""
        ways = [("root", 1), ("targets", 4), ("targets", 4), ("root", 2), ("targets", 5)]
        known: dict[str, int] = {}
        for number, (role, version) in enumerate(ways, start=1):
            known |= {role: version, "timestamp": number, "snapshot": number, "models": number}
            rig.says = Verified(checked_ns=1, versions=dict(known))
            rig.hear("timestamp.json", b'{"signed": {"version": 1}}')
            rig.wait(1.0)
        assert rig.runs == len(ways)
        assert rig.audit == [
            ("operator", "trust.changed", "root", "", "version 1"),
            ("operator", "trust.changed", "targets", "", "version 4"),
            ("operator", "trust.changed", "root", "version 1", "version 2"),
            ("operator", "trust.changed", "targets", "version 4", "version 5"),
        ]
