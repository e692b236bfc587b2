"""What a dictionary is: its sizes and what turns activations into a code, a closed union dispatched by `match`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from sae.core.config import Strict
from sae.core.errors import InputError


class TopK(Strict):
    """The k largest pre-activations of each token, negative ones set to zero (Gao et al. 2024, arXiv:2406.04093)."""

    kind: Literal["topk"] = "topk"
    k: int = Field(ge=1)
    """Latents kept for each token."""


class BatchTopK(Strict):
    """The k · n largest positive pre-activations of a batch of n tokens; in use, those above a threshold.

    Bussmann et al. 2024, arXiv:2412.06410. Training sets the threshold, one number, kept with the weights.
    """

    kind: Literal["batchtopk"] = "batchtopk"
    k: int = Field(ge=1)
    """Latents kept for each token of a batch, on average."""


class Relu(Strict):
    """Every positive pre-activation (Bricken et al. 2023, "Towards monosemanticity")."""

    kind: Literal["relu"] = "relu"


class JumpRelu(Strict):
    """Every pre-activation above its latent's threshold (Rajamanoharan et al. 2024, arXiv:2407.14435)."""

    kind: Literal["jumprelu"] = "jumprelu"
    bandwidth: float = Field(gt=0)
    """Width of the rectangle through which thresholds get a gradient, in units of pre-activations while training."""


class Gated(Strict):
    """One linear map decides what fires, a rescaled one how much (Rajamanoharan et al. 2024, arXiv:2404.16014)."""

    kind: Literal["gated"] = "gated"


class MatchingPursuit(Strict):
    """k times the latent that correlates most with what is left (Costa et al. 2025, arXiv:2506.03093).

    Encoder and decoder are one matrix; it is no linear map, so it has no pre-activations.
    """

    kind: Literal["matching_pursuit"] = "matching_pursuit"
    k: int = Field(ge=1)
    """Latents chosen for each token."""


Activation = Annotated[TopK | BatchTopK | Relu | JumpRelu | Gated | MatchingPursuit, Field(discriminator="kind")]


class Part(Strict):
    """One of several sites whose activations stand side by side in what a crosscoder reads and writes."""

    site: str | None = None
    d: PositiveInt
    """Its width."""
    model: str | None = None
    """Fingerprint of the model that it lies in."""


class DictionaryConfig(Strict):
    """Sizes, activation, and the place that the dictionary reads."""

    d_in: int = Field(ge=1)
    """Width of the activations that it reads."""
    d_out: int = Field(ge=1)
    """Width of the activations that it writes."""
    d_sae: int = Field(ge=1)
    """Number of latents."""
    activation: Activation
    """What turns activations into a code."""
    subtract_b_dec: bool = True
    """The decoder's bias is subtracted from the input before encoding, as in an autoencoder."""
    skip: bool = False
    """Whether a linear map of the input is added to what is decoded, as in a transcoder with a skip connection."""
    site: str | None = None
    """Place in the model whose activations it reads."""
    target: str | None = None
    """Place whose activations it writes, where that is another one: a transcoder."""
    parts: tuple[Part, ...] = ()
    """The sites of a crosscoder, in the order in which they stand side by side; none for any other dictionary."""
    model: str | None = None
    """Fingerprint of the model."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the sites that it writes."""
        return tuple(part.d for part in self.parts) or (self.d_out,)

    def check(self) -> None:
        """Refuses sizes that do not fit each other.

        Raises:
            InputError: names the two that clash.
        """
        k = getattr(self.activation, "k", 1)
        if k > self.d_sae:
            raise InputError(f"l0 {k} is larger than d_sae {self.d_sae}: there are not so many latents")
        if self.subtract_b_dec and self.d_in != self.d_out:
            raise InputError(f"subtract_b_dec needs d_in = d_out, got {self.d_in} and {self.d_out}; set it to false")
        if isinstance(self.activation, MatchingPursuit) and not self.subtract_b_dec:
            raise InputError("matching pursuit explains its own input; subtract_b_dec must be true")
        if sum(self.widths) != self.d_out or (self.parts and self.d_in != self.d_out):
            raise InputError(
                f"parts of widths {list(self.widths)} do not add up to {self.d_in} in and {self.d_out} out"
            )
