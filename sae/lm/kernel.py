"""The attention weights, which only the eager kernel computes: while a site asks for them, and no longer.

transformers looks up its attention kernel by `config._attn_implementation` at every call. While anyone needs the
weights of a model, that names a kernel of ours, which calls the architecture's own eager kernel (its soft-caps and
scales with it), hands the weights over, and where they come back changed computes weights · values anew. The name that
stood there is put back when the last one leaves. Fused kernels round otherwise, so outputs of such passes differ from
the others by rounding; they equal those of the model's own eager kernel bit for bit.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from jaxtyping import Float
from torch import Tensor, nn

from sae.core.errors import InputError

_NAME = "sae_weights"
_EAGER = "eager_attention_forward"


class _Thread(threading.local):
    def __init__(self) -> None:
        self.acts: WeakKeyDictionary[nn.Module, Callable[[Tensor], Tensor]] = WeakKeyDictionary()


_this_thread = _Thread()
_lock = threading.Lock()
_replaced: dict[int, tuple[str, int]] = {}
"""By id of a configuration that is switched, and so alive: the kernel's name before, and for how many."""


@contextmanager
def weights_of(attention: nn.Module, act: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Runs `act` on the weights that an attention module's kernel computes; what it gives takes their place.

    Args:
        attention: a module that calls transformers' attention interface.
        act: f(weights: [batch, head, query, key]) -> the same shape; at most one per module and thread.

    Raises:
        InputError: a module whose code has no eager kernel.
    """
    if not hasattr(sys.modules[type(attention).__module__], _EAGER):
        raise InputError(f"attn_pattern: {type(attention).__module__} has no {_EAGER}, so no weights can be read")
    _this_thread.acts[attention] = act
    config: Any = attention.config
    _switch(config)
    try:
        yield
    finally:
        _restore(config)
        del _this_thread.acts[attention]


def _switch(config: Any) -> None:
    _register()
    with _lock:
        before, n_users = _replaced.get(id(config), (config._attn_implementation, 0))
        _replaced[id(config)] = (before, n_users + 1)
        config._attn_implementation = _NAME


def _restore(config: Any) -> None:
    with _lock:
        before, n_users = _replaced.pop(id(config))
        if n_users > 1:
            _replaced[id(config)] = (before, n_users - 1)
        else:
            config._attn_implementation = before


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(_NAME, _kernel)
    AttentionMaskInterface.register(_NAME, eager_mask)


def _kernel(
    module: nn.Module,
    query: Float[Tensor, "batch head query d"],
    key: Float[Tensor, "batch kv_head key d"],
    value: Float[Tensor, "batch kv_head key d"],
    attention_mask: Tensor | None,
    **options: Any,  # each architecture has its own (scale, soft-cap, window); its eager kernel knows them
) -> tuple[Float[Tensor, "batch query head d"], Float[Tensor, "batch head query key"]]:
    eager = getattr(sys.modules[type(module).__module__], _EAGER)
    z, weights = eager(module, query, key, value, attention_mask, **options)
    act = _this_thread.acts.get(module)
    changed = weights if act is None else act(weights)
    if changed is weights:
        return z, weights
    repeated = value.repeat_interleave(changed.shape[1] // value.shape[1], dim=1)
    return (changed @ repeated).transpose(1, 2).contiguous(), changed
