"""Named random streams from one seed: adding a consumer never shifts the numbers of another."""

import hashlib

import numpy as np
import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` under `seed`; differs for every name and every seed."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A torch generator on the CPU for the stream `names`."""
    return torch.Generator().manual_seed(stream_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the stream `names`."""
    return np.random.default_rng(stream_seed(seed, *names))
