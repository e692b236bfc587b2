"""`features.h5`: the numbers of every latent, a row each.

`n_active`, `max`, `mean`, `histogram` (over the common `histogram_edges`), `neighbour_latents`, `neighbour_cosines`,
`promoted_ids`, `promoted_logits`, `suppressed_ids`, `suppressed_logits` (no columns where the site is not part of the
residual stream), and the scalar `n_tokens`. The same input gives the same bytes.
"""

from pathlib import Path

import h5py
import numpy as np

from sae.catalogue.effects import Effects
from sae.catalogue.neighbours import Neighbours
from sae.catalogue.usage import Usage

FILE = "features.h5"


def write_numbers(folder: Path, usage: Usage, effects: Effects, neighbours: Neighbours) -> None:
    """Writes features.h5 into `folder`."""
    columns: dict[str, np.ndarray] = {
        "n_active": usage.n_active,
        "max": usage.max,
        "mean": usage.means.astype(np.float32),
        "histogram": usage.histogram.astype(np.uint32),
        "neighbour_latents": neighbours.latents.int().cpu().numpy(),
        "neighbour_cosines": neighbours.cosines.cpu().numpy(),
        "promoted_ids": effects.promoted_ids,
        "promoted_logits": effects.promoted_logits,
        "suppressed_ids": effects.suppressed_ids,
        "suppressed_logits": effects.suppressed_logits,
    }
    with h5py.File(folder / FILE, "w") as file:
        file.create_dataset("n_tokens", data=usage.n_tokens)
        file.create_dataset("histogram_edges", data=usage.edges)
        for name, column in columns.items():
            # Most bins are empty; HDF5 refuses to chunk, so to pack, a dataset without columns.
            packed = {"compression": "gzip", "compression_opts": 1} if name == "histogram" and column.size else {}
            file.create_dataset(name, data=column, **packed)
