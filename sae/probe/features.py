"""What probes read: the residual stream, or a dictionary's code, at the positions of labelled texts.

Positions: `span`, the last token of the span, where the expression has just been read; `consequence`, the last token
before the consequence, where the variable is used. Texts without a consequence have only the first.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary import Dictionary
from sae.probe.prompt import Prompt


def residual_features(
    prompts: Sequence[Prompt], activations: Sequence[Float[Tensor, "_token d"]]
) -> dict[str, Float[np.ndarray, "text d"]]:
    """Activations at each position that all prompts have."""
    spans = torch.stack([x[prompt.span_last] for prompt, x in zip(prompts, activations, strict=True)])
    if not has_consequence(prompts):
        return {"span": spans.numpy()}
    return {"span": spans.numpy(), "consequence": torch.stack([x[-1] for x in activations]).numpy()}


@torch.no_grad()
def code_features(
    dictionary: Dictionary, features: dict[str, Float[np.ndarray, "text d"]]
) -> dict[str, Float[np.ndarray, "text d_sae"]]:
    """The dense code of each of them."""
    return {name: dictionary.encode(torch.from_numpy(x)).dense().numpy() for name, x in features.items()}


def has_consequence(prompts: Sequence[Prompt]) -> bool:
    """Whether every text says later what its label is."""
    return all(prompt.label_tokens for prompt in prompts)
