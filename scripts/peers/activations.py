"""What every contender of the training benchmark trains on: sparse sums of directions, as a file of float32 rows.

Each row is `N_ACTIVE` of 4 d random unit directions, weighted between a half and one and a half, plus a tenth of noise.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import embedding_bag, normalize

N_ACTIVE = 20
N_BATCHES = 4


@dataclass(frozen=True)
class Size:
    """Of activations, dictionary and batch, and how long is measured."""

    name: str
    d: int
    d_sae: int
    batch: int
    """Tokens a step."""
    n_steps: int
    """In one window."""
    n_rounds: int
    k: int = 32
    dead: float = 0.0
    """Share of our latents that count as dead at every step."""


SIZES = (
    Size("small", 288, 4096, 2048, n_steps=6, n_rounds=5),
    Size("middle", 512, 8192, 4096, n_steps=2, n_rounds=5),
    Size("large", 768, 24576, 4096, n_steps=1, n_rounds=5),
)
QUICK = Size("quick", 32, 256, 128, n_steps=2, n_rounds=2, k=8)


def rows(size: Size) -> torch.Tensor:
    """`N_BATCHES` batches."""
    g = torch.Generator().manual_seed(0)
    directions = normalize(torch.randn(4 * size.d, size.d, generator=g))
    n = N_BATCHES * size.batch
    which = torch.randint(0, len(directions), (n, N_ACTIVE), generator=g)
    weights = torch.rand(n, N_ACTIVE, generator=g) + 0.5
    x = embedding_bag(which, directions, per_sample_weights=weights, mode="sum")
    return x + torch.randn(n, size.d, generator=g) * 0.1 * x.norm(dim=1).mean() / size.d**0.5


def write_settings(
    file: Path, size: Size, preset: str, x: torch.Tensor, n_threads: int, weights: Path | None = None
) -> None:
    """What a peer's program reads; `weights` is a file of `peers.trained`, where it does not start from its own."""
    data = file.with_suffix(".npy")
    np.save(data, x.numpy())
    said = {**asdict(size), "preset": preset, "activations": str(data), "n_threads": n_threads, "device": "cpu"}
    said["weights"] = None if weights is None else str(weights)
    file.write_text(json.dumps(said), encoding="utf-8")
