"""Pushing a model along directions: x ← x + dose · σ · v at every token that stands for text, v of unit length.

σ = √(E‖x − μ‖²) is the site's own spread on the train split, so a dose of 1 moves every token as far as tokens
typically lie from their mean, whatever the model and layer. A random direction of the same dose is the control:
any push that large changes something.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.random import generator
from sae.lm.load import LoadedModel
from sae.lm.tokens import special_mask
from sae.probe.consequence import label_logits
from sae.probe.prompt import Prompt


def random_directions(d: int, n: int, seed: int) -> Float[Tensor, "n d"]:
    """Unit vectors, uniform on the sphere."""
    return torch.nn.functional.normalize(torch.randn(n, d, generator=generator(seed, "random directions", d)), dim=1)


def pushed_logits(
    loaded: LoadedModel, site: str, prompts: Sequence[Prompt], vectors: Float[Tensor, "push d"]
) -> Float[np.ndarray, "push prompt label"]:
    """Logit of each label's first token at the place of prediction, for every push and prompt.

    Args:
        loaded: the model.
        site: where the vectors are added.
        prompts: texts with a consequence.
        vectors: what is added to every token that stands for text, in units of the site.
    """
    n = len(prompts)
    text = [~torch.as_tensor(special_mask(loaded.tokenizer, prompt.ids)) for prompt in prompts]

    def displacement(item: int) -> Float[Tensor, "token d"]:
        return text[item % n][:, None] * vectors[item // n]

    logits = label_logits(loaded, list(prompts) * len(vectors), site, displacement)
    return logits.reshape(len(vectors), n, -1)
