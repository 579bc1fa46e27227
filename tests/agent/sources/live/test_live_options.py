# SPDX-License-Identifier: Apache-2.0
"""What all live sources say of rates and silence."""

import pytest

from fedmill_agent.sources.base import lacking
from fedmill_agent.sources.live import LiveOptions, PolledOptions
from fedmill_agent.sources.opcua.options import OpcuaOptions


def test_rates_of_signals_are_those_of_their_tags() -> None:
    """A signal without a tag of its own has its name as one; other signals have no rate."""
    tags = {"vibration": "ns=2;s=Waves", "force": "F"}
    own = LiveOptions(name="a", tags=tags, rates={"vibration": 12_000.0, "sound": 48_000.0})
    assert own.tag_rates == {"ns=2;s=Waves": 12_000.0, "sound": 48_000.0}


@pytest.mark.parametrize("kind", [PolledOptions, OpcuaOptions])
class TestSilence:
    @pytest.mark.parametrize("silence", [1.0, 30.0])
    def test_no_longer_than_the_interval_is_refused(
        self, kind: type[PolledOptions | OpcuaOptions], silence: float
    ) -> None:
        """Such a source would be connected to again and again, and never bring anything."""
        with pytest.raises(ValueError, match=f"`silence_seconds` {silence:g} is not more than"):
            kind(name="a", interval_seconds=30.0, silence_seconds=silence)

    @pytest.mark.parametrize("silence", [0.0, 30.1])
    def test_longer_ones_and_none_are_fine(
        self, kind: type[PolledOptions | OpcuaOptions], silence: float
    ) -> None:
        """0 means never."""
        own = kind(name="a", interval_seconds=30.0, silence_seconds=silence)
        assert own.silence_seconds == silence


@pytest.mark.parametrize(
    ("module", "told"),
    [("asyncua.ua", "the package asyncua,"), (None, "the package opcua,")],
)
def test_a_missing_package_is_named_with_its_extra(module: str | None, told: str) -> None:
    """Also where Python does not say which it is."""
    error = lacking(LiveOptions(name="press"), "opcua", ImportError("no such thing", name=module))
    assert error.message.startswith(f"source 'press' needs {told}")
    assert error.message.endswith("no such thing")
    assert error.remedy == "pip install fedmill-agent[opcua]"
