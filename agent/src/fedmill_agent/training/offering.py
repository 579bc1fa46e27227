# SPDX-License-Identifier: Apache-2.0
"""What a training offers the coordinator: said once, where it is signed and where it is sent.

No torch here, and no cryptography.
"""

from fedmill_agent.training import protocol
from fedmill_shared import __version__
from fedmill_shared.files import sha256
from fedmill_shared.messages import UpdateOffer
from fedmill_shared.messages.origin import label


def offer_of(task: protocol.Train, trained: protocol.Trained, job: str) -> UpdateOffer:
    """The offer of what ``task`` of the job called ``job`` came to."""
    return UpdateOffer(
        job=job,
        round=task.round,
        base=task.base,
        sha256=sha256(trained.frame),
        size=len(trained.frame),
        examples=trained.examples,
        loss=trained.loss,
        seconds=trained.seconds,
        steps=trained.steps,
        shift=trained.shift,
        key=trained.key,
        origin=trained.origin,
        signature=trained.signature,
    )


def label_of(offer: UpdateOffer, *, agent: str, schema: str, made_ns: int) -> bytes:
    """The label of origin that ``agent``, with this software, has to sign for ``offer``."""
    return label(offer, agent=agent, schema=schema, software=__version__, made_ns=made_ns)
