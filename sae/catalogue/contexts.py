"""The stretch of document around each example, and the latent's activation on every token of it.

Activations come from a second reading of the same blocks of rows, of which only the wanted (row, latent) pairs are
kept; a block is encoded once, whatever the number of examples in it.
"""

from dataclasses import dataclass
from typing import NamedTuple, assert_never

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from sae.catalogue.top_examples import Entries
from sae.kernels.code import Code, DenseCode, FixedCode, RaggedCode

BEFORE, AFTER = 20, 10
WIDTH = BEFORE + 1 + AFTER


class Stretch(NamedTuple):
    """One example's tokens and what the latent does on them."""

    ids: Int[np.ndarray, "token"]
    values: Float[np.ndarray, "token"]
    peak: int
    """Which of them is the example's own token."""


@dataclass(frozen=True)
class Contexts:
    """Windows of `WIDTH` positions around every example, cut to its document; filled by `read`."""

    examples: Entries
    lengths: Int[np.ndarray, "document"]
    """Length of every document of the token stream."""
    values: Float[np.ndarray, "example width"]

    @classmethod
    def around(cls, examples: Entries, lengths: Int[np.ndarray, "document"]) -> "Contexts":
        """Windows whose activations are still to be read."""
        return cls(examples, lengths, np.zeros((len(examples), WIDTH), dtype=np.float32))

    def read(self, documents: Int[np.ndarray, "row"], positions: Int[np.ndarray, "row"], code: Code) -> None:
        """Takes from a block of rows the activations that examples ask for."""
        if len(documents) == 0:
            return
        stride = int(self.lengths.max()) + WIDTH
        keys = documents.astype(np.int64) * stride + positions
        order = np.argsort(keys, kind="stable")
        near = (self.examples.document >= documents.min()) & (self.examples.document <= documents.max())
        chosen = np.flatnonzero(near)
        wanted = self.examples.document[chosen, None] * stride + self._positions(chosen)
        place = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        found = (keys[order][place] == wanted) & self._inside(chosen)
        example, offset = np.nonzero(found)
        rows = order[place[example, offset]]
        self.values[chosen[example], offset] = pick(code, rows, self.examples.latent[chosen[example]])

    def stretch(self, example: int, ids: Int[np.ndarray, "length"]) -> Stretch:
        """The tokens of an example, given the ids of its whole document."""
        inside = self._inside(np.array([example]))[0]
        positions = self._positions(np.array([example]))[0][inside]
        return Stretch(ids[positions], self.values[example][inside], int(inside[:BEFORE].sum()))

    def _positions(self, examples: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n width"]:
        return self.examples.position[examples, None] + np.arange(-BEFORE, AFTER + 1)

    def _inside(self, examples: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n width"]:
        positions = self._positions(examples)
        return (positions >= 0) & (positions < self.lengths[self.examples.document[examples], None])


def pick(code: Code, rows: Int[np.ndarray, "n"], latents: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Activation of `latents[i]` on token `rows[i]`."""
    row, latent = torch.from_numpy(rows).to(code.values.device), torch.from_numpy(latents).to(code.values.device)
    match code:
        case DenseCode(values=values):
            picked = values[row, latent]
        case FixedCode(values=values, indices=indices):
            picked = (values[row] * (indices[row] == latent[:, None])).sum(-1)
        case RaggedCode():
            picked = _pick_pairs(code, row * code.d_sae + latent)
        case _:
            assert_never(code)
    return picked.float().cpu().numpy()


def _pick_pairs(code: RaggedCode, wanted: Int[torch.Tensor, "n"]) -> Float[torch.Tensor, "n"]:
    """Values of the pairs whose key token · d_sae + latent is asked for; zero where there is none."""
    keys, order = (code.tokens * code.d_sae + code.indices).sort()
    if not len(keys):
        return code.values.new_zeros(len(wanted))
    place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    return code.values[order[place]] * (keys[place] == wanted)
