"""A dictionary: sparse codes of activations over learned directions.

    h = (x − b_dec) W_enc + b_enc        z = activation(h)        y = z W_dec + b_dec

`decode` is affine in the code. Parameters are in the units of the model (a trainer folds its input scale in), and
both matrices are stored contiguous by latent, so that what touches k latents reads k rows.
"""

from pathlib import Path
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae import kernels
from sae.core.errors import InputError
from sae.dictionary import files
from sae.dictionary.config import DictionaryConfig, Relu, TopK
from sae.kernels import Code, DenseCode


class Dictionary(nn.Module):
    """Encoder, activation and decoder; all parameters zero until they are set or loaded.

    Args:
        config: sizes and activation.

    Raises:
        InputError: sizes that do not fit each other.
    """

    def __init__(self, config: DictionaryConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.encoder_rows = nn.Parameter(torch.zeros(config.d_sae, config.d_in))
        self.b_enc = nn.Parameter(torch.zeros(config.d_sae))
        self.W_dec = nn.Parameter(torch.zeros(config.d_sae, config.d_out))
        self.b_dec = nn.Parameter(torch.zeros(config.d_out))

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
        if x.shape[-1] != self.d_in:
            raise InputError(f"the dictionary reads activations of width {self.d_in}, got width {x.shape[-1]}")
        return x - self.b_dec if self.config.subtract_b_dec else x

    def pre_activations(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token d_sae"]:
        """The linear map alone, [..., d_sae]; dense, so for a few tokens at a time."""
        return self.centred(x) @ self.W_enc + self.b_enc

    def encode(self, x: Float[Tensor, "*token d_in"]) -> Code:
        """The sparse code of activations with any leading axes.

        Raises:
            InputError: x has another width than `d_in`.
        """
        match self.config.activation:
            case TopK(k=k):
                return kernels.encode_topk(self.centred(x), self.encoder_rows, self.b_enc, k)
            case Relu():
                return DenseCode(self.pre_activations(x).relu())
            case _:
                assert_never(self.config.activation)

    def decode(self, code: Code) -> Float[Tensor, "*token d_out"]:
        """The activations that a code stands for.

        Raises:
            InputError: the code is of a dictionary with another number of latents.
        """
        if code.d_sae != self.d_sae:
            raise InputError(f"the dictionary has {self.d_sae} latents, the code {code.d_sae}")
        return kernels.sparse_decode(code, self.W_dec) + self.b_dec

    def forward(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token d_out"]:
        """decode(encode(x))."""
        return self.decode(self.encode(x))

    def save(self, folder: Path | str) -> None:
        """Writes `weights.safetensors` and `config.yaml` into `folder`; equal dictionaries give equal bytes."""
        weights = {name: getattr(self, attribute) for name, attribute in _SAVED.items()}
        files.write(Path(folder), self.config, weights)


_SAVED = {"W_enc": "encoder_rows", "W_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec"}
"""Name in the file to name in the module. `W_enc` is saved as [d_sae, d_in], contiguous by latent."""


def load(folder: Path | str, device: torch.device | str = "cpu") -> Dictionary:
    """Reads a dictionary that `Dictionary.save` wrote.

    Raises:
        InputError: `folder` holds no dictionary.
        WorldError: its files are damaged.
    """
    config = files.read_config(Path(folder))
    dictionary = Dictionary(config)
    expected = {name: tuple(getattr(dictionary, attribute).shape) for name, attribute in _SAVED.items()}
    weights = files.read_weights(Path(folder), expected)
    with torch.no_grad():
        for name, attribute in _SAVED.items():
            getattr(dictionary, attribute).copy_(weights[name])
    return dictionary.to(device)
