# SPDX-License-Identifier: Apache-2.0
"""The training process signs: the daemon has no room for cryptography."""

from pathlib import Path

from msgspec import structs

from fedmill_agent.training import protocol
from fedmill_agent.training.offering import label_of, offer_of
from fedmill_shared.crypto.keys import read_key
from fedmill_shared.crypto.origin import sign_origin
from fedmill_shared.errors import IdentityError


def signed(
    trained: protocol.Trained, task: protocol.Train, job: str, *, made_ns: int
) -> protocol.Trained:
    """``trained`` with its label of origin and the signature under it, where ``task`` names a key.

    With the label alone where that cannot be read: what was learned is not lost, and signed later.
    """
    if not task.identity:
        return trained
    offer = offer_of(task, trained, job)
    statement = label_of(offer, agent=task.agent, schema=task.schema, made_ns=made_ns)
    try:
        key, signature = sign_origin(read_key(Path(task.identity)), statement)
    except IdentityError:  # told when it is asked for again
        return structs.replace(trained, origin=statement)
    return structs.replace(trained, key=key, origin=statement, signature=signature)


def sign(task: protocol.Sign) -> protocol.Signed:
    """What ``task`` asks for; the key is read each time, since another may have been issued.

    Raises:
        IdentityError: it cannot be read.
    """
    key, signature = sign_origin(read_key(Path(task.identity)), task.origin)
    return protocol.Signed(
        number=task.number,
        sha256=task.sha256,
        key=key,
        origin=task.origin,
        signature=signature,
    )
