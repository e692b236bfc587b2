"""The attention weights, which only the eager kernel computes: while a site asks for them, and no longer.

transformers looks up its attention kernel, and the mask that goes with it, by `config._attn_implementation` at every
call. That configuration is shared: by all threads, and by all models that were made from it. So

1. while anyone needs the weights of a model, its modules hold another configuration in place of theirs, which has the
   same attributes (one `__dict__`), and of which no other model knows;
2. that one names a kernel of ours to the threads that need weights, and the model's own kernel to all others;
3. ours calls the architecture's own eager kernel (its soft-caps and scales with it), hands the weights over, and where
   they come back changed computes weights · values anew.

So passes of other threads through the model, and of other models, run bit for bit as they always do. When the last
thread leaves, the modules hold their configuration again. Fused kernels round otherwise, so outputs of passes that need
weights differ from the others by rounding; they equal those of the model's own eager kernel bit for bit.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
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
        self.needs: Counter[int] = Counter()
        """How many weights this thread needs, by id of a configuration in use, and so alive."""


class _InUse:
    """The configuration that a model holds meanwhile, and for how many."""

    def __init__(self, config: Any) -> None:
        self.config, self.own, self.n_users = _same_attributes(config), config, 0


_this_thread = _Thread()
_lock = threading.Lock()
_in_use: WeakKeyDictionary[nn.Module, _InUse] = WeakKeyDictionary()
"""By model."""


@contextmanager
def weights_of(module: nn.Module, attention: nn.Module, act: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Runs `act` on the weights that an attention module's kernel computes; what it gives takes their place.

    Args:
        module: the model.
        attention: a module in it that calls transformers' attention interface.
        act: f(weights: [batch, head, query, key]) -> the same shape; at most one per module and thread.

    Raises:
        InputError: a module whose code has no eager kernel, or whose configuration is part of another one.
    """
    if not hasattr(sys.modules[type(attention).__module__], _EAGER):
        raise InputError(f"attn_pattern: {type(attention).__module__} has no {_EAGER}, so no weights can be read")
    _register()
    number = _enter(module, attention)
    _this_thread.acts[attention] = act
    _this_thread.needs[number] += 1
    try:
        yield
    finally:
        _this_thread.needs -= Counter([number])
        del _this_thread.acts[attention]
        _leave(module)


def _enter(module: nn.Module, attention: Any) -> int:
    """Has the model hold a configuration that knows threads; its id."""
    with _lock:
        use = _in_use.get(module)
        if use is None:
            config = attention.config  # read under the lock: another thread may just be giving its own back
            _refuse_nested(module, config)
            use = _in_use[module] = _InUse(config)
            _hold(module, use.own, use.config)
        use.n_users += 1
        return id(use.config)


def _leave(module: nn.Module) -> None:
    with _lock:
        use = _in_use[module]
        use.n_users -= 1
        if not use.n_users:
            _hold(module, use.config, use.own)
            del _in_use[module]


def _hold(module: nn.Module, before: Any, after: Any) -> None:
    for part in module.modules():
        if getattr(part, "config", None) is before:
            part.config = after


def _refuse_nested(module: nn.Module, config: Any) -> None:
    # A mask made by way of the outer configuration would not be the eager kernel's.
    outer = getattr(module, "config", None)
    if outer is not config:
        raise InputError(
            f"attn_pattern: the attention of this {type(module).__name__} has a configuration of its own "
            f"({type(config).__name__} in {type(outer).__name__}), so nobody can choose "
            "its kernel for one pass; read attn_z"
        )


def _same_attributes(config: Any) -> Any:
    """A configuration with the attributes of another, now and later, that knows threads."""
    other = object.__new__(_knows_threads(type(config)))
    other.__dict__ = config.__dict__
    return other


@cache
def _knows_threads(kind: type) -> type:
    own: Any = kind
    own = own._attn_implementation

    def name(config: Any) -> str:
        return _NAME if _this_thread.needs[id(config)] else own.fget(config)

    result = type(kind.__name__, (kind,), {})
    # After the class is made: transformers turns it into a dataclass, which would take a property for a field.
    result._attn_implementation = property(name, own.fset)  # pyright: ignore[reportAttributeAccessIssue]
    return result


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
