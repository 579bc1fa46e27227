# SPDX-License-Identifier: Apache-2.0
"""Which model scores: the version that serves, with the agent's own parts, or what was chosen.

What cannot be used is told once and never ends the scoring: the version as it came takes its place.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from fedmill_agent import home, kept
from fedmill_agent.inference.assembly import CANARY_TOLERANCE, Checked
from fedmill_agent.inference.served import GLOBAL, MODEL, SERVED_FILE, ServedState
from fedmill_shared.errors import DataError, FedmillError, ModelError
from fedmill_shared.job import Job
from fedmill_shared.learning.home import personalised
from fedmill_shared.log import Logger
from fedmill_shared.models.manifest import version_of
from fedmill_shared.models.sharing import personal_roles
from fedmill_shared.onnx_session import OnnxSession, check_canary
from fedmill_shared.tensors import unpack_tensor


@dataclass(frozen=True, slots=True)
class Scoring:
    """A session that scores, and the digest of the weights in it."""

    version: str
    session: OnnxSession


class Faster(Protocol):
    """May have a faster session of the same weights (elements,), which ``version`` names."""

    def offer(self, version: str, vector: NDArray[np.float32], plain: OnnxSession) -> None:
        """These weights may score soon; ``plain`` is how they do without. On any thread."""

    def taken(self, version: str) -> OnnxSession | None:
        """The session that takes the place of the plain one; None where that stays.

        On any thread.
        """


class Serving:
    """Owns the choice of one job, and the session that was chosen.

    Attributes:
        choice: the choice in force, without its weights; None where there is none.
        faster: what may have faster sessions; None where nobody wants any.
        newest: number of the version that is followed, which choices are made at.
    """

    def __init__(self, folder: Path, job: Job, log: Logger) -> None:
        """``folder`` is the job's; nothing is read before the first version."""
        self._job = job
        self._log = log
        self._home = folder / home.HOME_FILE
        self._file = folder / SERVED_FILE
        self._chosen: Scoring | None = None
        self._layout = ""
        self.choice: ServedState | None = None
        self.faster: Faster | None = None
        self.newest = 0

    def changed(self) -> None:
        """There is another choice on disk: it counts from the next ``scoring`` on."""
        self._layout = ""

    def scoring(self, version: Checked) -> Scoring:
        """What scores where ``version`` serves; the same session as long as it may.

        It may take a session's time, and be called on any thread, but not on two at once.
        """
        if self._layout != version.manifest.digest:
            self._take(version)
        if self.choice is not None and self.choice.number > max(version.number, self.newest):
            self.choice = self._chosen = None  # the federation went back to before it
        found = self._chosen or self._personal(version)
        faster = self.faster.taken(found.version) if self.faster is not None else None
        return found if faster is None else replace(found, session=faster)

    def _take(self, version: Checked) -> None:
        """Read the choice from disk, and make its session."""
        self._layout = version.manifest.digest
        self.choice, self._chosen = self._found(version)

    def _found(self, version: Checked) -> tuple[ServedState | None, Scoring | None]:
        """The choice on disk, without its weights; its session where it is not the common one."""
        if self._job.serving.candidates != "best":
            return None, None
        try:
            state = kept.look(self._file, ServedState, version.manifest.digest)
            if state is None:
                return None, None
            chosen = self._bound(version, state) if state.candidate != GLOBAL else None
        except FedmillError as error:
            self._log.error("served.refused", error=str(error))
            return None, None
        return structs.replace(state, vectors={}, outputs=b""), chosen

    def _personal(self, version: Checked) -> Scoring:
        """The version with the agent's own parts in it."""
        plain = self._scoring(version.version, version.vector, version.session)
        if not personal_roles(self._job):
            return plain
        mine = home.current(self._home, version.manifest, self._job)
        try:
            vector = personalised(version.manifest, self._job, version.vector, mine)
            if vector is version.vector:
                return plain
            session = OnnxSession.from_template(version.template, vector)
            if not np.isfinite(session.run(version.inputs)).all():
                raise ModelError("with this agent's own parts the model gives no numbers")
        except FedmillError as error:
            self._log.error("served.refused", error=str(error))
            return plain
        return self._scoring(version_of(vector), vector, session)

    def _bound(self, version: Checked, state: ServedState) -> Scoring:
        vector = state.vector(MODEL)
        if vector is None:
            raise DataError(f"the {state.candidate} model is not in its file")
        session = OnnxSession.from_template(version.template, vector)
        check_canary(session, version.inputs, unpack_tensor(state.outputs), CANARY_TOLERANCE)
        return self._scoring(version_of(vector), vector, session)

    def _scoring(self, version: str, vector: NDArray[np.float32], session: OnnxSession) -> Scoring:
        if self.faster is not None:
            self.faster.offer(version, vector, session)
        return Scoring(version, session)
