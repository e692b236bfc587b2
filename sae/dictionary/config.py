"""What a dictionary is: its sizes and its activation, a closed union dispatched by `match`."""

from typing import Annotated, Literal

from pydantic import Field

from sae.core.config import Strict
from sae.core.errors import InputError


class TopK(Strict):
    """The k largest pre-activations of each token, negative ones set to zero (Gao et al. 2024, arXiv:2406.04093)."""

    kind: Literal["topk"] = "topk"
    k: int = Field(ge=1)
    """Latents kept for each token."""


class Relu(Strict):
    """Every positive pre-activation (Bricken et al. 2023, "Towards monosemanticity")."""

    kind: Literal["relu"] = "relu"


Activation = Annotated[TopK | Relu, Field(discriminator="kind")]


class DictionaryConfig(Strict):
    """Sizes, activation, and the place that the dictionary reads."""

    d_in: int = Field(ge=1)
    """Width of the activations that it reads."""
    d_out: int = Field(ge=1)
    """Width of the activations that it writes."""
    d_sae: int = Field(ge=1)
    """Number of latents."""
    activation: Activation
    """What turns pre-activations into a code."""
    subtract_b_dec: bool = True
    """The decoder's bias is subtracted from the input before encoding, as in an autoencoder."""
    site: str | None = None
    """Place in the model whose activations it was trained on."""
    model: str | None = None
    """Fingerprint of that model."""

    def check(self) -> None:
        """Refuses sizes that do not fit each other.

        Raises:
            InputError: names the two that clash.
        """
        if isinstance(self.activation, TopK) and self.activation.k > self.d_sae:
            raise InputError(f"l0 {self.activation.k} is larger than d_sae {self.d_sae}: there are not so many latents")
        if self.subtract_b_dec and self.d_in != self.d_out:
            raise InputError(f"subtract_b_dec needs d_in = d_out, got {self.d_in} and {self.d_out}; set it to false")
