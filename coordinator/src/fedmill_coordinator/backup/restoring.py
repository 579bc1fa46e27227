# SPDX-License-Identifier: Apache-2.0
"""From a backup to a coordinator that can be started."""

from dataclasses import dataclass
from pathlib import Path

from fedmill_coordinator.backup import applying, contents
from fedmill_coordinator.backup.manifest import Manifest, Member
from fedmill_coordinator.backup.reading import manifest_of, opened, unpack
from fedmill_coordinator.config import CoordinatorConfig, load
from fedmill_shared.errors import ConfigError, StoreError
from fedmill_shared.files import make_folder, sha256, state_folder


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it.

    Attributes:
        manifest: what the backup held.
        kept: files that were there already and stay as they are.
        replaced: folder with what the state folder had before; None where it was empty.
    """

    manifest: Manifest
    kept: list[Path]
    replaced: Path | None


def restore(backup: Path, path: Path, *, replace: bool, mark: str) -> Restored:
    """Put the coordinator in ``backup`` where the configuration ``path`` says.

    Of the files outside the state folder (configuration, jobs, metadata, keys) those that are
    there stay, unless ``replace``; what the state folder had goes into a folder named by ``mark``.

    Raises:
        StoreError: the backup is damaged, the coordinator runs, or its state folder is not empty;
            nothing has changed.
        ConfigError: the configuration is wrong, or there is none here and in the backup.
    """
    made = manifest_of(backup)
    config = _configured(made, backup, path)
    state = Path(config.coordinator.state)
    make_folder(state)
    with state_folder(state, "coordinator"):
        applying.finish(state)
        used = applying.is_used(state)
        if used and not replace:
            raise StoreError(
                f"{state}: is not empty: {', '.join(used[:5])}",
                remedy="--replace puts what is there into a folder beside it",
            )
        stage = applying.stage(state)
        outer = _outer(made, config, path)
        kept = [goal for goal in outer.values() if goal.exists() and not replace]

        def where(member: Member) -> Path:
            return stage / member.place / member.path

        unpack(backup, where)
        goals = {name: goal for name, goal in outer.items() if goal not in kept}
        applying.decide(state, goals, mark)
        applying.finish(state)
    return Restored(made, kept, state / f"{contents.REPLACED}{mark}" if used else None)


def _configured(made: Manifest, backup: Path, path: Path) -> CoordinatorConfig:
    """The configuration that is there, or the one in the backup as if it were."""
    if path.exists():
        return load(path)
    member = next((each for each in made.members if each.place == "config"), None)
    if member is None:
        raise ConfigError(f"{path}: no such file", remedy="write one; the backup has none")
    folder = make_folder(path.parent)
    trial = folder / f".{path.name}.restoring"
    trial.unlink(missing_ok=True)
    try:
        _only(backup, member, trial)
        return load(trial)
    finally:
        trial.unlink(missing_ok=True)


def _only(backup: Path, wanted: Member, goal: Path) -> None:
    """Unpack one file; the others are checked when they are unpacked."""
    with opened(backup) as archive:
        for entry in archive:
            if entry.name == wanted.name and entry.isreg() and entry.size == wanted.size:
                file = archive.extractfile(entry)
                data = file.read() if file is not None else b""
                if sha256(data) == wanted.sha256:
                    goal.write_bytes(data)
                    return
    raise StoreError(f"{backup}: {wanted.name} is not as it was", remedy="take another backup")


def _outer(made: Manifest, config: CoordinatorConfig, path: Path) -> dict[str, Path]:
    """Where the files outside the state folder go, by their names in the stage."""
    found = {}
    for member in made.members:
        if member.place == "state":
            continue
        goal = contents.target(member, config, path)
        if goal is not None:
            found[member.name] = goal
    return found
