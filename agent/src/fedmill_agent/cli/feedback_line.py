# SPDX-License-Identifier: Apache-2.0
"""What ``status`` says of the labels that a job's last layer was fitted to."""

from fedmill_agent import kept
from fedmill_agent.cli.meaning import utc
from fedmill_agent.places import job_folder
from fedmill_shared.errors import FedmillError


def feedback_lines(state: str, name: str) -> list[str]:
    """How the last fit of the job ``name`` did; no line where nothing was ever fitted."""
    from fedmill_agent.feedback.anchor import HEAD_FILE, HeadState  # noqa: PLC0415  few jobs need it

    try:
        head = kept.peek(job_folder(state, name) / HEAD_FILE, HeadState)
    except FedmillError as error:
        return [f"feedback unknown: {error}"]
    if head is None:
        return []
    told = f"{head.gained} told better, {head.lost} worse"
    use, when = "proposed" if head.used else "not used", utc(head.moment_ns)
    return [f"feedback: {head.method} on {head.labels} labels, {told}; {use}, {when}"]
