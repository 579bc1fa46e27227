# SPDX-License-Identifier: Apache-2.0
"""Units and their conversion."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedmill_shared.errors import SchemaError
from fedmill_shared.signals import units
from fedmill_shared.signals.spoken import SPOKEN
from fedmill_shared.signals.units import UNITS, affine, canonical, convertible

PAIRS = [(source, target) for source in UNITS for target in [source, *convertible(source)]]

# value, source, value in target, target: from the definitions, worked by hand or in NIST SP 811
KNOWN = [
    (100.0, "degC", 212.0, "degF"),
    (0.0, "degC", 273.15, "K"),
    (-40.0, "degF", -40.0, "degC"),
    (491.67, "degR", 0.0, "degC"),
    (518.67, "degR", 59.0, "degF"),
    (50.0, "%", 0.5, "1"),
    (1.0, "%", 10_000.0, "ppm"),
    (1.0, "g", 9.80665, "m/s2"),
    (1.0, "in/s", 25.4, "mm/s"),
    (1.0, "mil", 25.4, "um"),
    (35.0, "kft", 10_668.0, "m"),
    (1.0, "psi", 6894.757293168361, "Pa"),
    (14.695948775513449, "psia", 1013.25, "mbar"),
    (1.0, "bar", 0.1, "MPa"),
    (3000.0, "rpm", 50.0, "Hz"),
    (1.0, "Hz", 2 * math.pi, "rad/s"),
    (180.0, "deg", math.pi, "rad"),
    (1.0, "hp", 745.6998715822702, "W"),
    (1.0, "kWh", 3.6, "MJ"),
    (1.0, "lb", 0.45359237, "kg"),
    (1.0, "lb/s", 1632.932532, "kg/h"),
    (3.6, "t/h", 1.0, "kg/s"),
    (60.0, "l/min", 3.6, "m3/h"),
    (36.0, "km/h", 10.0, "m/s"),
    (1.0, "kscmh", 1000.0, "scmh"),
    (1.0, "lbf", 4.4482216152605, "N"),
    (1.0, "d", 1440.0, "min"),
    (2.5, "mol%", 0.025, "mol/mol"),
]


def converted(values: Any, source: str, target: str) -> Any:
    """``values`` as the agent converts them."""
    factor, offset = affine(source, target)
    return factor * values + offset


class TestKnownValues:
    """Literal values from the definitions."""

    @pytest.mark.parametrize(("value", "source", "expected", "target"), KNOWN)
    def test_value(self, value: float, source: str, expected: float, target: str) -> None:
        """Conversion meets the definition within 1e-12, both ways."""
        there = converted(value, source, target)
        back = converted(expected, target, source)
        assert math.isclose(there, expected, rel_tol=1e-12, abs_tol=1e-12)
        assert math.isclose(back, value, rel_tol=1e-12, abs_tol=2e-12)

    def test_boiling_water(self) -> None:
        """Factor and offset of degC to degF are the exact ones, not sums of rounded ones."""
        assert affine("degC", "degF") == (1.8, 32.0)


class TestTable:
    """The table itself."""

    def test_every_dimension_has_a_base_unit(self) -> None:
        """Each dimension has a unit with factor 1, or one whose base is another's business."""
        odd = {unit.dimension for unit in UNITS.values()} - {
            unit.dimension for unit in UNITS.values() if unit.factor == Fraction(1)
        }
        assert odd == {"gauge pressure"}  # counted in Pa like absolute pressure

    def test_factors_are_positive(self) -> None:
        """No unit runs backwards."""
        assert all(unit.factor > 0 for unit in UNITS.values())

    def test_aliases_lead_to_units(self) -> None:
        """Every alias stands for a unit and shadows none."""
        assert set(units._ALIASES.values()) <= set(UNITS)
        assert not set(units._ALIASES) & set(UNITS)

    @pytest.mark.parametrize(("alias", "symbol"), [("°C", "degC"), ("m/s²", "m/s2"), ("", "1")])
    def test_alias(self, alias: str, symbol: str) -> None:
        """Other spellings mean the canonical unit."""
        assert canonical(alias) == symbol
        assert affine(alias, symbol) == (1.0, 0.0)


class TestConvert:
    """Arrays of values."""

    @given(
        pair=st.sampled_from(PAIRS),
        values=arrays.arrays(np.float64, (2, 3), elements=st.floats(-1e6, 1e6)),
    )
    def test_round_trip(self, pair: tuple[str, str], values: np.ndarray) -> None:
        """There and back gives the same values, up to rounding beside the offset."""
        source, target = pair
        back = converted(converted(values, source, target), target, source)
        shift = abs(affine(target, source)[1])
        np.testing.assert_allclose(back, values, rtol=1e-12, atol=1e-12 * (1 + shift))

    @given(pair=st.sampled_from(PAIRS), third=st.data())
    def test_detour(self, pair: tuple[str, str], third: st.DataObject) -> None:
        """Through a third unit is the same as directly."""
        source, target = pair
        other = third.draw(st.sampled_from([source, *convertible(source)]))
        values = np.array([-3.0, 0.0, 20.0])
        detour = converted(converted(values, source, other), other, target)
        direct = converted(values, source, target)
        scale = abs(affine(other, target)[0]) * 1000 + 1000
        np.testing.assert_allclose(detour, direct, rtol=1e-12, atol=1e-12 * scale)

    def test_same_unit_changes_nothing(self) -> None:
        """Exactly, so that values pass as they are."""
        assert affine("g", "g") == (1.0, 0.0)

    def test_missing_values_stay_missing(self) -> None:
        """NaN passes through."""
        assert np.isnan(converted(np.array([np.nan]), "degC", "K")).all()


class TestRefused:
    """Units that do not fit."""

    def test_other_dimension(self) -> None:
        """Both units and the ones that would do are named."""
        with pytest.raises(SchemaError) as caught:
            converted(np.zeros(1), "degC", "rpm")
        assert str(caught.value) == (
            'unit "degC" (temperature) does not convert to "rpm" (frequency) '
            "(rpm converts from Hz, kHz, rad/s)"
        )

    @pytest.mark.parametrize(
        ("source", "target"),
        [("barg", "bar"), ("psig", "psia"), ("scmh", "m3/h"), ("kWh", "kvarh"), ("Nm", "J")],
    )
    def test_lookalikes(self, source: str, target: str) -> None:
        """Quantities that only look alike do not convert."""
        with pytest.raises(SchemaError, match="does not convert"):
            affine(source, target)

    def test_alone_in_its_dimension(self) -> None:
        """A unit without relatives says so."""
        with pytest.raises(SchemaError, match="cycle converts from nothing else"):
            affine("h", "cycle")

    @pytest.mark.parametrize(("typo", "near"), [("Degc", "degC"), ("RPM", "rpm"), ("m/ss", "m/s")])
    def test_unknown_names_the_nearest(self, typo: str, near: str) -> None:
        """A typo is met with the unit that was probably meant."""
        with pytest.raises(SchemaError) as caught:
            canonical(typo)
        assert caught.value.message == f'unit "{typo}" is unknown'
        assert caught.value.remedy.startswith(f"did you mean {near}? ")

    @given(symbol=st.text(max_size=8))
    def test_any_text(self, symbol: str) -> None:
        """Any text is a unit or a SchemaError."""
        try:
            right = canonical(symbol) in UNITS
        except SchemaError as error:
            right = error.remedy != ""
        assert right


class TestMistakes:
    """What somebody may write who does not know the symbols."""

    @pytest.mark.parametrize(
        ("written", "proposed"),
        [
            ("celsius", "degC"),
            ("C", "degC"),
            ("inchs", "in"),
            ("inches", "in"),
            ("percent", "%"),
            ("RPM", "rpm"),
            ("U/min", "rpm"),
            ("kN/m²", "kPa"),
            ("Mpa", "MPa"),
            ("bar(g)", "barg"),
        ],
    )
    def test_the_symbol_is_proposed(self, written: str, proposed: str) -> None:
        """And not taken for it: a configuration says one thing only."""
        with pytest.raises(SchemaError) as told:
            canonical(written)
        assert told.value.remedy.startswith(f"did you mean {proposed}? ")

    def test_every_proposal_is_a_unit(self) -> None:
        """Written as one, and in lower case where it is looked up."""
        assert set(SPOKEN.values()) <= set(UNITS)
        assert all(word == word.lower() and word not in UNITS for word in SPOKEN)

    def test_what_is_like_nothing(self) -> None:
        """Gets no proposal."""
        with pytest.raises(SchemaError) as told:
            canonical("furlongs per fortnight")
        assert told.value.remedy.startswith("docs/job-reference.md")
