"""What is known of one latent: `Feature` and the `Example`s it fires on, all from the test split."""

from sae.core.config import Strict


class Example(Strict):
    """A stretch of a document around the token on which the latent is strongest."""

    document: int
    """Number of the document in the activations' token stream."""
    position: int
    """Position of the strongest token in its document."""
    activation: float
    """Activation on that token."""
    tokens: tuple[str, ...]
    """The tokens around it, as text."""
    values: tuple[float, ...]
    """The latent's activation on each of them; 0 where it is silent, or where the token was not harvested."""
    peak: int
    """Which of `tokens` is the strongest one."""


class TokenEffect(Strict):
    """What one unit of the latent adds to a token's logit, through the unembedding alone."""

    token: str
    token_id: int
    logits_per_unit: float


class Neighbour(Strict):
    """Another latent and the cosine between the decoder directions."""

    latent: int
    cosine: float


class Histogram(Strict):
    """How the non-zero activations are distributed."""

    edges: tuple[float, ...]
    """One more than `counts`; values outside are counted in the first or last bin."""
    counts: tuple[int, ...]


class Feature(Strict):
    """A latent with its evidence."""

    latent: int
    n_tokens: int
    """Tokens that were read."""
    n_active: int
    """Tokens on which the latent is active."""
    density: float
    """`n_active` / `n_tokens`."""
    max_activation: float
    mean_activation: float
    """Mean of the non-zero activations."""
    histogram: Histogram
    examples: tuple[Example, ...]
    """Strongest first, one per document."""
    promoted: tuple[TokenEffect, ...]
    """Most promoted first; empty where the site is not part of the residual stream."""
    suppressed: tuple[TokenEffect, ...]
    """Most suppressed first."""
    neighbours: tuple[Neighbour, ...]
    """Nearest first."""
