"""Generated instances of message classes, by their field types: what tests over the whole registry draw from."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as mi

from sparkps import config, initializers, optim
from sparkps.errors import ConfigError

#: Integers that msgpack carries.
INTEGERS = st.integers(-(1 << 63), (1 << 64) - 1)
FLOATS = st.floats(allow_nan=False)
TEXT = st.text(max_size=8)

#: Plain values, as in fields of type Any.
PLAIN = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT | st.binary(max_size=8),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXT, part, max_size=3),
    max_leaves=5,
)

#: Modules whose values check themselves: drawn from their defaults, with these for what has none.
_CHECKED = (config.__name__, initializers.__name__, optim.__name__)
_REQUIRED = {mi.FloatType: 0.5, mi.IntType: 2}

_SIMPLE = {
    mi.AnyType: PLAIN,
    mi.NoneType: st.none(),
    mi.BoolType: st.booleans(),
    mi.IntType: INTEGERS,
    mi.FloatType: FLOATS,
    mi.StrType: TEXT,
    mi.BytesType: st.binary(max_size=16),
}


def instances(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a message class, of any value that its field types allow."""
    return _of(mi.type_info(cls))


def _of(kind: mi.Type) -> st.SearchStrategy[Any]:
    if type(kind) in _SIMPLE:
        return _SIMPLE[type(kind)]
    if isinstance(kind, (mi.StructType, mi.DataclassType)):
        return _checked(kind) if kind.cls.__module__ in _CHECKED else _struct(kind)
    if isinstance(kind, mi.UnionType):
        return st.one_of([_of(part) for part in kind.types])
    if isinstance(kind, mi.LiteralType):
        return st.sampled_from(kind.values)
    if isinstance(kind, mi.ListType):
        return st.lists(_of(kind.item_type), max_size=3)
    if isinstance(kind, mi.VarTupleType):
        return st.lists(_of(kind.item_type), max_size=3).map(tuple)
    if isinstance(kind, mi.TupleType):
        return st.tuples(*(_of(part) for part in kind.item_types))
    if isinstance(kind, mi.DictType):
        return st.dictionaries(_of(kind.key_type), _of(kind.value_type), max_size=3)
    raise NotImplementedError(f"no instances of {kind}")


def _struct(kind: mi.StructType | mi.DataclassType) -> st.SearchStrategy[Any]:
    return st.builds(kind.cls, **{field.name: _of(field.type) for field in kind.fields})


def _checked(kind: mi.StructType | mi.DataclassType) -> st.SearchStrategy[Any]:
    required = {field.name: _REQUIRED[type(field.type)] for field in kind.fields if field.required}
    for values in (required, {"low": -0.5, "high": 0.5}):
        try:
            return st.just(kind.cls(**values))
        except (ConfigError, TypeError):
            continue
    raise NotImplementedError(f"no legal instance of {kind.cls}")


def with_messages(registry: tuple[type[msgspec.Struct], ...]) -> st.SearchStrategy[Any]:
    """Instances of any class of a registry."""
    return st.one_of([instances(cls) for cls in registry])
