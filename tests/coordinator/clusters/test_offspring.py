# SPDX-License-Identifier: Apache-2.0
"""Job files of clusters: what they take over from the job, and what is theirs."""

import tomllib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fedmill_coordinator.clusters.offspring import job_file, offspring
from fedmill_coordinator.clusters.telling import Telling
from fedmill_shared.errors import JobError
from fedmill_shared.job import (
    Alarm,
    Federation,
    Gru,
    Job,
    Learning,
    Mlp,
    Model,
    Robustness,
    Signal,
    Wdcnn,
)
from fedmill_shared.job_check import decode_job

Make = Callable[..., Job]
CLUSTERS = [("a", "c", "e"), ("b",)]
BY_MACHINE = Telling("machine", ('machine == "pump"', 'machine == "fan"'), ("pump", "fan"))

WRITTEN = """\
signals = [
    { name = "force", unit = "kN" },
    { name = "stroke", unit = "mm" },
]

[job]
name = "rig"

[window]
length = 4

[labels]
classes = [
    "good",
    "burr",
    "crack",
]

[model]
architecture = "mlp"
hidden = [
    4,
    4,
]

[federation]
rounds = 9
"""

PCA = """
[job]
name = "rig"
task = "reconstruction"
[[signals]]
name = "force"
[window]
length = 4
[model]
architecture = "pca"
[federation]
rounds = {}
"""


def by_id(*clusters: tuple[str, ...]) -> Telling:
    """Without any label."""
    listed = (", ".join(f'"{agent}"' for agent in each) for each in clusters)
    numbers = tuple(str(place + 1) for place in range(len(clusters)))
    return Telling("agent", tuple(f"agent in [{each}]" for each in listed), numbers)


class TestOffspring:
    def test_a_job_for_each_cluster(self, tiny_job: Make) -> None:
        """It starts from the job, for its own agents; all else is as it was."""
        job = tiny_job("rig", minimum=2, goal=0, select='line == "A"', uplink="int4")
        files = offspring(job, CLUSTERS, BY_MACHINE)
        assert list(files) == ["rig-pump", "rig-fan"]
        pump = decode_job(files["rig-pump"].decode(), "pump.toml")
        own = structs.replace(
            job.federation, select='(line == "A") and machine == "pump"', start="rig"
        )
        assert pump == structs.replace(
            job, job=structs.replace(job.job, name="rig-pump"), federation=own
        )

    def test_no_more_agents_are_wanted_than_there_are(self, tiny_job: Make) -> None:
        """Else a small cluster would wait for ever."""
        files = offspring(tiny_job("rig", minimum=2, goal=3), CLUSTERS, by_id(*CLUSTERS))
        told = [decode_job(text.decode(), name).federation for name, text in files.items()]
        assert [(each.minimum, each.goal) for each in told] == [(2, 3), (1, 1)]
        assert [each.select for each in told] == ['agent in ["a", "c", "e"]', 'agent in ["b"]']
        assert list(files) == ["rig-1", "rig-2"]

    def test_the_part_of_a_part(self, tiny_job: Make) -> None:
        """A job that was split is split again."""
        job = tiny_job("rig-pump", start="rig", select='machine == "pump"', minimum=1, goal=0)
        files = offspring(job, CLUSTERS, by_id(*CLUSTERS))
        told = tomllib.loads(files["rig-pump-2"].decode())["federation"]
        assert told["start"] == "rig-pump"
        assert told["select"] == '(machine == "pump") and agent in ["b"]'

    def test_a_name_that_becomes_too_long(self, tiny_job: Make) -> None:
        """Is numbered; if that is too long as well, the error names field, value and limit."""
        assert list(offspring(tiny_job(29 * "x"), CLUSTERS, BY_MACHINE)) == [
            f"{29 * 'x'}-{number}" for number in (1, 2)
        ]
        with pytest.raises(JobError, match=r'job\.name is "x{32}-1": expected text of 1 to 32'):
            offspring(tiny_job(32 * "x"), CLUSTERS, BY_MACHINE)

    def test_a_list_of_agents_that_becomes_too_long(self, tiny_job: Make) -> None:
        """A label for each cluster is the way out."""
        many = [tuple(f"gateway-{i:03}" for i in range(50)), ("b",)]
        with pytest.raises(JobError, match=r"federation\.select .*(500|one label)"):
            offspring(tiny_job("rig", minimum=1, goal=0), many, by_id(*many))


class TestJobFile:
    def test_only_what_is_not_the_default(self, tiny_job: Make) -> None:
        """As short as a person would write it."""
        job = tiny_job("rig", rounds=9, minimum=2, goal=0, deadline_seconds=120.0)
        assert job_file(structs.replace(job, robustness=Robustness())).decode() == WRITTEN

    @given(
        st.sampled_from([Mlp(), Mlp(hidden=[4, 5]), Wdcnn(), Wdcnn(norm="none"), Gru(layers=1)]),
        st.sampled_from([Learning(), Learning(epochs=3, loss="focal", proximal=0.5)]),
        st.sampled_from(["", "x", 'a == "b\\"c"']),
        st.sampled_from([{}, {"unit": "kN", "tag": 'DB1."x"'}, {"rate_hz": 2.5}]),
    )
    def test_says_the_same(
        self,
        tiny_job: Make,
        model: Model,
        learning: Learning,
        select: str,
        signal: dict[str, object],
    ) -> None:
        """Whatever is in it, reading it gives the job again."""
        job = structs.replace(
            tiny_job("rig", select=select),
            model=model,
            learning=learning,
            signals=[Signal(name="a", **signal)],
        )
        if not isinstance(model, Mlp):
            job = structs.replace(job, window=structs.replace(job.window, length=2048))
        assert decode_job(job_file(job).decode(), "rig.toml") == job

    @pytest.mark.parametrize("rounds", [1, 5, Federation().rounds])
    def test_principal_components_have_defaults_of_their_own(self, rounds: int) -> None:
        """What they are in other jobs is written down."""
        job = decode_job(PCA.format(rounds), "rig.toml")
        assert decode_job(job_file(job).decode(), "rig.toml") == job

    def test_what_an_alarm_leaves_open_is_left_out(self, tiny_job: Make) -> None:
        """TOML has no word for nothing."""
        job = structs.replace(tiny_job("rig"), alarms=[Alarm(name="worn", classes=["burr"])])
        assert decode_job(job_file(job).decode(), "rig.toml") == job
