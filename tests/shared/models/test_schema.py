# SPDX-License-Identifier: Apache-2.0
import re
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Cleaning, Features, Job, Mlp, Window
from fedmill_shared.models import build, manifest_of
from fedmill_shared.models.schema import METADATA_KEY, encode_schema, read_schema, schema_of


class TestSchema:
    def test_round_trip(self, make_job: Callable[..., Job]) -> None:
        """A runner reads back what the exporter wrote."""
        job = make_job(Mlp())
        manifest = manifest_of(build(job, 0))
        schema = schema_of(job, manifest)
        assert read_schema({METADATA_KEY: encode_schema(schema)}) == schema
        assert [(s.name, s.unit, s.role) for s in schema.signals][1] == ("speed", "rpm", "regime")
        assert schema.classes == ("good", "burr", "crack")
        assert (schema.manifest, schema.elements) == (manifest.digest, manifest.size)

    def test_later_fields(self, make_job: Callable[..., Job]) -> None:
        """A job that needs nothing new is exported as it always was; what it says is kept."""
        job = make_job(Mlp())
        manifest = manifest_of(build(job, 0))
        text = encode_schema(schema_of(job, manifest))
        assert not {"cleaning", "features", "range", "flat_seconds"} & {*text.split('"')}
        ranged = structs.replace(job.signals[0], range=[0.0, 9.0])
        strict = structs.replace(
            job,
            signals=[ranged, *job.signals[1:]],
            cleaning=Cleaning(missing="drop"),
            features=Features(steps=["time_statistics"]),
        )
        schema = schema_of(strict, manifest)
        assert read_schema({METADATA_KEY: encode_schema(schema)}) == schema
        assert (schema.signals[0].range, schema.cleaning.missing) == ([0.0, 9.0], "drop")
        assert schema.features.steps == ["time_statistics"]

    def test_foreign_metadata_is_refused(self) -> None:
        """A model of another tool, or a damaged entry, is named as such."""
        with pytest.raises(ModelError, match="no key 'fedmill'"):
            read_schema({"author": "someone"})
        with pytest.raises(ModelError, match="cannot be read"):
            read_schema({METADATA_KEY: '{"job": 3}'})
        with pytest.raises(ModelError, match="cannot be read"):
            read_schema({METADATA_KEY: "not json"})

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"signals": ()}, "names no signals"),
            ({"window": Window(order="spindle")}, 'window.order is "spindle"'),
            ({"window": Window(trigger="ram")}, 'window.trigger is "ram"'),
            (
                {"window": Window(length=4), "features": Features(steps=["log_spectrum"])},
                "features.bands is 16",
            ),
        ],
    )
    def test_what_cannot_be_followed_is_refused(
        self, make_job: Callable[..., Job], changes: dict[str, Any], message: str
    ) -> None:
        """A schema that was changed by hand ends in a sentence, not amid a recording."""
        job = make_job(Mlp())
        schema = structs.replace(schema_of(job, manifest_of(build(job, 0))), **changes)
        with pytest.raises(ModelError, match=re.escape(message)):
            read_schema({METADATA_KEY: encode_schema(schema)})
