"""torch.compile, block by block, so that reading and editing stay right.

A hook inside a compiled region is not seen by code that was compiled before it came. So what is compiled is a block's
`forward`, around which the block's own hooks (resid_pre, resid_post) run as always; and while a hook stands at a module
inside a block (attn_out, mlp_in, …), that block runs as it was written. So it does in passes with a cache, which grows
and would be compiled for anew at every length. So do all blocks while anyone needs attention weights, which come from
another kernel. Passes of other threads through the model run as written meanwhile, and may round otherwise.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from sae.core.errors import InputError
from sae.lm.families import family_of

Backend = str | Callable[..., Any]


class _Forward:
    """A block's forward: compiled, or as written while someone looks inside."""

    def __init__(self, written: Callable[..., Any], backend: Backend) -> None:
        self._written, self._backend = written, backend
        self._compiled = torch.compile(written, backend=backend)
        self._lock = threading.Lock()
        self._n_inside = 0

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        plain = self._n_inside or _has_cache(*args, *inputs.values())
        return (self._written if plain else self._compiled)(*args, **inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Forward":
        # Of the copied block, whose method `_written` becomes; locks cannot be copied.
        return _Forward(deepcopy(self._written, memo), self._backend)

    @contextmanager
    def as_written(self) -> Iterator[None]:
        with self._lock:
            self._n_inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_inside -= 1


def compile_blocks(module: nn.Module, backend: Backend = "inductor") -> None:
    """Compiles each block of a model, in place; a second call changes nothing.

    Args:
        module: a Hugging Face language model of a known family.
        backend: a name that `torch.compile` knows, or what compiles a graph.
    """
    for block in module.get_submodule(family_of(module).blocks).children():
        if not isinstance(block.forward, _Forward):
            block.forward = _Forward(block.forward, backend)


@contextmanager
def looked_into(module: nn.Module, path: str) -> Iterator[None]:
    """Has the block around the module at `path`, if it is compiled and not that module itself, run as written.

    Raises:
        InputError: the model was compiled as a whole, and would not see a hook.
    """
    parts = path.split(".") if path else []
    around = [module.get_submodule(".".join(parts[:n])) for n in range(len(parts))]
    here = module.get_submodule(path)
    for part in (*around, here):
        refuse_compiled(part)
    compiled = [part.forward for part in around if isinstance(part.forward, _Forward)]
    if not compiled:
        yield
        return
    with compiled[0].as_written():
        yield


@contextmanager
def all_as_written(module: nn.Module) -> Iterator[None]:
    """Has all blocks of a model run as written."""
    with ExitStack() as stack:
        for block in module.get_submodule(family_of(module).blocks).children():
            if isinstance(block.forward, _Forward):
                stack.enter_context(block.forward.as_written())
        yield


def refuse_compiled(module: nn.Module) -> None:
    """Raises InputError for a module that torch.compile has compiled with its hooks, or without them."""
    # `torch.compile(module)` gives a wrapper; `module.compile()` leaves a mark.
    if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
        raise InputError(
            "the model was compiled by torch.compile, which does not see hooks; use sae.lm.compile_blocks instead"
        )


def _has_cache(*inputs: Any) -> bool:
    from transformers import Cache

    return any(isinstance(value, Cache) for value in inputs)
