# SPDX-License-Identifier: Apache-2.0
from typing import get_args, get_type_hints

import numpy as np
import pytest

from fedmill_shared.codec import CODECS, by_number
from fedmill_shared.codec.base import Codec
from fedmill_shared.errors import FrameError
from fedmill_shared.job import Compression


class TestCodecs:
    def test_numbers_on_the_wire_are_fixed(self) -> None:
        """Names and numbers are part of the protocol."""
        assert {name: codec.number for name, codec in CODECS.items()} == {"fp32": 0, "int8": 2}

    @pytest.mark.parametrize("field", ["uplink", "downlink"])
    def test_the_job_file_offers_exactly_these(self, field: str) -> None:
        """Every codec that a job may name exists, and every codec can be named."""
        assert set(get_args(get_type_hints(Compression)[field])) == set(CODECS)

    def test_by_number_finds_each(self) -> None:
        """A frame's byte leads back to its codec."""
        assert all(by_number(codec.number) is codec for codec in CODECS.values())

    def test_unknown_number(self) -> None:
        """A number of a newer version is a FrameError with a remedy."""
        with pytest.raises(FrameError, match=r"77 is unknown .*one version"):
            by_number(77)

    @pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
    def test_lossless_is_a_promise(self, codec: Codec) -> None:
        """A codec decodes to the same bits if and only if it says so."""
        vector = np.random.default_rng(0).normal(size=999).astype(np.float32)
        decoded = codec.decode(codec.encode(vector, np.random.default_rng(1), 0), 999, 0)
        assert np.array_equal(decoded, vector) == codec.lossless

    @pytest.mark.parametrize("elements", [0, 1, 4096, 5000])
    @pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
    def test_bound_holds(self, codec: Codec, elements: int) -> None:
        """No encoding needs more bytes than the codec's bound."""
        vector = np.random.default_rng(0).normal(size=elements).astype(np.float32)
        sections = codec.encode(vector, np.random.default_rng(1), 0)
        assert sum(len(section.data) for section in sections) <= codec.bound(elements)
