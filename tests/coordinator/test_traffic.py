# SPDX-License-Identifier: Apache-2.0
"""Bytes on the wire."""

from fedmill_coordinator.traffic import Traffic


class TestTraffic:
    """Counted by job and direction."""

    def test_topic_and_payload_count_for_every_receiver(self) -> None:
        """Up once, down as often as it is received."""
        traffic = Traffic()
        traffic.up("rig", "abc", b"12345")
        traffic.up("rig", "abc", b"")
        traffic.down("rig", "ab", b"123", 4)
        traffic.down("rig", "ab", b"123", 0)
        assert traffic.so_far("rig") == (11, 20)

    def test_jobs_are_apart(self) -> None:
        """What one job costs is not another's."""
        traffic = Traffic()
        traffic.up("rig", "a", b"b")
        assert traffic.so_far("press") == (0, 0)
        traffic.clear("press")
        assert traffic.so_far("rig") == (2, 0)

    def test_looking_does_not_clear(self) -> None:
        """Only ``clear`` begins anew."""
        traffic = Traffic()
        traffic.down("rig", "a", b"b", 1)
        assert traffic.so_far("rig") == traffic.so_far("rig") == (0, 2)
        traffic.clear("rig")
        assert traffic.so_far("rig") == (0, 0)
