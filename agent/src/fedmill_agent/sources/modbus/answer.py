# SPDX-License-Identifier: Apache-2.0
"""What comes back for a question, and what the codes of a refusal mean."""

from dataclasses import dataclass

_SILENT, _GARBLED = -1, -2


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a device, or what came instead.

    Attributes:
        data: registers, two bytes each, high byte first; or bits, the lowest bit of a byte first.
        code: 0, or the exception code of the device (1 to 255), or one of the two below.
    """

    data: bytes = b""
    code: int = 0

    @property
    def good(self) -> bool:
        """Whether there is data."""
        return self.code == 0

    @property
    def refused(self) -> bool:
        """Whether the device does not know what was asked; asking for less may help."""
        return self.code in {1, 2, 3, 4}

    @property
    def failed(self) -> bool:
        """Whether the device says that it failed: it may not have the address, or be unwell."""
        return self.code == 4

    @property
    def silent(self) -> bool:
        """Whether the device does not answer, or a gateway says so of it."""
        return self.code in {_SILENT, 0x0A, 0x0B}

    @property
    def reason(self) -> str:
        """In words, as the end of "device 3 ..."."""
        told = f"answered with exception {self.code}" if self.code > 0 else ""
        return _REASONS.get(self.code, told)


SILENT = Answer(code=_SILENT)
"""Nothing came in time."""
GARBLED = Answer(code=_GARBLED)
"""Something came that is no answer to the question."""

_REASONS = {
    _SILENT: "does not answer in time: see that it is on and that its id is right, and give "
    "`timeout_seconds` more than a gateway waits for it",
    _GARBLED: "answers what makes no sense: see that it speaks Modbus TCP, and that every device "
    "has an id of its own",
    1: "does not know this kind of register (exception 1, illegal function): try another kind",
    2: "has no such address (exception 2, illegal data address): addresses count from 0 here; "
    "where a manual counts from 1, take one off or write it as a reference such as 40101",
    3: "refuses the length (exception 3, illegal data value): lower `largest_read`",
    4: "failed to read it (exception 4, device failure): see its own diagnosis",
    5: "has not finished yet (exception 5, acknowledge)",
    6: "is busy (exception 6): ask more rarely",
    8: "found an error in its memory (exception 8, parity)",
    10: "cannot be reached by the gateway (exception 10, path unavailable): see its routes",
    11: "does not answer the gateway (exception 11): see that it is on and that its id is right",
}
