"""Effects of displacements on a text's own log-odds, many displacements of many texts in shared forward passes."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from sae.causal.displacement import in_prompt
from sae.lm.load import LoadedModel
from sae.probe.consequence import label_logits, log_odds
from sae.probe.prompt import Prompt


def effects(
    loaded: LoadedModel,
    site: str,
    prompts: Sequence[Prompt],
    label: Int[np.ndarray, "prompt"],
    changes: Sequence[Callable[[int], Float[Tensor, "region d"]]],
) -> Float[np.ndarray, "change prompt"]:
    """Change of the log-odds of each prompt's label, for every kind of change.

    Args:
        loaded: the model.
        site: where activations change.
        prompts: texts with a consequence.
        label: index of the label whose log-odds are read, per prompt.
        changes: each gives, for the index of a prompt, what to add over its region.
    """
    n = len(prompts)
    before = log_odds(label_logits(loaded, prompts, site), label)
    after = label_logits(
        loaded,
        list(prompts) * len(changes),
        site,
        lambda item: in_prompt(prompts[item % n], changes[item // n](item % n)),
    )
    return log_odds(after, np.tile(label, len(changes))).reshape(len(changes), n) - before
