# SPDX-License-Identifier: Apache-2.0
"""What protocol 2 has told since certificates: enrolment and renewal.

The files in ``wire_v2j`` were written once, with ``python -m tests.contract.test_wire_v2j``, and
are never written again.
"""

from tests.contract.recording import HERE, Folder, record
from tests.contract.states import Recorded

from fedmill_shared.messages import (
    EnrolmentAnswer,
    EnrolmentRequest,
    RenewalAnswer,
    RenewalRequest,
)

CSR = b"-----BEGIN CERTIFICATE REQUEST-----\nMIGb\n-----END CERTIFICATE REQUEST-----\n"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
FOLDER = Folder(
    HERE / "wire_v2j",
    {
        "enrol-up": EnrolmentRequest(agent="gw7", csr=CSR, proof=bytes(range(64)), software="0.7"),
        "enrol-down": EnrolmentAnswer(
            state="issued",
            certificate=CERTIFICATE,
            ca=CERTIFICATE,
            reason="the code was good",
            retry_after=1.5,
            sent_ns=1_700_000_000_000_000_000,
        ),
        "up-renew": RenewalRequest(csr=CSR, key="0123456789abcdef", signature=bytes(range(64))),
        "down-certificate": RenewalAnswer(
            state="pending",
            certificate=CERTIFICATE,
            ca=CERTIFICATE,
            reason="it is too early",
            retry_after=3600.0,
            sent_ns=1_700_000_000_000_000_000,
        ),
    },
)


class TestIdentity(Recorded):
    """Of this recording."""

    folder = FOLDER

    def test_every_kind_is_recorded(self) -> None:
        """Nothing that enrols or renews is left to chance."""
        assert FOLDER.kinds() == set(FOLDER.messages)


if __name__ == "__main__":
    record(FOLDER.path, FOLDER.wire())
