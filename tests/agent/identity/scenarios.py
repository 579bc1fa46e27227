# SPDX-License-Identifier: Apache-2.0
"""What may be killed at any step: changes of an identity folder, and what must hold between."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedmill_agent.identity import operations
from fedmill_agent.identity.facts import Facts
from fedmill_agent.identity.folder import CA, CERTIFICATE, KEY, NAMES, REQUEST, IdentityFolder
from fedmill_shared.crypto.certificates import read_request
from fedmill_shared.crypto.keys import public_bytes, read_key

OLD, NEW = "old", "new"


def facts(mark: str = NEW, **fields: object) -> Facts:
    """Facts that can be told apart by ``mark``."""
    digit = {OLD: "1", NEW: "2"}.get(mark, mark)
    said: dict[str, object] = {
        "agent": "press-4",
        "serial": digit,
        "not_before_ns": 0,
        "not_after_ns": 90 * 24 * 3600 * 10**9,
        "fingerprint": digit * 64,
        "key": digit * 16,
        "authority": "f" * 64,
    }
    return Facts(**(said | fields))  # type: ignore[arg-type]


def put(folder: IdentityFolder, mark: str) -> None:
    """Let the identity be the one whose files all say ``mark``; its key waits in ``next``."""
    with folder.held():
        if folder.number and (folder.current / KEY).read_text() == mark:
            return
        key = folder.begin() / KEY
        key.write_text(mark)
        folder.put(key, mark.encode(), mark.encode(), facts(mark))


def marks(folder: Path) -> set[str]:
    """What the files of the identity in use say, under the names that stay."""
    names = [(folder / name).read_text() for name in NAMES]
    known = IdentityFolder(folder).facts()
    return {*names, {"1": OLD, "2": NEW}[known.serial] if known is not None else ""}


def _prepare(folder: Path) -> None:
    put(IdentityFolder(folder), OLD)


def _renew(folder: Path) -> None:
    put(IdentityFolder(folder), NEW)


def _one_of_both(folder: Path) -> None:
    assert len(marks(folder)) == 1, marks(folder)


def _only_new(folder: Path) -> None:
    assert marks(folder) == {NEW}
    number = str(IdentityFolder(folder).number)
    names = {each.name for each in folder.iterdir()}
    assert names == {"current", "lock", number, *NAMES}, names


def _nothing(folder: Path) -> None:
    folder.mkdir()


def _all_or_none(folder: Path) -> None:
    if IdentityFolder(folder).number == 0:
        assert not (folder / KEY).exists()
    elif (folder / CA).exists():  # the last of the names
        assert marks(folder) == {NEW}
    assert IdentityFolder(folder).facts() in (None, facts())


def _by_hand(folder: Path) -> None:
    folder.mkdir()
    for name in (KEY, CERTIFICATE, CA):
        (folder / name).write_text(NEW)


def _adopt(folder: Path) -> None:
    kept = IdentityFolder(folder)
    with kept.held():
        if kept.by_hand:
            kept.put(folder / KEY, NEW.encode(), NEW.encode(), facts())


def _always_readable(folder: Path) -> None:
    assert {(folder / name).read_text() for name in NAMES} == {NEW}


def _ask(folder: Path) -> None:
    operations.request(IdentityFolder(folder), "press-4")


def _asked_whole_or_not(folder: Path) -> None:
    kept = IdentityFolder(folder)
    if (kept.next / KEY).exists():
        key = public_bytes(read_key(kept.next / KEY))
        if (kept.next / REQUEST).exists():
            assert read_request((kept.next / REQUEST).read_bytes()) == ("press-4", key)
    assert kept.number == 0


def _asked_once(folder: Path) -> None:
    known = (folder / "next" / KEY).read_bytes()
    again = operations.request(IdentityFolder(folder), "press-4")
    assert (again.made, (folder / "next" / KEY).read_bytes()) == (False, known)
    assert read_request(again.pem)[1] == public_bytes(read_key(folder / "next" / KEY))
    assert all(each.stat().st_mode & 0o077 == 0 for each in folder.glob("next/*key*"))


@dataclass(frozen=True, slots=True)
class Scenario:
    """``work`` on what ``prepare`` made; ``look`` after a kill, ``done`` after it was repeated."""

    prepare: Callable[[Path], None]
    work: Callable[[Path], None]
    look: Callable[[Path], None]
    done: Callable[[Path], None]


SCENARIOS = {
    "renew": Scenario(_prepare, _renew, _one_of_both, _only_new),
    "first": Scenario(_nothing, _renew, _all_or_none, _only_new),
    "adopt": Scenario(_by_hand, _adopt, _always_readable, _only_new),
    "ask": Scenario(_nothing, _ask, _asked_whole_or_not, _asked_once),
}
