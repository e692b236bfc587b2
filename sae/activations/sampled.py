"""Covariance over a sample of the rows, so that it stays cheap: one row of every k, k = d / 12 but at most 64.

1. Within the j-th group of k rows the one at ⌊k · frac(j φ)⌋ is taken, φ the golden ratio: no period of the text, such
   as a window of 128 rows, falls in step with it.
2. Sampled rows wait until there are 512; their scatter about their own mean m is a product in float32, added up in
   float64 as Σxxᵀ = Σ(x − m)(x − m)ᵀ + m sᵀ + (s − n m) mᵀ with s = Σx, so that a large mean costs no digits. What
   lies below blocks on the diagonal is mirrored when it is asked for: half of the product is not computed.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.streams import Covariance

_WAITING = 512
_STRIP = 128
"""Columns of a block on the diagonal."""
_GOLDEN = 0.6180339887498949


def every(d: int) -> int:
    """Of how many rows one is taken, for rows of width d."""
    return min(64, max(1, d // 12))


class Sampled:
    """The covariance of one row of every `every(d)`."""

    def __init__(self, d: int) -> None:
        self.every = every(d)
        self.n_seen = 0
        self._covariance = Covariance(d)
        self._waiting: list[Tensor] = []
        self._n_waiting = 0

    def update(self, x: Float[Tensor, "row d"]) -> None:
        """Adds the sampled ones of these rows."""
        first, last = self.n_seen // self.every, (self.n_seen + len(x)) // self.every
        groups = np.arange(first, last + 1)
        rows = groups * self.every + (self.every * (groups * _GOLDEN % 1)).astype(np.int64) - self.n_seen
        rows = rows[(rows >= 0) & (rows < len(x))]
        self.n_seen += len(x)
        self._waiting.append(x[torch.from_numpy(rows)].float())
        self._n_waiting += len(rows)
        if self._n_waiting >= _WAITING:
            self._add_waiting()

    def _add_waiting(self) -> None:
        if self._n_waiting == 0:
            return
        x = torch.cat(self._waiting)
        mean = x.mean(0)
        centred = x - mean
        about, total, c = mean.double(), x.double().sum(0), self._covariance
        c.count += len(x)
        c.sum += total
        left, right = torch.stack([about, total - len(x) * about]), torch.stack([total, about])
        for i in range(0, len(mean), _STRIP):
            strip = c.sum_products[i : i + _STRIP, i:]
            strip += centred[:, i : i + _STRIP].T @ centred[:, i:]
            strip.addmm_(left[:, i : i + _STRIP].T, right[:, i:])
        self._waiting, self._n_waiting = [], 0

    @property
    def covariance(self) -> Covariance:
        """Of what was sampled so far."""
        self._add_waiting()
        products = self._covariance.sum_products
        for i in range(0, len(products), _STRIP):
            products[i + _STRIP :, i : i + _STRIP] = products[i : i + _STRIP, i + _STRIP :].T
        return self._covariance

    def merge(self, other: "Sampled") -> None:
        """Adds everything that `other` has seen."""
        self.covariance.merge(other.covariance)
        self.n_seen += other.n_seen

    def tensors(self) -> dict[str, Tensor]:
        """All sums, for a file."""
        c = self.covariance
        counts = torch.tensor([self.n_seen, c.count])
        return {"sampled": counts, "sampled_sum": c.sum.clone(), "sampled_products": c.sum_products.clone()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The exact inverse of `tensors`."""
        self.n_seen, self._covariance.count = (int(n) for n in tensors["sampled"])
        self._covariance.sum.copy_(tensors["sampled_sum"])
        self._covariance.sum_products.copy_(tensors["sampled_products"])
