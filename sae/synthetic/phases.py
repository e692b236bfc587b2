"""The phase diagram of two features in one dimension: ignored, dedicated, or superposed.

The first feature has importance 1, the second importance r; both have density p. Of several restarts the one with the
least loss counts: where both weights begin with the same sign, which happens half of the time, gradient descent seldom
finds the antipodal pair. Elhage et al. 2022, "Toy models of superposition".
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae.synthetic.geometry import represented
from sae.synthetic.toys import ToyConfig, train_toys

Phase = Literal["ignored", "dedicated", "superposed"]


def phase_diagram(
    densities: Float[Tensor, "density"],
    importances: Float[Tensor, "importance"],
    config: ToyConfig,
    n_restarts: int = 8,
) -> list[list[Phase]]:
    """What becomes of the second feature, by density and relative importance.

    Args:
        densities: p, rows of the result.
        importances: r, columns of it.
        config: two features in one dimension, and how they are trained.
        n_restarts: models trained for every cell.
    """
    p, r = torch.meshgrid(densities, importances, indexing="ij")
    p, r = (each.flatten().repeat(n_restarts) for each in (p, r))
    toys = train_toys(config, p, torch.stack([torch.ones_like(r), r], 1))
    n_cells = len(densities) * len(importances)
    best = toys.losses.view(n_restarts, n_cells).argmin(0)
    W = toys.W.view(n_restarts, n_cells, 2)[best, torch.arange(n_cells)]
    cells: list[Phase] = [phase(w) for w in W]
    return [cells[start : start + len(importances)] for start in range(0, n_cells, len(importances))]


def phase(w: Float[Tensor, "2"]) -> Phase:
    """Of the second of two features in one dimension."""
    first, second = represented(w[None]).tolist()
    if first and second:
        return "superposed"
    return "dedicated" if second else "ignored"
