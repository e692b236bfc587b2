"""The grammar of places in a model: `embed`, `blocks.{l}.NAME`, `final`, `final_norm`, `logits`.

With r the residual stream of a sequential block l:

    resid_pre  = r
    attn_in    = norm1(resid_pre),   attn_out = attention(attn_in)   (after a post-norm where the family has one)
    resid_mid  = resid_pre + attn_out
    mlp_in     = norm2(resid_mid),   mlp_out  = mlp(mlp_in)          (likewise)
    resid_post = resid_mid + mlp_out

so embed + Σ attn_out + Σ mlp_out = final, the last residual; final_norm is what the head reads. In a parallel block
both norms read resid_pre and there is no resid_mid.
"""

import re
from dataclasses import dataclass
from typing import Literal

from sae.core.errors import InputError, nearest
from sae.lm.families import Family, family_of, model_type_of, n_blocks
from sae.lm.load import Model, module_of

BLOCK_SITES = ("resid_pre", "attn_in", "attn_out", "resid_mid", "mlp_in", "mlp_out", "resid_post")
"""In the order in which a sequential block computes them."""
MODEL_SITES = ("embed", "final", "final_norm", "logits")
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
    """Where a site is in the modules: the input or the output of the module at `path`."""

    path: str
    side: Literal["input", "output"]


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
    raise InputError(f"no site {text!r}{hint or ';'} sites are {grammar(BLOCK_SITES)}")


def grammar(block_sites: tuple[str, ...], n_layers: int | None = None) -> str:
    """All sites in one line."""
    block = "l" if n_layers is None else f"0…{n_layers - 1}"
    return f"embed, blocks.{{{block}}}.{{{', '.join(block_sites)}}}, final, final_norm, logits"


def block_sites_of(family: Family) -> tuple[str, ...]:
    """The names that a block of this family has."""
    return tuple(name for name in BLOCK_SITES if not (family.parallel and name == "resid_mid"))


def sites_of(model: Model) -> tuple[str, ...]:
    """All sites of a model, in the order in which a forward pass computes them."""
    module = module_of(model)
    names = block_sites_of(family_of(module))
    blocks = [str(Site(name, block)) for block in range(n_blocks(module)) for name in names]
    return ("embed", *blocks, "final", "final_norm", "logits")


def check_site(model: Model, text: str) -> Site:
    """The parsed site, if this model has it.

    Raises:
        InputError: it has not; suggests the nearest and lists those that it has.
    """
    allowed = sites_of(model)
    if text in allowed:
        return parse_site(text)
    hint = nearest(text, allowed)
    module = module_of(model)
    has = grammar(block_sites_of(family_of(module)), n_blocks(module))
    raise InputError(f"no site {text!r} in this {model_type_of(module)}{hint or ';'} it has {has}")


def place_of(model: Model, site: Site) -> Place:
    """The module and side at which a checked site is read and edited."""
    family = family_of(module_of(model))
    if site.block is None:
        outside = {
            "embed": Place(family.embed, "output"),
            "final": Place(family.final_norm, "input"),
            "final_norm": Place(family.final_norm, "output"),
            "logits": Place("", "output"),
        }
        return outside[site.name]
    block = f"{family.blocks}.{site.block}"
    inside = {
        "resid_pre": Place(block, "input"),
        "attn_in": Place(f"{block}.{family.attn_norm}", "output"),
        "attn_out": Place(f"{block}.{family.attn_out}", "output"),
        "resid_mid": Place(f"{block}.{family.mlp_norm}", "input"),
        "mlp_in": Place(f"{block}.{family.mlp_norm}", "output"),
        "mlp_out": Place(f"{block}.{family.mlp_out}", "output"),
        "resid_post": Place(block, "output"),
    }
    return inside[site.name]
