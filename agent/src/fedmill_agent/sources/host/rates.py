# SPDX-License-Identifier: Apache-2.0
"""From counters of a machine to what went by between two polls."""

from dataclasses import dataclass, field

from fedmill_agent.sources.host.look import Count

_WRAP = float(1 << 32)
_RISE = 4.0
"""A 32-bit counter that went back began again at 0 if this many times the last speed explains it;
else it was reset, and how far it went is not known."""
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class _Seen:
    count: Count
    at: float
    speed: float = 0.0


@dataclass(slots=True)
class Rates:
    """Owns the last counters of every tag."""

    _seen: dict[str, _Seen] = field(default_factory=dict)

    def speed(self, tag: str, count: Count, at: float) -> float | None:
        """How much of ``count`` went by each second since the last call.

        None if this is the first call or no time went by; NaN if the counter was reset.

        Args:
            tag: whose counter it is.
            count: where it is now.
            at: now, s on a clock that never goes back.
        """
        before = self._seen.get(tag)
        if before is not None and at <= before.at:
            return None
        if before is None:
            self._seen[tag] = _Seen(count, at)
            return None
        step, seconds = count.amount - before.count.amount, at - before.at
        if step < 0:
            wrapped = step + _WRAP
            explained = 0 <= wrapped <= _RISE * before.speed * seconds
            step = wrapped if explained else _NAN
        speed = step / seconds
        self._seen[tag] = _Seen(count, at, speed if step >= 0 else before.speed)
        return speed

    def share(self, tag: str, count: Count) -> float | None:
        """Percentage of the whole of ``count`` that its amount was since the last call.

        None if this is the first call or the whole stood still; NaN if it was reset.
        """
        whole = count.whole or 0.0
        before = self._seen.get(tag)
        if before is not None and whole == before.at:
            return None
        self._seen[tag] = _Seen(count, whole)
        if before is None:
            return None
        if whole < before.at:
            return _NAN
        # the kernel's times of waiting and idling may go back a little (proc(5))
        step = count.amount - before.count.amount
        return min(max(100.0 * step / (whole - before.at), 0.0), 100.0)

    def forget(self, tag: str) -> None:
        """The part that ``tag`` means is gone: another one may come under its name."""
        self._seen.pop(tag, None)
