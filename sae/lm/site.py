"""The grammar of places in a model: `embed`, `blocks.{l}.NAME`, `final`, `final_norm`, `logits`.

With r the residual stream of a sequential block l, in the order of computation:

    resid_pre    = r                                                         [batch, position, d_model]
    attn_in      = norm1(resid_pre)                                          [batch, position, d_model]
    attn_q, attn_k, attn_v = the linear maps of attn_in, before any norm of their own and before rotation
                                                                             [batch, position, head, d_head]
    attn_pattern = softmax(q kᵀ + mask), after those norms and the rotation  [batch, head, query, key]
    attn_z       = attn_pattern · attn_v                                     [batch, position, head, d_head]
    attn_heads   = attn_z W_O, head by head, without its bias                [batch, position, head, d_model]
    attn_out     = Σ attn_heads + b_O, then the post-norm where there is one [batch, position, d_model]
    resid_mid    = resid_pre + attn_out                                      [batch, position, d_model]
    mlp_in       = norm2(resid_mid)                                          [batch, position, d_model]
    mlp_hidden   = act(gate) · up, or act(up) without a gate                 [batch, position, d_mlp]
    mlp_out      = mlp_hidden W_down + b, then the post-norm likewise        [batch, position, d_model]
    resid_post   = resid_mid + mlp_out                                       [batch, position, d_model]

so embed + Σ attn_out + Σ mlp_out = final, the last residual; final_norm is what the head reads. Keys and values have
their own number of heads: where that is smaller, key head ⌊h · n_kv / n_heads⌋ serves query head h. Queries and keys
stand before the rotation because there they mean the same at every position, and because a cache keeps what comes
after: an edit of a key reaches the cache once.

In a parallel block both norms read resid_pre and there is no resid_mid. In a block that norms after the sum (BERT,
OPT-350m) the norm's output is the residual: resid_mid = norm1(resid_pre + attn_out) = mlp_in and
resid_post = norm2(resid_mid + mlp_out). A mixture of experts has no mlp_hidden.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from sae.core.errors import InputError, nearest
from sae.lm.families import FAMILIES, family_of, model_type_of, n_blocks
from sae.lm.family import INTO, KERNEL, Family
from sae.lm.load import Model, module_of
from sae.lm.view import Alias, Flat, Heads, View, Whole

BLOCK_SITES = (
    "resid_pre",
    "attn_in",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_pattern",
    "attn_z",
    "attn_heads",
    "attn_out",
    "resid_mid",
    "mlp_in",
    "mlp_hidden",
    "mlp_out",
    "resid_post",
)
"""In the order in which a sequential block computes them."""
MODEL_SITES = ("embed", "final", "final_norm", "logits")
Side = Literal["input", "output", "kernel", "heads"]
_ORDER = ("embed", *BLOCK_SITES, "final", "final_norm", "logits")
_WHY_ABSENT = {
    "resid_mid": ": attention and MLP read the same residual;",
    "mlp_hidden": ": each expert has its own;",
    "final_norm": ": its head reads the last residual;",
}
"""Where a family of the table leaves a place out."""
_BLOCK = re.compile(r"blocks\.(\d+)\.(\w+)")


@dataclass(frozen=True)
class Site:
    """A place in a model; `block` is None for the places outside the blocks."""

    name: str
    block: int | None = None

    def __str__(self) -> str:
        return self.name if self.block is None else f"blocks.{self.block}.{self.name}"


@dataclass(frozen=True)
class Place:
    """Where a site is in the modules."""

    path: str
    side: Side
    """Of the module: its input, its output, the weights in its attention kernel, its output head by head."""
    view: View
    """How the site lies in the tensor there."""
    rank: int
    """Of several sites at one side of one module, those of lower rank are computed first."""


def parse_site(text: str) -> Site:
    """Reads a site's name by the grammar alone, without a model.

    Raises:
        InputError: not a site in any model; suggests the nearest.
    """
    match = _BLOCK.fullmatch(text)
    if match and match[2] in BLOCK_SITES:
        return Site(match[2], int(match[1]))
    if text in MODEL_SITES:
        return Site(text)
    prefix = f"blocks.{match[1]}." if match else "blocks.0."
    hint = nearest(text, [*MODEL_SITES, *(prefix + name for name in BLOCK_SITES)])
    raise InputError(f"no site {text!r}{hint or ';'} sites are {_grammar(BLOCK_SITES, MODEL_SITES, 'l')}")


def _grammar(block_sites: tuple[str, ...], model_sites: tuple[str, ...], block: str) -> str:
    """All sites in one line."""
    return ", ".join([model_sites[0], f"blocks.{{{block}}}.{{{', '.join(block_sites)}}}", *model_sites[1:]])


def block_sites_of(family: Family) -> tuple[str, ...]:
    """The names that a block of this family has."""
    return tuple(name for name in BLOCK_SITES if name in ("resid_pre", "resid_post") or getattr(family, name))


def model_sites_of(family: Family) -> tuple[str, ...]:
    """The names of the places outside the blocks that this family has."""
    return tuple(name for name in MODEL_SITES if name == "logits" or getattr(family, name))


def sites_of(model: Model) -> tuple[str, ...]:
    """All sites of a model, in the order in which a forward pass computes them."""
    module = module_of(model)
    family = family_of(module)
    blocks = [str(Site(name, block)) for block in range(n_blocks(module)) for name in block_sites_of(family)]
    first, *last = model_sites_of(family)
    return (first, *blocks, *last)


def check_site(model: Model, text: str) -> Site:
    """The parsed site, if this model has it.

    Raises:
        InputError: it has not; says why or suggests the nearest, and lists those that it has.
    """
    module = module_of(model)
    family, n = family_of(module), n_blocks(module)
    match = _BLOCK.fullmatch(text)
    name = match[2] if match else text
    if match and name in block_sites_of(family) and str(int(match[1])) == match[1] and int(match[1]) < n:
        return Site(name, int(match[1]))
    if not match and name in model_sites_of(family):
        return Site(name)
    left_out = [absent for absent in _WHY_ABSENT if not getattr(family, absent)]
    has = _grammar(block_sites_of(family), model_sites_of(family), f"0…{n - 1}")
    known = model_type_of(module) or type(module).__name__
    hint = _WHY_ABSENT[name] if known in FAMILIES and name in left_out else nearest(text, sites_of(module)) or ";"
    raise InputError(f"no site {text!r} in this {known}{hint} it has {has}")


def place_of(model: Model, site: Site) -> Place:
    """Where a checked site is read and edited."""
    module = module_of(model)
    family, rank = family_of(module), _ORDER.index(site.name)
    if site.name == "logits":
        return Place("", "output", Whole(), rank)
    block = "" if site.block is None else f"{family.blocks}.{site.block}"
    if site.name in ("resid_pre", "resid_post"):
        return Place(block, "input" if site.name == "resid_pre" else "output", Whole(), rank)
    written = getattr(family, site.name)
    path = written.removeprefix(INTO).removeprefix(KERNEL)
    whole = f"{block}.{path}" if block else path
    return Place(whole, _side(site.name, written), _view(module, family, site.name), rank)


def _side(name: str, written: str) -> Side:
    if name == "attn_heads":
        return "heads"
    if written.startswith(KERNEL):
        return "kernel"
    return "input" if written.startswith(INTO) else "output"


def _view(module: nn.Module, family: Family, name: str) -> View:
    match name, family.fused:
        case "attn_z", _:
            n_heads, _ = head_counts(module)
            return Heads(n_heads, slice(None))
        case (("attn_q" | "attn_k" | "attn_v"), fused):
            return _projected(fused, "qkv".index(name[-1]), *head_counts(module))
        case (("resid_mid" | "mlp_in" | "mlp_hidden" | "mlp_out"), _) if family.flat:
            return Flat()
        case (("attn_in" | "mlp_in"), _) if getattr(family, name).startswith(INTO):
            return Alias()
        case _:
            return Whole()


def _projected(fused: Literal["separate", "stacked", "interleaved"], which: int, n_heads: int, n_kv: int) -> Heads:
    """Where queries (0), keys (1) or values (2) lie among the heads that a linear map gives."""
    counts = (n_heads, n_kv, n_kv)
    match fused:
        case "separate":
            return Heads(counts[which], slice(None))
        case "stacked":
            start = sum(counts[:which])
            return Heads(sum(counts), slice(start, start + counts[which]))
        case "interleaved":
            return Heads(3 * n_heads, slice(which, None, 3))


def head_counts(model: Model) -> tuple[int, int]:
    """Heads of the queries, and of keys and values.

    Raises:
        InputError: the model's configuration does not say how many.
    """
    config: Any = getattr(module_of(model), "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    n_heads = getattr(text, "num_attention_heads", None)
    if n_heads is None:
        raise InputError("sites per head need num_attention_heads in the model's configuration")
    return n_heads, getattr(text, "num_key_value_heads", None) or n_heads
