# SPDX-License-Identifier: Apache-2.0
"""How often a damaged spot of a rolling-element bearing is hit.

R. B. Randall, J. Antoni, Rolling element bearing diagnostics - a tutorial, Mech. Syst. Signal
Process. 25 (2011) 485-520, equations 1-4: outer race fixed, inner race turning with the shaft.
"""

from dataclasses import dataclass
from math import cos, radians
from typing import Literal

Fault = Literal["normal", "outer", "inner", "ball"]


@dataclass(frozen=True, slots=True)
class Bearing:
    """Geometry; frequencies are orders, that is events per revolution of the shaft.

    Attributes:
        balls: number of rolling elements.
        ball_mm: their diameter, mm.
        pitch_mm: pitch diameter, mm.
        contact_degrees: contact angle, degrees.
    """

    balls: int = 9
    ball_mm: float = 7.94
    pitch_mm: float = 39.04
    contact_degrees: float = 0.0

    @property
    def cage(self) -> float:
        """FTF: turns of the cage."""
        return 0.5 * (1.0 - self._ratio)

    @property
    def outer(self) -> float:
        """BPFO: balls passing a spot of the outer race."""
        return self.balls * self.cage

    @property
    def inner(self) -> float:
        """BPFI: balls passing a spot of the inner race."""
        return 0.5 * self.balls * (1.0 + self._ratio)

    @property
    def spin(self) -> float:
        """BSF: turns of a ball about itself; its damage hits a race twice in each."""
        return 0.5 * self.pitch_mm / self.ball_mm * (1.0 - self._ratio**2)

    def impacts(self, fault: Fault) -> float:
        """Impacts per revolution of the shaft; 0 for a healthy bearing."""
        return {"normal": 0.0, "outer": self.outer, "inner": self.inner, "ball": 2.0 * self.spin}[
            fault
        ]

    @property
    def _ratio(self) -> float:
        return self.ball_mm / self.pitch_mm * cos(radians(self.contact_degrees))


BEARING_6205 = Bearing()
