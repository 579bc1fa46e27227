# SPDX-License-Identifier: Apache-2.0
"""What `Store` promises about rounds, updates and blobs, held against every store."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import AliasRecord, JobState
from fedmill_shared.files import sha256

JOB = "bearings"


def name(text: str) -> str:
    """The SHA-256 that stands for ``text``."""
    return sha256(text.encode())


class TestRounds:
    def test_one_round_is_open(self, job: Store, kit: SimpleNamespace) -> None:
        """A second open round is refused until the first one ended."""
        job.add_version(kit.version(1))
        job.open_round(kit.round())
        assert job.current_round(JOB) == kit.round() == job.round(JOB, 1)
        kit.refused(job, lambda: job.open_round(kit.round(2)), "round 1 is still open")
        job.abandon_round(JOB, 1, closed_ns=300, report="{}")
        assert job.current_round(JOB) is None
        job.open_round(kit.round(2))
        assert [record.state for record in job.rounds(JOB)] == ["abandoned", "open"]

    def test_jobs_do_not_share_rounds(self, job: Store, kit: SimpleNamespace) -> None:
        """Each job has its own open round."""
        job.add_job(kit.job("fans"))
        job.add_version(kit.version(0, job="fans"))
        job.open_round(kit.round())
        job.open_round(kit.round(job="fans"))
        assert job.current_round("fans") == kit.round(job="fans")

    def test_refuses_what_cannot_open(self, job: Store, kit: SimpleNamespace) -> None:
        """A number that was used, an unknown base and a round that is over."""
        job.open_round(kit.round())
        job.abandon_round(JOB, 1, closed_ns=300, report="{}")
        kit.refused(job, lambda: job.open_round(kit.round()))
        kit.refused(job, lambda: job.open_round(kit.round(2, base=name("nowhere"))))
        kit.refused(
            job, lambda: job.open_round(kit.round(2, state="closed")), "cannot open as closed"
        )

    def test_deadline_moves_only_while_open(self, opened: Store, kit: SimpleNamespace) -> None:
        """An open round can be given more time, a round that ended cannot."""
        opened.extend_round(JOB, 1, 900)
        assert opened.current_round(JOB) == kit.round(deadline_ns=900)
        opened.abandon_round(JOB, 1, closed_ns=300, report="{}")
        kit.refused(opened, lambda: opened.extend_round(JOB, 1, 950), "is not open")
        kit.refused(opened, lambda: opened.extend_round(JOB, 7, 950), "is not open")

    def test_an_extension_asks_whom_it_says(self, opened: Store, kit: SimpleNamespace) -> None:
        """The agents are those of the last extension, in its order; nothing else changes."""
        opened.extend_round(JOB, 1, 900, ["press-2", "press-1"])
        wanted = kit.round(deadline_ns=900, asked=["press-2", "press-1"])
        assert opened.current_round(JOB) == opened.round(JOB, 1) == wanted
        opened.extend_round(JOB, 1, 950, ("press-1", "press-2", "press-9"))
        assert opened.rounds(JOB) == [
            kit.round(deadline_ns=950, asked=["press-1", "press-2", "press-9"])
        ]
        opened.extend_round(JOB, 1, 960)
        assert opened.current_round(JOB) == kit.round(deadline_ns=960)
        assert len(opened.pending(JOB)) == 3

    def test_a_refused_extension_asks_nobody(self, opened: Store, kit: SimpleNamespace) -> None:
        """Of a round that is over, unknown, or of another job."""
        opened.add_job(kit.job("fans"))
        kit.refused(opened, lambda: opened.extend_round("fans", 1, 900, ["press-1"]), "is not open")
        kit.refused(opened, lambda: opened.extend_round(JOB, 2, 900, ["press-1"]), "is not open")
        kit.refused(opened, lambda: opened.extend_round(JOB, 1, -1, ["press-1"]), "deadline_ns")
        wrong: Any = [7]
        kit.refused(opened, lambda: opened.extend_round(JOB, 1, 900, wrong), "asked")
        opened.abandon_round(JOB, 1, closed_ns=300, report="{}")
        kit.refused(opened, lambda: opened.extend_round(JOB, 1, 900, ["press-1"]), "is not open")

    def test_abandoned_round_counts_its_updates_as_late(
        self, opened: Store, kit: SimpleNamespace
    ) -> None:
        """No update vanishes with its round; a round ends once."""
        opened.discard_update(JOB, 1, "press-3", name("version 0"), state="refused", reason="no")
        opened.abandon_round(JOB, 1, closed_ns=300, report='{"why": "too few"}')
        assert opened.round(JOB, 1) == kit.round(
            state="abandoned", closed_ns=300, report='{"why": "too few"}', discarded=2
        )
        told = [(update.state, update.code, update.reason) for update in opened.updates(JOB, 1)]
        late = ("late", "abandoned", "the round was abandoned")
        assert told == [late, late, ("refused", "", "no")]
        kit.refused(opened, lambda: opened.abandon_round(JOB, 1, closed_ns=301, report="{}"))

    def test_abandoned_round_ends_the_wait_of_earlier_ones(
        self, opened: Store, kit: SimpleNamespace
    ) -> None:
        """Also what a closed round left waiting, but nothing of another job."""
        opened.add_job(kit.job("fans"))
        opened.add_version(kit.version(0, job="fans"))
        opened.open_round(kit.round(job="fans"))
        opened.add_update(kit.update(job="fans"))
        kit.close(opened, ["press-1"], kit.version(1))
        opened.open_round(kit.round(2))
        opened.abandon_round(JOB, 2, closed_ns=300, report="{}")
        states = [update.state for update in opened.updates(JOB, 1)]
        assert states == ["included", "late", "late"]
        assert opened.pending("fans") == [kit.update(job="fans")]


class TestCloseRound:
    def test_everything_follows(self, opened: Store, kit: SimpleNamespace) -> None:
        """Round, updates, version, candidate and job change together."""
        kit.close(opened, ["press-1", "press-3"], kit.version(1))
        assert opened.rounds(JOB) == [kit.closed(["press-1", "press-3"])]
        assert opened.updates(JOB, 1) == [
            kit.update("press-1", state="included", included_in=1),
            kit.update("press-2"),
            kit.update("press-3", state="included", included_in=1),
        ]
        assert opened.versions(JOB) == [kit.version(0), kit.version(1)]
        assert opened.aliases(JOB) == [
            AliasRecord(job=JOB, alias="candidate", version=name("version 1"), updated_ns=180)
        ]
        assert opened.job(JOB) == kit.job(
            state="running",
            updated_ns=180,
            rule_state=b"momentum",
            downlink_residual=name("residual"),
        )

    def test_without_version(self, opened: Store, kit: SimpleNamespace) -> None:
        """A zero aggregate closes the round and leaves versions and candidate alone."""
        kit.close(opened, ["press-1"])
        assert opened.versions(JOB) == [kit.version(0)]
        assert opened.aliases(JOB) == []
        assert opened.current_round(JOB) is None

    def test_leaves_decided_updates_alone(self, opened: Store, kit: SimpleNamespace) -> None:
        """A refused update stays refused, with its reason."""
        base = name("version 0")
        opened.discard_update(JOB, 1, "press-2", base, state="refused", reason="not finite")
        kit.close(opened, ["press-1"], kit.version(1))
        update = opened.updates(JOB, 1)[1]
        assert (update.state, update.reason) == ("refused", "not finite")

    def test_update_on_another_base_goes_on_waiting(
        self, opened: Store, kit: SimpleNamespace
    ) -> None:
        """Exactly what is named is included, not all of that agent."""
        opened.add_update(kit.update(base=name("old"), received_ns=140))
        kit.close(opened, ["press-1"], kit.version(1))
        states = [update.state for update in opened.updates(JOB, 1) if update.agent == "press-1"]
        assert states == ["received", "included"]

    def test_takes_updates_of_earlier_rounds(self, opened: Store, kit: SimpleNamespace) -> None:
        """One that waited goes into a later round, with a newer one of the same agent."""
        kit.close(opened, ["press-1"], kit.version(1))
        opened.open_round(kit.round(2))
        newer = kit.update(
            "press-2", round=2, base=name("version 1"), blob=name("b"), sha256=name("f")
        )
        opened.add_update(newer)
        assert opened.pending(JOB) == [kit.update("press-2"), newer, kit.update("press-3")]
        closed = kit.round(2, state="closed", closed_ns=400, included=["press-2", "press-3"])
        opened.close_round(
            closed,
            kit.version(2),
            included=[kit.update("press-2"), newer, kit.update("press-3")],
            rule_state=b"",
            downlink_residual=None,
            job_state="running",
        )
        assert opened.pending(JOB) == []
        assert [update.included_in for update in opened.updates(JOB, 1)] == [1, 2, 2]
        assert [update.included_in for update in opened.updates(JOB, 2)] == [2]
        assert opened.round(JOB, 2) == closed

    def test_discards_what_it_is_told_to(self, opened: Store, kit: SimpleNamespace) -> None:
        """Late or refused, for the reason that is given, in the same transaction."""
        late = kit.update("press-2", state="late", code="stale", reason="9 rounds behind")
        refused = kit.update("press-3", state="refused", code="norm", reason="too long")
        kit.close(opened, ["press-1"], kit.version(1), discarded=[late, refused])
        assert opened.updates(JOB, 1)[1:] == [late, refused]
        assert opened.pending(JOB) == []

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            ({"state": "received"}, "discarded as received"),
            ({"state": "included"}, "discarded as included"),
            ({"state": "late", "round": 9}, "does not wait"),
            ({"state": "late", "agent": "press-1"}, "does not wait"),
            ({"state": "late", "job": "fans"}, "does not wait"),
        ],
        ids=["waiting", "included", "round", "twice", "job"],
    )
    def test_refuses_to_discard_anything_else(
        self, opened: Store, fields: dict[str, Any], match: str, kit: SimpleNamespace
    ) -> None:
        """Only what waits, once, and as something that is discarded."""
        wrong = kit.update(**{"agent": "press-2", **fields})
        kit.refused(
            opened,
            lambda: kit.close(opened, ["press-1"], kit.version(1), discarded=[wrong]),
            match,
        )

    @pytest.mark.parametrize(
        ("agents", "fields"),
        [
            (["press-2", "press-1"], {}),
            (["press-1"], {}),
            (["press-1", "press-1", "press-2"], {}),
            (["press-1", "press-2"], {"sha256": name("forged")}),
            (["press-1", "press-2"], {"base": name("old")}),
            (["press-1", "press-2"], {"round": 0}),
        ],
        ids=["order", "agents", "repeat", "frame", "base", "round"],
    )
    def test_refuses_to_include_anything_else(
        self, opened: Store, agents: list[str], fields: dict[str, Any], kit: SimpleNamespace
    ) -> None:
        """The record names the agents of exactly these updates, all of which wait."""
        included = [kit.update("press-1"), kit.update("press-2", **fields)]
        kit.refused(
            opened,
            lambda: opened.close_round(
                kit.closed(agents),
                kit.version(1),
                included=included,
                rule_state=b"",
                downlink_residual=None,
                job_state="running",
            ),
        )

    def test_refuses_to_include_one_twice(self, opened: Store, kit: SimpleNamespace) -> None:
        """It would count double."""
        kit.refused(
            opened,
            lambda: opened.close_round(
                kit.closed(["press-1"]),
                kit.version(1),
                included=[kit.update("press-1")] * 2,
                rule_state=b"",
                downlink_residual=None,
                job_state="running",
            ),
            "does not wait",
        )

    def test_keeps_the_counts(self, opened: Store, kit: SimpleNamespace) -> None:
        """How many were taken, refused and too late stands with the round."""
        closed = kit.closed(["press-1"], accepted=1, rejected=2, discarded=3)
        opened.close_round(
            closed,
            None,
            included=[kit.update("press-1")],
            rule_state=b"",
            downlink_residual=None,
            job_state="running",
        )
        assert opened.rounds(JOB) == [closed]

    @pytest.mark.parametrize(
        ("included", "fields"),
        [
            (["press-1"], {"number": 0}),
            (["press-1"], {"version": name("version 0")}),
            (["press-1"], {"base": name("nowhere")}),
            (["press-1"], {"round": 2}),
            (["press-1"], {"job": "fans"}),
            (["press-1"], {"weights": "no name"}),
            (["press-1", "press-9"], {}),
        ],
        ids=["number", "name", "base", "round", "job", "weights", "agent"],
    )
    def test_all_or_nothing(
        self,
        opened: Store,
        included: list[str],
        fields: dict[str, Any],
        kit: SimpleNamespace,
    ) -> None:
        """Whatever does not fit leaves the round open and everything as it was."""
        kit.refused(opened, lambda: kit.close(opened, included, kit.version(1, **fields)))
        assert opened.current_round(JOB) == kit.round()

    def test_refuses_wrong_job_state_last(self, opened: Store, kit: SimpleNamespace) -> None:
        """Even the last of the changes takes all others back."""
        wrong: Any = "asleep"
        kit.refused(
            opened,
            lambda: opened.close_round(
                kit.closed(["press-1"]),
                kit.version(1),
                included=[kit.update("press-1")],
                rule_state=b"",
                downlink_residual=None,
                job_state=wrong,
            ),
            "asleep",
        )

    @pytest.mark.parametrize(
        "fields",
        [
            {"state": "open"},
            {"closed_ns": None},
            {"base": name("other")},
            {"round": 2},
        ],
        ids=["open", "no time", "base", "number"],
    )
    def test_refuses_what_is_no_end(
        self, opened: Store, fields: dict[str, Any], kit: SimpleNamespace
    ) -> None:
        """The record must say that this very round ended."""
        kit.refused(
            opened,
            lambda: opened.close_round(
                kit.closed([], **fields),
                None,
                included=[],
                rule_state=b"",
                downlink_residual=None,
                job_state="running",
            ),
        )

    def test_closes_once(
        self,
        opened: Store,
        kit: SimpleNamespace,
    ) -> None:
        """A second close of the same round is refused."""
        kit.close(opened, ["press-1"], kit.version(1))
        kit.refused(
            opened, lambda: kit.close(opened, ["press-1"], kit.version(2, round=1)), "is not open"
        )


class TestUpdates:
    def test_repeat_changes_nothing(self, opened: Store, kit: SimpleNamespace) -> None:
        """The same frame again is no news, even after its round closed."""
        assert opened.add_update(kit.update(received_ns=170)) is False
        kit.close(opened, ["press-1"], kit.version(1))
        before = kit.everything(opened)
        assert opened.add_update(kit.update(received_ns=190)) is False
        assert kit.everything(opened) == before

    def test_another_frame_under_the_key_is_refused(
        self, opened: Store, kit: SimpleNamespace
    ) -> None:
        """Two different updates of one agent for one round and base cannot both be true."""
        other = kit.update(sha256=name("forged"))
        kit.refused(opened, lambda: opened.add_update(other), "two different updates")

    def test_sorted_by_arrival(self, opened: Store, kit: SimpleNamespace) -> None:
        """Updates come back as they went in, first come first."""
        early = kit.update("press-4", received_ns=120)
        assert opened.add_update(early) is True
        agents = [update.agent for update in opened.updates(JOB, 1)]
        assert agents == ["press-4", "press-1", "press-2", "press-3"]
        assert opened.updates(JOB, 1)[0] == early
        assert opened.updates(JOB, 2) == []

    def test_waits_also_after_its_round(self, opened: Store, kit: SimpleNamespace) -> None:
        """After the close an update waits for the next one; its round must exist."""
        kit.close(opened, ["press-1", "press-2", "press-3"], kit.version(1))
        late = kit.update("press-4", state="late", code="stale", reason="30 s after the close")
        assert opened.add_update(kit.update("press-5")) is True
        assert opened.add_update(late) is True
        assert late in opened.updates(JOB, 1)
        assert opened.pending(JOB) == [kit.update("press-5")]
        for state in ("received", "late"):
            wrong = kit.update("press-4", round=7, state=state)
            kit.refused(opened, lambda wrong=wrong: opened.add_update(wrong), "no round 7")

    @pytest.mark.parametrize("state", ["finished", "stopped"])
    def test_does_not_wait_for_a_job_that_is_over(
        self, opened: Store, state: JobState, kit: SimpleNamespace
    ) -> None:
        """There is no close to wait for; what waits is left until it is discarded."""
        opened.update_job(JOB, updated_ns=2, state=state)
        kit.refused(opened, lambda: opened.add_update(kit.update("press-4")), f"is {state}")
        assert opened.add_update(kit.update("press-4", state="late")) is True
        assert opened.add_update(kit.update()) is False
        assert len(opened.pending(JOB)) == 3
        assert opened.discard_waiting(JOB, code=state, reason="the job is over") == 3
        assert opened.discard_waiting(JOB, code=state, reason="again") == 0
        assert opened.pending(JOB) == []
        wanted = kit.update("press-2", state="late", code=state, reason="the job is over")
        assert opened.update(JOB, 1, "press-2", name("version 0")) == wanted

    def test_discards_the_waiting_of_one_job(self, opened: Store, kit: SimpleNamespace) -> None:
        """Another job, and what is decided, stay as they are."""
        opened.add_job(kit.job("fans"))
        opened.add_version(kit.version(0, job="fans"))
        opened.open_round(kit.round(job="fans"))
        opened.add_update(kit.update(job="fans"))
        kit.close(opened, ["press-1"], kit.version(1))
        assert opened.discard_waiting(JOB, code="aborted", reason="by anna") == 2
        assert opened.discard_waiting("pumps", code="aborted", reason="by anna") == 0
        assert opened.updates(JOB, 1)[0].state == "included"
        assert len(opened.pending("fans")) == 1

    def test_one_by_its_key(self, opened: Store, kit: SimpleNamespace) -> None:
        """All four parts of the key count."""
        base = name("version 0")
        assert opened.update(JOB, 1, "press-2", base) == kit.update("press-2")
        for key in (
            ("fans", 1, "press-2", base),
            (JOB, 2, "press-2", base),
            (JOB, 1, "press-9", base),
            (JOB, 1, "press-2", name("old")),
        ):
            assert opened.update(*key) is None

    def test_newest_first(self, opened: Store, kit: SimpleNamespace) -> None:
        """The last that came, of whatever round, as many as asked for."""
        kit.close(opened, ["press-1"], kit.version(1))
        opened.open_round(kit.round(2))
        opened.add_update(kit.update("press-9", round=2, received_ns=350))
        opened.add_update(kit.update("press-8", received_ns=340))
        agents = [update.agent for update in opened.recent_updates(JOB, 9)]
        assert agents == ["press-9", "press-8", "press-1", "press-2", "press-3"]
        assert [update.agent for update in opened.recent_updates(JOB, 1)] == ["press-9"]
        assert opened.recent_updates("fans", 9) == []

    @pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
    def test_diverged_loss_is_kept(self, job: Store, loss: float, kit: SimpleNamespace) -> None:
        """A training that diverged is recorded as it was, not an error."""
        job.open_round(kit.round())
        job.add_update(kit.update(loss=loss))
        assert str(job.updates(JOB, 1)[0].loss) == str(loss)

    def test_discards_only_what_waits(self, opened: Store, kit: SimpleNamespace) -> None:
        """An update is decided once; an unknown one cannot be."""
        base = name("version 0")
        for agent, ok in (("press-1", True), ("press-1", False), ("press-9", False)):

            def discard(agent: str = agent) -> None:
                opened.discard_update(
                    JOB, 1, agent, base, state="late", reason="slow", code="stale"
                )

            if ok:
                discard()
            else:
                kit.refused(opened, discard, "does not wait")
        assert opened.updates(JOB, 1)[0] == kit.update(state="late", reason="slow", code="stale")


class TestBlobs:
    def test_live_is_what_rows_need(self, opened: Store, kit: SimpleNamespace) -> None:
        """Jobs, versions and waiting updates hold blobs; decided updates and the past do not."""
        opened.update_job(JOB, updated_ns=2, template=name("graph"), canary_inputs=name("canary"))
        frames = {name(f"blob of press-{number}") for number in (1, 2, 3)}
        fixed = {name("graph"), name("canary"), name("weights 0"), name("blob of press-3")}
        assert opened.live_blobs() == fixed | frames
        kit.close(opened, ["press-1", "press-2"], kit.version(1))
        new = {name("weights 1"), name("delta 1"), name("residual")}
        assert opened.live_blobs() == fixed | new
        opened.forget_weights(JOB, set())
        assert opened.live_blobs() == (fixed | new) - {name("weights 0")}
        opened.discard_waiting(JOB, code="aborted", reason="by anna")
        assert name("blob of press-3") not in opened.live_blobs()


class TestChecks:
    @pytest.mark.parametrize(
        "field",
        [
            {"examples": 2**63},
            {"examples": -1},
            {"examples": np.int64(3)},
            {"blob": "../../etc/passwd"},
            {"sha256": name("x") + "\n"},
            {"state": "lost"},
            {"loss": None},
        ],
        ids=str,
    )
    def test_impossible_fields_are_refused(
        self,
        opened: Store,
        field: dict[str, Any],
        kit: SimpleNamespace,
    ) -> None:
        """What a database would bend or choke on is refused in words."""
        kit.refused(
            opened, lambda: opened.add_update(kit.update("press-4", **field)), "UpdateRecord"
        )

    def test_numbers_beyond_every_row_are_in_none(
        self, opened: Store, kit: SimpleNamespace
    ) -> None:
        """A round that an agent makes up is unknown, however large its number."""
        for number in (2**63, 2**64 - 1):
            assert opened.round(JOB, number) is None
            assert opened.updates(JOB, number) == []
            kit.refused(opened, lambda number=number: opened.extend_round(JOB, number, 9))

    def test_closing_twice_is_harmless(self, store: Store) -> None:
        """A store can be closed again, and before anything was opened."""
        store.close()
        store.close()
