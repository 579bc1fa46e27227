# SPDX-License-Identifier: Apache-2.0
"""What ``status`` says of the certificate that the agent signs in with."""

from collections.abc import Iterator

from fedmill_agent.identity.term import IdentityTold
from fedmill_shared.crypto.validity import moment


def identity_lines(told: IdentityTold | None) -> Iterator[str]:
    """Until when it holds, when it is renewed, and what is wrong; nothing for a link in the clear.

    What is wrong comes with what to do.
    """
    if told is None:
        return
    if told.serial:
        renewed = f", renewed from {moment(told.renewal_ns)}" if told.renewal_ns else ""
        yield f"certificate {told.serial} until {moment(told.not_after_ns)}{renewed}"
    if told.problem:
        yield f"{told.problem}: {told.remedy}" if told.remedy else told.problem
