# SPDX-License-Identifier: Apache-2.0
"""What the operator orders about the releases of one job; also after its end.

Each order says in words what came of it. An order that is carried out a second time, because the
coordinator was killed before it could note the first, finds its release there and changes nothing.
"""

from collections.abc import Callable
from typing import Literal

from msgspec import DecodeError, Struct, json

from fedmill_coordinator.registry.catalogue import find_version
from fedmill_coordinator.registry.rollout.rollcall import HEARD
from fedmill_coordinator.rounds.herald import Herald
from fedmill_coordinator.rounds.parts import Parts
from fedmill_coordinator.store.records import REFUSED_ORDER, OrderRecord, Verb, VersionRecord
from fedmill_coordinator.store.records_releases import ReleaseRecord
from fedmill_shared.errors import UsageError
from fedmill_shared.job.rings import FLEET


class Wanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The argument of an order to promote or to roll back.

    Attributes:
        version: alias, number or SHA-256; empty for the one before what is served.
        ring: ``fleet`` to skip the rings; empty for those of the job.
        force: to release what agents evaluated worse than what they serve.
    """

    version: str = ""
    ring: Literal["", "fleet"] = ""
    force: bool = False


Command = Callable[[OrderRecord, Parts, Herald], str]


def carry_out(order: OrderRecord, parts: Parts, herald: Herald) -> str:
    """Do what ``order`` wants of the releases of a job, and say what came of it.

    Raises:
        StoreError: the disk fails; the order may be given again.
    """
    if not parts.versions.ready:
        return f"{REFUSED_ORDER}the job has no version yet"
    made = _made_by(order, parts)
    if made:  # before the coordinator was killed
        return made
    return COMMANDS[order.verb](order, parts, herald)


def promote(order: OrderRecord, parts: Parts, herald: Herald) -> str:
    """Release a version through the rings of the job, or to the whole fleet at once."""
    wanted = _wanted(order)
    found = _found(parts, wanted.version or "candidate") if wanted is not None else None
    if wanted is None or not isinstance(found, VersionRecord):
        return f"{REFUSED_ORDER}{found or 'the order cannot be read'}"
    fault = _fault(parts, found)
    if fault:
        return fault
    worse = parts.rollout.worse(found)
    if worse and not wanted.force:
        return f"{REFUSED_ORDER}{worse}; --force releases it all the same"
    rings = [FLEET] if wanted.ring == FLEET else []
    release = parts.rollout.begin(
        found, "promoted", rings=rings, by=order.by, reason=worse, order_id=order.id
    )
    _tell_versions(parts, herald)
    return _goes(release, found)


def roll_back(order: OrderRecord, parts: Parts, herald: Herald) -> str:
    """Release what was served before once more, to the whole fleet at once."""
    wanted, rollout = _wanted(order), parts.rollout
    if wanted is None:
        return f"{REFUSED_ORDER}the order cannot be read"
    gone_back = rollout.served.gone_back()
    if not wanted.version and gone_back is not None:  # or a second one would undo the first
        return f"{REFUSED_ORDER}release {gone_back.release} has gone back already; name a version"
    target = wanted.version or rollout.served.before()
    if not target:
        return f"{REFUSED_ORDER}nothing was served before"
    found = _found(parts, target)
    if not isinstance(found, VersionRecord):
        return f"{REFUSED_ORDER}{found}"
    fault = _fault(parts, found)
    if not fault and not rollout.served.ever(found.version):
        fault = f"{REFUSED_ORDER}version {found.number} never served: promote it instead"
    if fault:
        return fault
    release = rollout.begin(found, "rollback", rings=[FLEET], by=order.by, order_id=order.id)
    _tell_versions(parts, herald)
    return _goes(release, found)


def pause(order: OrderRecord, parts: Parts, _herald: Herald) -> str:
    """No further ring opens, and no agent runs out of time; those that were asked go on."""
    going = parts.rollout.going
    if going is None:
        return f"{REFUSED_ORDER}no release is under way"
    if going.state == "paused":
        return f"release {going.release} is held already"
    parts.rollout.hold(paused=True, by=order.by)
    return f"release {going.release} is held"


def resume(order: OrderRecord, parts: Parts, _herald: Herald) -> str:
    """Go on; agents that have no last word get their whole time again."""
    going = parts.rollout.going
    if going is None or going.state != "paused":
        return f"{REFUSED_ORDER}no release is held"
    parts.rollout.hold(paused=False, by=order.by)
    return f"release {going.release} goes on"


COMMANDS: dict[Verb, Command] = {
    "promote": promote,
    "rollback": roll_back,
    "pause_rollout": pause,
    "resume_rollout": resume,
}
"""Orders that are about releases."""


def _wanted(order: OrderRecord) -> Wanted | None:
    try:
        return json.decode(order.argument or "{}", type=Wanted)
    except DecodeError:  # another program wrote it
        return None


def _found(parts: Parts, wanted: str) -> VersionRecord | str:
    """The version that is meant, if it can be released; else why not."""
    try:
        found = find_version(parts.services.store, parts.job.name, wanted)
    except UsageError as error:
        return error.message
    if found.weights is None:
        return f"the weights of version {found.number} are no longer kept"
    return found


def _made_by(order: OrderRecord, parts: Parts) -> str:
    """What is said of the release that ``order`` has begun already; empty if it has not."""
    store = parts.services.store
    for release in reversed(store.releases(parts.job.name)):
        if release.order_id == order.id:
            found = store.version(release.job, release.version)
            return _goes(release, found) if found is not None else ""
    return ""


def _goes(release: ReleaseRecord, version: VersionRecord) -> str:
    to = ", ".join(release.rings) if release.why == "promoted" else "all agents at once"
    return f"release {release.release} of version {version.number} goes to {to}"


def _fault(parts: Parts, found: VersionRecord) -> str:
    """Why ``found`` is not to be released now; empty if nothing stands against it."""
    rollout, release = parts.rollout, parts.rollout.release
    if release is not None and release.version == found.version:
        kept = f"release {release.release} of version {found.number} is {release.state}"
        over = release.state == "done" and rollout.served.newest
        if release.state in HEARD and not over:
            return f"{REFUSED_ORDER}{kept}"
    elif release is None and found.version == rollout.served.now():
        return f"{REFUSED_ORDER}version {found.number} is what agents serve"
    each = parts.job.rollout.release == "each"
    if each and not (parts.stage.ended or parts.stage.paused):
        return f"{REFUSED_ORDER}the job runs, and each of its versions is served as it comes"
    return ""


def _tell_versions(parts: Parts, herald: Herald) -> None:
    """Where versions were served as they came, say that the newest one is not any more."""
    if parts.job.rollout.release == "each":
        herald.version(with_delta=False)
