"""The hash covers what changes results and nothing else."""

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sae.core.config import EXECUTION, Strict, canonical_hash


class Inner(Strict):
    size: int = 3
    threads: Annotated[int, EXECUTION] = 1


class Outer(Strict):
    inner: Inner = Inner()
    rate: float = 0.5
    device: Annotated[str, EXECUTION] = "cpu"


def test_execution_leaves_the_hash_alone() -> None:
    assert canonical_hash(Outer()) == canonical_hash(Outer(device="cuda", inner=Inner(threads=9)))
    assert canonical_hash(Outer()) != canonical_hash(Outer(inner=Inner(size=4)))
    assert canonical_hash(Outer()) != canonical_hash(Outer(rate=0.25))


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)))
def test_the_order_of_keys_does_not_matter(values: dict) -> None:
    assert canonical_hash(values) == canonical_hash(dict(reversed(values.items())))


def test_strict_means_frozen_and_closed() -> None:
    with pytest.raises(ValidationError):
        Outer.model_validate({"raet": 1})
    with pytest.raises(ValidationError):
        Outer.model_validate({"rate": float("nan")})
    with pytest.raises(ValidationError):
        setattr(Outer(), "rate", 1.0)  # noqa: B010 (a type checker would refuse the plain assignment)
