# SPDX-License-Identifier: Apache-2.0
"""Stored versions by what people call them; the file itself is tested with the command."""

import pytest

from fedmill_coordinator.registry.catalogue import find_version
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import JobRecord, VersionRecord
from fedmill_shared.errors import UsageError

NAMES = ("ab" * 32, "abab12" + "0" * 58, "3" * 64)


@pytest.fixture
def store() -> MemoryStore:
    """Three versions, two of which begin alike; the last is stable."""
    made = MemoryStore()
    times = {"created_ns": 1, "updated_ns": 1}
    made.add_job(JobRecord(name="rig", text="", sha256="0" * 64, state="running", **times))
    for number, version in enumerate(NAMES):
        made.add_version(
            VersionRecord(
                job="rig",
                number=number,
                version=version,
                base=NAMES[number - 1] if number else None,
                weights=None,
                delta=None,
                canary_outputs=b"",
                round=number or None,
                created_ns=1,
            )
        )
    made.set_alias("rig", "stable", NAMES[2], updated_ns=1)
    return made


class TestFind:
    """Alias, number or digest."""

    @pytest.mark.parametrize(
        ("wanted", "number"),
        [("stable", 2), ("0", 0), ("2", 2), (NAMES[1], 1), ("ababab", 0), ("333333", 2)],
    )
    def test_found(self, store: MemoryStore, wanted: str, number: int) -> None:
        """A prefix of six digits is enough where it is one version's only."""
        assert find_version(store, "rig", wanted).number == number

    @pytest.mark.parametrize("wanted", ["", "3", "canary", "33333", "ffffff", "-1"])
    def test_not_found(self, store: MemoryStore, wanted: str) -> None:
        """The name, the job and the aliases that there are."""
        with pytest.raises(UsageError, match=f"'{wanted}' of job rig: no versions") as caught:
            find_version(store, "rig", wanted)
        assert caught.value.remedy == "aliases: stable; see `fedmill models list`"

    def test_ambiguous(self, store: MemoryStore) -> None:
        """Nothing is guessed."""
        twin = "abab12" + "1" * 58
        store.add_version(
            VersionRecord(
                job="rig",
                number=3,
                version=twin,
                base=NAMES[2],
                weights=None,
                delta=None,
                canary_outputs=b"",
                round=3,
                created_ns=1,
            )
        )
        with pytest.raises(UsageError, match="'abab12' of job rig: 2 versions"):
            find_version(store, "rig", "abab12")
        assert find_version(store, "rig", twin).number == 3

    def test_an_unknown_job(self, store: MemoryStore) -> None:
        """It has neither versions nor aliases."""
        with pytest.raises(UsageError) as caught:
            find_version(store, "fans", "stable")
        assert "none yet" in str(caught.value)
