"""Whether a family fits a model: each field's module is there, and is what the field needs.

A template comes from a configuration, so what is wrong in it is refused by the name of its field, before anything is
read there: a path that is not a module, a list of modules (which is never called), a map that does not give the heads.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn

from sae.core.errors import InputError, nearest
from sae.lm.family import INTO, KERNEL, Family, in_block

_REQUIRED = ("blocks", "embed", "final", "head")
_BARE = ("blocks", "attn_q", "attn_k", "attn_v", "attn_heads", "final_norm", "head")
_WITH_WEIGHT = {"attn_heads": 2, "final_norm": 1, "head": 2}
"""Fields whose module's weight is read, and its dimensions."""


def check_family(model: nn.Module, family: Family) -> None:
    """Refuses a family that does not fit a model.

    Raises:
        InputError: a path that must be there and is empty, or that is written in a way its field has not; a module that
            the model lacks, or that is not what its field needs (names the field, the module, what is needed).
    """
    _check_writing(family)
    there = dict(model.named_modules())
    blocks = there.get(family.blocks)
    if blocks is not None and (not isinstance(blocks, nn.ModuleList) or not len(blocks)):
        raise _refused("blocks", family.blocks, blocks, "a ModuleList of at least one block")
    for name, path in _whole(family):
        if path not in there:
            known = [one for one in there if one]
            raise InputError(
                f"family: {name} is {path!r}, which this {type(model).__name__} has not{nearest(path, known)}"
                f"; its modules are {', '.join(known[:8])} …"
            )
        if name != "blocks":
            _check_module(model, family, name, path, there[path])


def _check_writing(family: Family) -> None:
    for name in (*family.modules, *_REQUIRED):
        written = getattr(family, name)
        if not written.removeprefix(INTO).removeprefix(KERNEL).strip():
            raise InputError(f"family: {name} is {written!r}; it must name a module")
        if name in _BARE and written.startswith((INTO, KERNEL)):
            raise InputError(f"family: {name} is {written!r}; it must be the path of a module, without into or kernel")
        if name != "attn_pattern" and written.startswith(KERNEL):
            raise InputError(f"family: {name} is {written!r}; only attn_pattern lies in a kernel")


def _whole(family: Family) -> Iterator[tuple[str, str]]:
    """Fields and the paths of their modules, in the first block, in the order of the fields."""
    for name, path in family.modules.items():
        yield name, f"{family.blocks}.0.{path}" if in_block(name) else path


def _check_module(model: nn.Module, family: Family, name: str, path: str, part: nn.Module) -> None:
    if isinstance(part, nn.ModuleList | nn.ModuleDict):
        raise _refused(name, path, part, "a module that is called, which a list of modules never is")
    weight = getattr(part, "weight", None)
    # Some quantised maps hold no `weight`; they are refused where W_O is read, not before.
    quantised = weight is None and name == "attn_heads" and not list(part.children())
    if name in _WITH_WEIGHT and not quantised and getattr(weight, "ndim", 0) < _WITH_WEIGHT[name]:
        raise _refused(name, path, part, f"a module with a weight of {_WITH_WEIGHT[name]} dimensions")
    if getattr(family, name).startswith(KERNEL) and getattr(part, "config", None) is None:
        raise _refused(name, path, part, "an attention module with its configuration")
    if name in ("attn_q", "attn_k", "attn_v"):
        _check_heads(model, family, name, path, part)


def _check_heads(model: nn.Module, family: Family, name: str, path: str, part: nn.Module) -> None:
    """The width that a map gives, where map and configuration tell it, is that of the heads."""
    config: Any = getattr(model, "config", None)
    n_heads = getattr(config, "num_attention_heads", None)
    # `out_features` of a Linear, `nf` of GPT-2's; a weight's shape would not do, for it may be quantised.
    width = getattr(part, "out_features", None) or getattr(part, "nf", None)
    if n_heads is None or width is None:
        return
    n_kv = getattr(config, "num_key_value_heads", None) or n_heads
    if family.fused == "separate":
        n = n_heads if name == "attn_q" else n_kv
        if width % n:
            raise _refused(
                name, path, part, f"a map that gives {n} heads (fused: separate), but it gives {width} numbers"
            )
        return
    n = n_heads + 2 * n_kv if family.fused == "stacked" else 3 * n_heads
    d_head = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    if width != n * d_head:
        needed = f"a map that gives queries, keys and values (fused: {family.fused}), {n} heads of {d_head}"
        raise _refused(name, path, part, f"{needed}, but it gives {width} numbers")


def _refused(name: str, path: str, part: nn.Module, needed: str) -> InputError:
    return InputError(f"family: {name} is {path!r}, a {type(part).__name__}; it must be {needed}")
