"""Dead latents: those that have not fired for a number of tokens, and what keeps them from coming back too loud.

1. Gao et al. 2024 count a latent as dead after 10 million tokens, in runs of billions. A run of a few million needs a
   window that leaves dead latents time to come back: auto is a share of the run, at most 10 million tokens and
   at least a few batches.
2. AuxK pulls at a dead latent as long as it does not fire, always in the same direction, and Adam makes full steps of
   the smallest gradients. Its encoder row then grows to several times the norm of the others; when it passes the
   selection at last it fires everywhere, and takes the place of latents that know better. So a dead row is kept no
   longer, and its bias no higher, than the living ones' are in the mean (`hold_back`).

3. A JumpReLU's latent whose threshold rose above all that it reads hears nothing of it: thresholds learn from what is
   near them. Those of dead latents sink by a hundredth a step, until the rate falls (`sink`): on the microworld (a
   million tokens, l0 16) .055 are dead at the end instead of .129, at the same FVU of .0036.

A million rows of "1024-in-128" (topk, seed 0, AuxK with all dead latents; `scripts/study_defaults.py`), MCC / FVU /
dead: without AuxK .662 / .125 / .258; with it .780 / .102 / .032; not held back .750 / .138 / .002; dead after a
twentieth of the run .746 / .108 / .037, and not held back .746 / .108 / .043. With an eighth of the dead latents, which
is the default, .840 / .089 / 0 (`sae.objective.auxiliary`).
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sae.dictionary import Dictionary, JumpRelu, MatchingPursuit
from sae.kernels.marks import places
from sae.objective import Dead

RUN_SHARE = 1 / 200
RESAMPLE_SHARE = 1 / 20
"""Where dead latents begin anew instead: there a latent that is merely rare would lose what it knows."""
LONGEST = 10_000_000
FEWEST_BATCHES = 4
_SINKING = 1 / 100
"""Share of a dead latent's threshold that a step takes."""


def window(dead_after_tokens: int | Literal["auto"], tokens: int, batch: int, share: float = RUN_SHARE) -> int:
    """Tokens without firing after which a latent is dead."""
    if dead_after_tokens != "auto":
        return dead_after_tokens
    return max(min(int(tokens * share), LONGEST), FEWEST_BATCHES * batch)


def count(tokens_since_fired: Int64[Tensor, "d_sae"], fired: Bool[Tensor, "d_sae"], n_tokens: int) -> None:
    """Adds a batch of `n_tokens` to the counters, in place; latents that fired begin again at zero."""
    tokens_since_fired.add_(n_tokens).masked_fill_(fired, 0)


def is_dead(tokens_since_fired: Int64[Tensor, "d_sae"], after: int) -> Bool[Tensor, "d_sae"]:
    """Latents that have not fired for `after` tokens."""
    return tokens_since_fired >= after


def n_dead_after(
    tokens_since_fired: Int64[Tensor, "d_sae"], fired: Bool[Tensor, "d_sae"], n_tokens: int, after: int
) -> Int64[Tensor, ""]:
    """How many latents will be dead once a batch is counted."""
    return is_dead((tokens_since_fired + n_tokens).masked_fill_(fired, 0), after).sum()


class Counted(NamedTuple):
    """How many latents are dead, as long as nobody else writes to the counters."""

    n: int
    after: int
    """Tokens after which they are."""
    version: int
    """torch's, of the counters."""


def known(counted: Counted | None, tokens_since_fired: Int64[Tensor, "d_sae"], after: int) -> int | None:
    """What was counted, if that is what the counters still say."""
    same = counted is not None and (counted.after, counted.version) == (after, tokens_since_fired._version)
    return counted.n if counted is not None and same else None


@torch.no_grad()
def hold_back(dictionary: Dictionary, dead: Dead) -> None:
    """Shortens the encoder rows of dead latents to the mean norm of the others, and lowers their biases to the mean, in
    place; unit rows of matching pursuit are what they are.
    """
    latents, d_sae = places(dead.marks, dead.n), len(dead.marks)
    if not 0 < len(latents) < d_sae or isinstance(dictionary.config.activation, MatchingPursuit):
        return
    norms = dictionary.encoder_rows.norm(dim=1)
    others = places(~dead.marks, d_sae - len(latents))
    shorter = (norms[others].mean() / norms[latents]).clamp(max=1)
    dictionary.encoder_rows[latents] *= shorter[:, None]
    bias = dictionary.b_enc
    bias[latents] = bias[latents].minimum(bias[others].mean())


@torch.no_grad()
def sink(dictionary: Dictionary, dead: Bool[Tensor, "d_sae"]) -> None:
    """Lowers the thresholds of dead latents, in place, where each has its own."""
    if isinstance(dictionary.config.activation, JumpRelu):
        dictionary.threshold.mul_(torch.where(dead, 1 - _SINKING, 1.0))
