"""Frozen, strict configuration, and the canonical hash that names every artifact.

A field marked with `EXECUTION` says how a run is carried out (batch of the forward pass, checkpoint interval,
device …) and never what comes out: it is left out of every hash. A field's docstring is its help text.
"""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Execution:
    """Marker for fields that do not change results."""

    def __repr__(self) -> str:
        return "EXECUTION"


EXECUTION = Execution()


class Strict(BaseModel):
    """A frozen record that refuses unknown keys and non-finite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )

    def hashed(self) -> dict[str, Any]:
        """The fields that results depend on, as plain JSON values."""
        return _without_execution(self)


def execution_keys(section: type[Strict]) -> set[str]:
    """The fields that do not change results."""
    fields = section.model_fields.items()
    return {name for name, field in fields if any(isinstance(mark, Execution) for mark in field.metadata)}


def _without_execution(value: Any) -> Any:
    if isinstance(value, Strict):
        left_out = execution_keys(type(value))
        kept = (name for name in type(value).model_fields if name not in left_out)
        return {name: _without_execution(getattr(value, name)) for name in kept}
    if isinstance(value, dict):
        return {str(key): _without_execution(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_execution(item) for item in value]
    return value


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, tuples as lists."""
    return json.dumps(_without_execution(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_hash(value: Any) -> str:
    """Sixteen hexadecimal digits of SHA-256 over the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
