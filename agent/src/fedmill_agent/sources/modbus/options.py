# SPDX-License-Identifier: Apache-2.0
"""What a configuration says of a Modbus TCP server."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fedmill_agent.fields.mqtt import Port
from fedmill_agent.sources.live import PolledOptions
from fedmill_agent.sources.modbus.declaration import Declared, Defaults, Register
from fedmill_agent.sources.modbus.registers import Range, declared, ranges


class ModbusOptions(PolledOptions, frozen=True, kw_only=True, tag="modbus"):
    """One Modbus TCP server: a device, or a gateway with several behind it."""

    host: Annotated[str, Meta(min_length=1, description="Its name or address.")] = "127.0.0.1"
    port: Port = 502
    device: Annotated[
        int,
        Meta(
            ge=0,
            le=255,
            description="Id of the device (unit, slave) whose registers do not name one.",
        ),
    ] = 1
    registers: Annotated[
        Declared,
        Meta(
            description='Tag -> register, as in "holding 100 float32 ABCD device 3", or a table '
            "of the fields that docs/sources.md lists; or a list of such tables, each with a "
            "`name`. Addresses count from 0, as on the wire; 40101 stands for holding 100."
        ),
    ] = msgspec.field(default_factory=dict)
    order: Annotated[
        Literal["ABCD", "DCBA", "BADC", "CDAB"],
        Meta(
            description="How four bytes come, A the most significant one, of registers that do "
            "not say it; eight bytes alike, two as the protocol says."
        ),
    ] = "ABCD"
    not_a_number: Annotated[
        dict[str, list[int]],
        Meta(
            description="Type -> values that stand for none, as in `int16 = [0x8000]` and "
            "`float32 = [0x7FC00000]`, beside those of a register."
        ),
    ] = msgspec.field(default_factory=dict)
    largest_gap: Annotated[
        int,
        Meta(
            ge=0,
            le=124,
            description="Registers between two wanted ones that are read along to save a "
            "question; of bits sixteen times as many.",
        ),
    ] = 16
    largest_read: Annotated[
        int,
        Meta(
            ge=4,
            le=125,
            description="Registers of one question; of bits sixteen times as many.",
        ),
    ] = 125
    timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.01,
            le=60.0,
            description="Time (s) that an answer may take; more than a gateway waits for its "
            "devices.",
        ),
    ] = 2.0
    device_retry_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Longest time (s) for which one silent device of several is not asked.",
        ),
    ] = 60.0
    register_retry_seconds: Annotated[
        float,
        Meta(ge=0.0, description="Longest time (s) for which a refused register is not asked."),
    ] = 300.0
    scan: Annotated[
        str,
        Meta(
            description="What `discover` tries beside the registers above, at most 2000 "
            'addresses, as in "holding 0-99, coil 0-15 device 3".'
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        _ = self.declared, self.ranges

    @property
    def defaults(self) -> Defaults:
        """What holds for registers that do not say it themselves."""
        return Defaults(self.device, self.order, self.not_a_number)

    @property
    def declared(self) -> dict[str, Register]:
        """Tag -> register.

        Raises:
            ValueError: one is wrong; never once the options are made.
        """
        return declared(self.registers, self.defaults, self.tag_rates)

    def told_rates(self, tags: Mapping[str, str]) -> Mapping[str, float]:
        """``rates``, and those of registers that are blocks."""
        found = self.declared
        blocks = {
            signal: found[tag].rate_hz
            for signal, tag in tags.items()
            if tag in found and found[tag].rate_hz
        }
        return {**blocks, **self.rates}

    @property
    def ranges(self) -> list[Range]:
        """What is searched for more.

        Raises:
            ValueError: one is wrong; never once the options are made.
        """
        return ranges(self.scan, self.device)
