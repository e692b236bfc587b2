"""Are these the fields of that dataclass? A check of names and types for values that come from a file."""

import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sae.core.errors import InputError


def check_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Refuses fields that are missing, unknown or of another type than the dataclass says.

    Raises:
        InputError: names the field.
    """
    hints = get_type_hints(kind)
    expected = [field.name for field in fields(kind)]
    if sorted(expected) != sorted(values):
        raise InputError(f"a {kind.__name__} has the fields {', '.join(expected)}, not {', '.join(values)}")
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise InputError(f"{kind.__name__}.{name} cannot be {str(value)[:60]!r}")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inner[-1] is ...:
            return all(_fits(one, inner[0]) for one in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is Literal:
        return value in inner
    if origin is Callable or hint is Callable:
        return False
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
