"""The type checks of all tests: jaxtyping's and beartype's, each made and run as seldom as it can be.

1. jaxtyping checks a function within a function anew each time that it is made. What it gives to the checker, a
   function without a body, depends on the signature alone, so `checked` has beartype compile it once. The editing of
   a model makes such functions by the thousand.
2. jaxtyping binds the arguments of every call, for the shapes among them. Functions without arrays have none: these
   get beartype's checks of the same hints, without the binding. Writing the microworld makes such calls by the million.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException
from jaxtyping import AbstractArray, TypeCheckError, jaxtyped
from jaxtyping._decorator import _destring_annotation

_PLAIN = (type(None), bool, int, float, str)
_AS_JAXTYPING = beartype(conf=BeartypeConf(violation_type=TypeCheckError))
_CHECKED: dict[tuple[Any, ...], Callable[..., Any]] = {}


def checked(signature: Callable[..., Any]) -> Callable[..., Any]:
    """A function that jaxtyping made of a signature, with its checks."""
    code = signature.__code__
    defaults = signature.__defaults__ or ()
    if signature.__kwdefaults__ or any(type(default) not in _PLAIN for default in defaults):
        return beartype(signature)
    kinds = code.co_posonlyargcount, code.co_argcount, code.co_kwonlyargcount, code.co_flags
    hints = tuple(signature.__annotations__.items())
    key = signature.__module__, signature.__qualname__, code.co_varnames, code.co_code, kinds, hints, defaults
    try:
        found = _CHECKED.get(key)
    except TypeError:  # a hint without a hash
        return beartype(signature)
    if found is None:
        found = _CHECKED[key] = beartype(signature)
    return found


def lightly_jaxtyped(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """In the place of `jaxtyping.jaxtyped`, as the import hook calls it."""
    return functools.partial(_checked_as_it_needs, jaxtyped(typechecker=typechecker))


def _checked_as_it_needs(by_jaxtyping: Callable[[Any], Any], one: Any) -> Any:
    if not inspect.isfunction(one) or "<locals>" in one.__qualname__:
        return by_jaxtyping(one)
    hints = {name: _destring_annotation(hint, one.__globals__) for name, hint in one.__annotations__.items()}
    if any(map(_has_arrays, hints.values())):
        return by_jaxtyping(one)
    written, one.__annotations__ = one.__annotations__, hints
    try:
        return _AS_JAXTYPING(one)
    except BeartypeDecorHintException:
        one.__annotations__ = written
        return by_jaxtyping(one)


def _has_arrays(hint: Any) -> bool:
    return (inspect.isclass(hint) and issubclass(hint, AbstractArray)) or any(map(_has_arrays, get_args(hint)))


jaxtyping.jaxtyped = lightly_jaxtyped
