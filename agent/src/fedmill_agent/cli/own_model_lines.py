# SPDX-License-Identifier: Apache-2.0
"""What ``status`` says of a model that the agent has made itself, and how it fares at the gates."""

from fedmill_agent.cli.meaning import utc
from fedmill_agent.inference.installing.states import SlotsFile
from fedmill_agent.places import job_folder, versions_folder
from fedmill_shared.errors import FedmillError
from fedmill_shared.job_check import job_from_canonical

SHORT = 12
"""Characters of a version that tell it from others."""


def own_model_lines(state: str, name: str) -> list[str]:
    """The last thing that came to the gates of job ``name``, if it is of this agent.

    The coordinator hears of its own versions only, so this is where the others are told.
    """
    try:
        job = job_from_canonical((job_folder(state, name) / "job.json").read_bytes())
        slots = SlotsFile(versions_folder(state, job)).peek()
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"own model unknown: {error.filename}: {error.strerror}"]
    except FedmillError as error:
        return [f"own model unknown: {error}"]
    new = slots.new if slots is not None else None
    if new is None or not new.local:
        return []
    how = new.state.replace("_", " ")
    version = new.notice.version[:SHORT]
    lines = [f"own model {version} ({new.origin}): {how}, {utc(new.since_ns)}"]
    return [*lines, f"gate {new.gate}: {new.reason}"] if new.gate else lines
