"""Matching pursuit: k times, take the latent that correlates most with what is left, and subtract its part.

    f_j = argmax over f not yet taken of r_j · w_f        z_j = ReLU(r_j · w_f_j)        r_{j+1} = r_j − z_j w_f_j

Mallat and Zhang 1993, "Matching pursuits with time-frequency dictionaries"; as a dictionary's encoder: Costa et al.
2025, arXiv:2506.03093. Rows have unit norm. A latent is taken at most once, so that a code's indices are distinct.
Gradients flow through every value and what is left, not through the choice. It costs k products with all rows.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.kernels import FixedCode


def pursue(x: Float[Tensor, "*token d"], rows: Float[Tensor, "d_sae d"], k: int) -> FixedCode:
    """The code of activations, values descending."""
    left = x.reshape(-1, x.shape[-1])
    taken = torch.zeros(len(left), len(rows), dtype=torch.bool, device=x.device)
    values, indices = [], []
    for _ in range(k):
        with torch.no_grad():
            chosen = (left @ rows.T).masked_fill_(taken, -torch.inf).argmax(1)
            taken.scatter_(1, chosen[:, None], True)
        directions = rows[chosen]
        value = (left * directions).sum(1).relu()  # autocast would take a product of matrices in bfloat16
        left = left - value[:, None] * directions
        values.append(value)
        indices.append(chosen)
    stacked, order = torch.stack(values, dim=1).sort(dim=1, descending=True, stable=True)
    shape = (*x.shape[:-1], k)
    return FixedCode(stacked.view(shape), torch.stack(indices, dim=1).gather(1, order).view(shape), len(rows))
