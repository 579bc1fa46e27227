# SPDX-License-Identifier: Apache-2.0
"""Sparkplug payloads by Google's own implementation of Protocol Buffers.

The schema is built here from the tables of the specification (6.4.1), so that nothing of ours
stands between a value and its bytes.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}
_SCALARS = [
    ("uint32", "int_value"),
    ("uint64", "long_value"),
    ("float", "float_value"),
    ("double", "double_value"),
    ("bool", "boolean_value"),
    ("string", "string_value"),
]
# message -> (fields before the value, fields of the value); * is repeated
_SCHEMA: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "Payload": (
        [("uint64", "timestamp"), ("*Metric", "metrics"), ("uint64", "seq"), ("string", "uuid"),
         ("bytes", "body")],
        [],
    ),
    "Metric": (
        [("string", "name"), ("uint64", "alias"), ("uint64", "timestamp"), ("uint32", "datatype"),
         ("bool", "is_historical"), ("bool", "is_transient"), ("bool", "is_null"),
         ("MetaData", "metadata"), ("PropertySet", "properties")],
        [*_SCALARS, ("bytes", "bytes_value"), ("DataSet", "dataset_value"),
         ("Template", "template_value")],
    ),
    "PropertySet": ([("*string", "keys"), ("*PropertyValue", "values")], []),
    "PropertySetList": ([("*PropertySet", "propertyset")], []),
    "PropertyValue": (
        [("uint32", "type"), ("bool", "is_null")],
        [*_SCALARS, ("PropertySet", "propertyset_value"),
         ("PropertySetList", "propertysets_value")],
    ),
    "MetaData": (
        [("bool", "is_multi_part"), ("string", "content_type"), ("uint64", "size"),
         ("uint64", "seq"), ("string", "file_name"), ("string", "file_type"), ("string", "md5"),
         ("string", "description")],
        [],
    ),
    "DataSet": (
        [("uint64", "num_of_columns"), ("*string", "columns"), ("*uint32", "types"),
         ("*Row", "rows")],
        [],
    ),
    "Row": ([("*DataSetValue", "elements")], []),
    "DataSetValue": ([], list(_SCALARS)),
    "Template": (
        [("string", "version"), ("*Metric", "metrics"), ("*string", "parameters"),
         ("string", "template_ref"), ("bool", "is_definition")],
        [],
    ),
}  # fmt: skip


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/sparkplug.proto", package="tests.sparkplug", syntax="proto2"
    )
    for name, (plain, choice) in _SCHEMA.items():
        message = file.message_type.add(name=name)
        if choice:
            message.oneof_decl.add(name="value")
        for number, (kind, field) in enumerate([*plain, *choice], start=1):
            repeated = kind.startswith("*")
            bare = kind.removeprefix("*")
            made = message.field.add(
                name=field,
                number=number,
                label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL,
            )
            if bare in _TYPES:
                made.type = _TYPES[bare]
            else:
                made.type, made.type_name = _Field.TYPE_MESSAGE, f".tests.sparkplug.{bare}"
            if number > len(plain):
                made.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = {name: pool.FindMessageTypeByName(f"tests.sparkplug.{name}") for name in _SCHEMA}
    return {name: message_factory.GetMessageClass(found) for name, found in names.items()}


_MADE = _classes()
PayloadMessage, MetricMessage, PropertySetMessage = (
    _MADE[name] for name in ("Payload", "Metric", "PropertySet")
)


def written(metrics: list[dict[str, Any]], **fields: Any) -> bytes:
    """A payload of metrics, each a table of fields; ``properties`` is one of (type, field, value).

    Fields are those of the schema; None leaves one out.
    """
    payload = PayloadMessage(**{name: value for name, value in fields.items() if value is not None})
    for told in metrics:
        properties = told.get("properties", {})
        known = {
            name: value
            for name, value in told.items()
            if value is not None and name != "properties"
        }
        metric = payload.metrics.add(**known)
        for key, (kind, field, value) in properties.items():
            metric.properties.keys.append(key)
            metric.properties.values.add(type=kind, **{field: value})
    data: bytes = payload.SerializeToString()
    return data


def read(data: bytes) -> Any:
    """A payload as the library reads it."""
    payload = PayloadMessage()
    payload.ParseFromString(data)
    return payload
