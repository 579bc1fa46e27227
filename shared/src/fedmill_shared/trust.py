# SPDX-License-Identifier: Apache-2.0
"""What both sides agree on of signed metadata (TUF): names, sizes, and what a release binds.

The roles are those of The Update Framework. ``targets`` belongs to the operator and signs jobs and
configuration; ``models`` to the coordinator, for releases alone; ``software`` to whom it comes
from. Each travels as a retained message, ``timestamp`` last, so that whoever reads meanwhile lacks
something for a moment and is never wrong for good.
"""

import re
from enum import StrEnum

import msgspec
from msgspec import Struct

from fedmill_shared.errors import FrameError
from fedmill_shared.files import sha256
from fedmill_shared.messages import UNREADABLE, ReleaseNotice

METADATA_LIMIT = 262_144
"""Bytes of one metadata file at most: a message that every broker of ours takes."""
CONFIG_LIMIT = 16_384
"""Bytes of a remote configuration at most."""
SOFTWARE_LIMIT = 4 << 30
"""Bytes of a file of software at most."""
MOST_ROOTS = 256
"""Root files that are followed one after the other at most."""
FORMAT = 1
EVERYBODY = "all"


class TrustRole(StrEnum):
    """Who signs; ``models`` and ``software`` are delegated by ``targets``."""

    ROOT = "root"
    TARGETS = "targets"
    SNAPSHOT = "snapshot"
    TIMESTAMP = "timestamp"
    MODELS = "models"
    SOFTWARE = "software"


DELEGATED = {TrustRole.MODELS: "releases/*/*", TrustRole.SOFTWARE: "software/*"}
"""Roles that ``targets`` delegates to, and the paths that each may sign."""
_ROLES = "|".join(TrustRole)
_TOLD = re.compile(r"^(?:[1-9][0-9]{0,5}\.root|timestamp|snapshot|targets|models|software)\.json\Z")
_FILE = re.compile(rf"^(?:timestamp|[1-9][0-9]{{0,8}}\.(?:{_ROLES}))\.json\Z")
_CONFIG = re.compile(r"^config\.([a-z0-9-]{1,32})\.toml\Z")
_TARGET = re.compile(
    r"^(?:jobs/[0-9a-f]{64}\.[a-z0-9_-]{1,32}\.toml"
    r"|config/[0-9a-f]{64}\.[a-z0-9-]{1,32}\.toml"
    r"|releases/[a-z0-9_-]{1,32}/[0-9a-f]{64}\.[1-9][0-9]{0,12}\.json"
    r"|software/[0-9a-f]{64}\.[A-Za-z0-9][A-Za-z0-9._+-]{0,127})\Z"
)
SOFTWARE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}\Z")


class ReleaseStatement(Struct, frozen=True, kw_only=True):
    """What the signature of a release covers: which it is, and every byte that it is made of.

    Not whom it is for at present, which changes from ring to ring; and not the delta, whose result
    is checked against ``version``.
    """

    format: int
    job: str
    release: int
    number: int
    version: str
    manifest: str
    template: str
    canary_inputs: str
    canary_outputs: str
    snapshot: str
    quantised: str
    back: bool


class _Signed(Struct):
    version: int


class _Head(Struct):
    signed: _Signed


def release_statement(release: ReleaseNotice) -> bytes:
    """The bytes of the target ``releases/<job>/<release>.json``, made of the notice itself."""
    notice = release.notice
    statement = ReleaseStatement(
        format=FORMAT,
        job=release.job,
        release=release.release,
        number=notice.number,
        version=notice.version,
        manifest=notice.manifest.sha256,
        template=notice.template.sha256,
        canary_inputs=notice.canary_inputs.sha256,
        canary_outputs=sha256(notice.canary_outputs),
        snapshot=notice.snapshot.sha256,
        quantised=notice.quantised.sha256 if notice.quantised is not None else "",
        back=release.back,
    )
    return msgspec.json.encode(statement)


def release_path(job: str, release: int) -> str:
    """Target of a release."""
    return f"releases/{job}/{release}.json"


def job_path(job: str) -> str:
    """Target of a job file."""
    return f"jobs/{job}.toml"


def config_path(agent: str) -> str:
    """Target of the remote configuration of ``agent``, or of ``all``."""
    return f"config/{agent}.toml"


def in_folder(path: str, digest: str) -> str:
    """Where a target lies in a folder of targets: its digest stands before its name."""
    parent, _, name = path.rpartition("/")
    return f"{parent}/{digest}.{name}"


def is_told(name: str) -> bool:
    """Whether a metadata file is called so on the wire, where only roots carry their version."""
    return _TOLD.match(name) is not None


def is_metadata_file(name: str) -> bool:
    """Whether a metadata file is called so in a folder."""
    return _FILE.match(name) is not None


def is_target_file(path: str) -> bool:
    """Whether a target may lie at ``path`` in a folder of targets."""
    return _TARGET.match(path) is not None


def config_of(name: str) -> str:
    """The agent whose configuration is called ``name`` on the wire; empty where it is none."""
    found = _CONFIG.match(name)
    return found[1] if found else ""


def config_name(agent: str) -> str:
    """What the configuration of ``agent`` is called on the wire."""
    return f"config.{agent}.toml"


def version_in(data: bytes) -> int:
    """The version that a metadata file says it is; nobody has checked its signatures.

    Raises:
        FrameError: it is larger than allowed, or no metadata.
    """
    if len(data) > METADATA_LIMIT:
        raise FrameError(f"metadata of {len(data)} bytes exceeds {METADATA_LIMIT}")
    try:
        version = msgspec.json.decode(data, type=_Head).signed.version
    except UNREADABLE as error:
        raise FrameError(f"metadata cannot be decoded: {error}") from error
    if not 1 <= version < 10**9:
        raise FrameError(f"metadata says that it is version {version}")
    return version


def file_name(told: str, version: int) -> str:
    """What the file ``told`` on the wire is called in a folder."""
    if told == "timestamp.json" or told.endswith(".root.json"):
        return told
    return f"{version}.{told}"
