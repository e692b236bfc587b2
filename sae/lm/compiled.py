"""torch.compile, block by block, so that reading and editing stay right.

A hook inside a compiled region is not seen by code that was compiled before it came. So what is compiled is a block's
`forward`, around which the block's own hooks (resid_pre, resid_post) run as always; and while a hook stands at a module
inside a block (attn_out, mlp_in, …), that block runs as it was written.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sae.core.errors import InputError
from sae.lm.families import family_of


class _Forward:
    """A block's forward: compiled, or as written while someone looks inside."""

    def __init__(self, written: Callable[..., Any], backend: str) -> None:
        self._written, self._compiled = written, torch.compile(written, backend=backend)
        self._lock = threading.Lock()
        self._n_inside = 0

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        return (self._written if self._n_inside else self._compiled)(*args, **inputs)

    @contextmanager
    def as_written(self) -> Iterator[None]:
        with self._lock:
            self._n_inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_inside -= 1


def compile_blocks(module: nn.Module, backend: str = "inductor") -> None:
    """Compiles each block of a model, in place; a second call changes nothing.

    Args:
        module: a Hugging Face language model of a known family.
        backend: as `torch.compile` names it.
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
    # A module compiled by `module.compile()` runs its hooks in the compiled region, its own included.
    if any(part._compiled_call_impl is not None or _wrapped(part) for part in (*around, here)):
        raise InputError(
            "the model was compiled by torch.compile, which does not see hooks; use sae.lm.compile_blocks instead"
        )
    compiled = [part.forward for part in around if isinstance(part.forward, _Forward)]
    if not compiled:
        yield
        return
    with compiled[0].as_written():
        yield


def _wrapped(module: nn.Module) -> bool:
    """What `torch.compile(module)` gives."""
    return "_orig_mod" in module._modules
