"""Where one architecture keeps the places of its forward pass, as module paths.

A place is written as

    PATH           the output of the module there,
    into PATH      its input,
    kernel PATH    the weights inside the attention kernel that the module calls.

Paths in a block are relative to the block, and `""` says that the architecture has no such place. The residual
entering a block and the one leaving it are the block's own input and output, and the logits are the whole model's
output; they need no path.

The quirks that change a sum: parallel blocks (attention and MLP read the same residual, so nothing lies between
them), norms after attention and MLP (what is added is the norm's output), norms after the sum (BERT: the norm's output
is the residual), norms that multiply by one plus their weight.
"""

from typing import Literal

from sae.core.config import Strict

INTO, KERNEL = "into ", "kernel "


class Family(Strict):
    """Places of one architecture; also what a configuration gives for an architecture that the table lacks."""

    blocks: str
    """The list of blocks."""
    embed: str
    """The first residual, scales and position embeddings included."""
    attn_in: str = ""
    """What attention reads."""
    attn_q: str = ""
    """The linear map that gives the queries; where one map gives queries, keys and values, name it for all three."""
    attn_k: str = ""
    """The linear map that gives the keys."""
    attn_v: str = ""
    """The linear map that gives the values."""
    attn_pattern: str = ""
    """The attention weights."""
    attn_z: str = ""
    """What W_O reads: heads side by side."""
    attn_heads: str = ""
    """W_O."""
    attn_out: str = ""
    """What attention adds to the residual."""
    resid_mid: str = ""
    """The residual between attention and MLP."""
    mlp_in: str = ""
    """What the MLP reads."""
    mlp_hidden: str = ""
    """The units of the MLP, which its last linear map reads."""
    mlp_out: str = ""
    """What the MLP adds to the residual."""
    final: str
    """The last residual."""
    final_norm: str = ""
    """The norm between the last residual and the head."""
    head: str = "lm_head"
    """The linear map that gives the logits."""
    fused: Literal["separate", "stacked", "interleaved"] = "separate"
    """Queries, keys and values: by maps of their own, or by one map, all queries first or head by head."""
    norm_offset: float = 0.0
    """Norms multiply by this plus their weight."""
    flat: bool = False
    """Between attention and the end of the block, batch and position are one dimension."""
    causal: bool = True
    """False for an encoder, whose tokens see those after them."""
    isolates: bool = False
    """Documents in one window never see one another where position ids restart, with neither mask nor cache.

    Say so only of an architecture where that was tried: otherwise the harvest gives each document a row of its own."""

    @property
    def parallel(self) -> bool:
        """Attention and MLP read the same residual."""
        return self.resid_mid == ""

    @property
    def modules(self) -> dict[str, str]:
        """The module paths by field, as they are written."""
        fields = ("blocks", *_BLOCK_FIELDS, "embed", "final", "final_norm", "head")
        paths = {name: getattr(self, name).removeprefix(INTO).removeprefix(KERNEL) for name in fields}
        return {name: path for name, path in paths.items() if path}


_BLOCK_FIELDS = tuple(name for name in Family.model_fields if name.startswith(("attn_", "mlp_", "resid_")))


def in_block(field: str) -> bool:
    """Whether a field's path is relative to a block."""
    return field in _BLOCK_FIELDS
