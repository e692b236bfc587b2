"""A dictionary: sparse codes of activations over learned directions.

    h = (x − b_dec) W_enc + b_enc        z = activation(h)        y = z W_dec + b_dec  (+ W_skip x)

`decode` is affine in the code. Parameters are in the units of the model (a trainer folds its input scale in), and
both matrices are stored contiguous by latent, so that what touches k latents reads k rows. A dictionary is made in
evaluation mode; only BatchTopK tells the modes apart.
"""

from pathlib import Path
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae import kernels
from sae.core.errors import InputError
from sae.dictionary import files, thresholds
from sae.dictionary.config import BatchTopK, DictionaryConfig, Gated, JumpRelu, MatchingPursuit, Relu, TopK
from sae.dictionary.linear import Encoded, Linear
from sae.dictionary.parameters import add_to, named_in_file
from sae.dictionary.pursuit import pursue
from sae.kernels import Code


class Dictionary(nn.Module):
    """Encoder, activation and decoder; all parameters zero until they are set or loaded.

    Args:
        config: sizes and activation.

    Raises:
        InputError: sizes that do not fit each other.
    """

    encoder_rows: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter
    W_skip: nn.Parameter
    """[d_out, d_in]; only where the configuration has a skip."""
    threshold: Tensor
    """[d_sae] for JumpReLU, one number for BatchTopK; only there."""
    r_mag: nn.Parameter
    b_mag: nn.Parameter

    def __init__(self, config: DictionaryConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        add_to(self, config)
        self.eval()

    @property
    def W_enc(self) -> Float[Tensor, "d_in d_sae"]:  # noqa: N802 (the field's name)
        """The encoder as a matrix from activations to latents; a view of `encoder_rows`."""
        return self.encoder_rows.T

    @property
    def d_in(self) -> int:
        return self.config.d_in

    @property
    def d_out(self) -> int:
        return self.config.d_out

    @property
    def d_sae(self) -> int:
        return self.config.d_sae

    def centred(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token d_in"]:
        """What the linear map reads: x, less the decoder's bias in an autoencoder."""
        x = self._wide(x)
        return x if self._centre is None else x - self._centre

    def pre_activations(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token d_sae"]:
        """The linear map alone, [..., d_sae]; dense, so for a few tokens at a time."""
        return self._linear(x).whole()

    def encode(self, x: Float[Tensor, "*token d_in"]) -> Code:
        """The sparse code of activations with any leading axes.

        Raises:
            InputError: x has another width than `d_in`.
        """
        return self.encoded(x).code

    def encoded(
        self, x: Float[Tensor, "*token d_in"], selection: torch.dtype | None = None, marks: bool = False
    ) -> Encoded:
        """As `encode`, with what an objective may need beside the code.

        With a `selection` of less precision than x, latents are chosen in it and their values computed in x's. With
        `marks` the caller takes up `Encoded.near`, where thresholds have part of their gradient.
        """
        linear = self._linear(x, selection)
        match self.config.activation:
            case TopK(k=k):
                x, rows, bias, centre, _ = linear
                return _alone(kernels.encode_topk(x, rows, bias, k, centre, selection))
            case BatchTopK(k=k) if self.training:
                x, rows, bias, centre, _ = linear
                return _alone(kernels.encode_batchtopk(x, rows, bias, k, centre, selection))
            case JumpRelu(bandwidth=bandwidth) if self.training:
                return thresholds.jumprelu(linear, self.threshold, bandwidth, marks)
            case BatchTopK() | JumpRelu():
                x, rows, bias, centre, _ = linear
                return _alone(kernels.encode_threshold(x, rows, bias, self.threshold, centre, selection))
            case Relu():
                return thresholds.relu(linear)
            case Gated():
                return thresholds.gated(linear, self.r_mag, self.b_mag)
            case MatchingPursuit(k=k):
                return _alone(pursue(self.centred(x), self.W_dec, k))
            case _:
                assert_never(self.config.activation)

    @property
    def _centre(self) -> Float[Tensor, "d_in"] | None:
        return self.b_dec if self.config.subtract_b_dec else None

    def _wide(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token d_in"]:
        """x, of the width that it must have."""
        if x.shape[-1] != self.d_in:
            raise InputError(f"the dictionary reads activations of width {self.d_in}, got width {x.shape[-1]}")
        return x

    def _linear(self, x: Float[Tensor, "*token d_in"], selection: torch.dtype | None = None) -> Linear:
        return Linear(self._wide(x), self.encoder_rows, self.b_enc, self._centre, selection)

    def decode(self, code: Code) -> Float[Tensor, "*token d_out"]:
        """The activations that a code stands for.

        Raises:
            InputError: the code is of a dictionary with another number of latents.
        """
        if code.d_sae != self.d_sae:
            raise InputError(f"the dictionary has {self.d_sae} latents, the code {code.d_sae}")
        y = kernels.sparse_decode(code, self.W_dec)
        # Into y itself, which nobody else holds: a sum of its own would be another tensor of tokens × d. Where y is a
        # view of what was computed, autograd would copy more than that spares.
        return y.add_(self.b_dec) if y.ndim == 2 and y.dtype == self.b_dec.dtype else y + self.b_dec

    def forward(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token d_out"]:
        """decode(encode(x)), plus what a transcoder's skip adds."""
        return self.with_skip(self.decode(self.encode(x)), x)

    def with_skip(self, y: Float[Tensor, "*token d_out"], x: Float[Tensor, "*token d_in"]) -> Tensor:
        """y + W_skip x; y itself where there is no skip."""
        return y + x @ self.W_skip.T if self.config.skip else y

    def copy(self) -> "Dictionary":
        """Another one with the same values."""
        made = Dictionary(self.config).to(self.b_dec)
        made.load_state_dict(self.state_dict())
        return made

    def save(self, folder: Path | str) -> None:
        """Writes `weights.safetensors` and `config.yaml` into `folder`; equal dictionaries give equal bytes."""
        weights = {named_in_file(name): value for name, value in self.state_dict().items()}
        files.write(Path(folder), self.config, weights)


def _alone(code: Code) -> Encoded:
    """A code that decides for itself."""
    return Encoded(code, code)


def load(folder: Path | str, device: torch.device | str = "cpu") -> Dictionary:
    """Reads a dictionary that `Dictionary.save` wrote.

    Raises:
        InputError: `folder` holds no dictionary.
        WorldError: its files are damaged.
    """
    config = files.read_config(Path(folder))
    dictionary = Dictionary(config)
    state = dictionary.state_dict()
    weights = files.read_weights(Path(folder), {named_in_file(n): tuple(v.shape) for n, v in state.items()})
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(weights[named_in_file(name)])
    return dictionary.to(device)
