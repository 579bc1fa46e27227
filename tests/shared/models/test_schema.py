# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import pytest

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job, Mlp
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

    def test_foreign_metadata_is_refused(self) -> None:
        """A model of another tool, or a damaged entry, is named as such."""
        with pytest.raises(ModelError, match="no key 'fedmill'"):
            read_schema({"author": "someone"})
        with pytest.raises(ModelError, match="cannot be read"):
            read_schema({METADATA_KEY: '{"job": 3}'})
        with pytest.raises(ModelError, match="cannot be read"):
            read_schema({METADATA_KEY: "not json"})
