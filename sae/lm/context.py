"""What an edit knows about the forward pass that it stands in: tokens, their positions in their text, and the phase.

Positions count real tokens. With a mask m over everything that the pass can see, the cache included,

    position_j = (Σ_{i ≤ j} m_i) − 1    where m_j, else −1,

so a text's first real token has 0 under either padding and a cache goes on where it stopped. Position ids that the
model was given come before that: they restart where packed documents do. The phase is told by `sae.lm.generate`,
which knows where each prompt ends; without it, what comes after a cache that is not empty counts as generated.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Context:
    """The pass under way, as one edit sees it."""

    tokens: Int[Tensor, "batch position"] | None
    """Token ids; None where the model was given embeddings."""
    positions: Int[Tensor, "batch position"]
    """Position of each token in its text, from 0; −1 on padding."""
    mask: Bool[Tensor, "batch position"]
    """False on padding; all true where the model was given no mask, or one that is not two-dimensional."""
    generated: Bool[Tensor, "batch position"]
    """The phase: False on the prompt, True on tokens that the model generated."""
    captured: dict[str, Tensor] = field(default_factory=dict)
    """Earlier sites of this pass that `editing` was asked to capture."""
    site: str = ""
    """Where the edit acts."""


def context_of(inputs: Mapping[str, Any], prompt_lengths: Int[Tensor, "batch"] | None = None) -> Context:
    """The context of a pass whose model is called with these keyword arguments.

    Args:
        inputs: as Hugging Face names them.
        prompt_lengths: tokens in each prompt, where they are known.
    """
    tokens = inputs.get("input_ids")
    given = inputs["inputs_embeds"] if tokens is None else tokens
    cache = inputs.get("past_key_values")
    n_past = 0 if cache is None else int(cache.get_seq_length())
    mask, positions = _mask_and_positions(given, n_past, inputs)
    if prompt_lengths is None:
        generated = mask & (n_past > 0)
    else:
        generated = mask & (positions >= prompt_lengths.to(positions.device)[:, None])
    return Context(tokens, positions, mask, generated)


def named(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call of the model, all by name."""
    if not args:
        return inputs
    if len(args) == 1:
        return {"input_ids": args[0], **inputs}
    return dict(inspect.signature(module.forward).bind(*args, **inputs).arguments)


def _mask_and_positions(given: Tensor, n_past: int, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    n_batch, n_positions = given.shape[:2]
    whole, ids = inputs.get("attention_mask"), inputs.get("position_ids")
    if isinstance(whole, Tensor) and whole.ndim == 2:
        seen = whole.to(given.device, torch.bool)
        mask = seen[:, -n_positions:]
        counted = seen.long().cumsum(dim=1)[:, -n_positions:] - 1
    else:
        mask = torch.ones(n_batch, n_positions, dtype=torch.bool, device=given.device)
        counted = torch.arange(n_past, n_past + n_positions, device=given.device).expand(n_batch, -1)
    positions = counted if ids is None else ids.to(given.device).expand(n_batch, -1)
    return mask, positions.masked_fill(~mask, -1)
