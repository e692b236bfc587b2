"""The mesh: ranks in a rectangle, data × dictionary, on torch's DeviceMesh.

Ranks of one `data` axis have the same latents and read different tokens; ranks of one `dictionary` axis read the same
tokens and have different latents. In a world of one both axes are alone.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as distributed
from torch.distributed.device_mesh import init_device_mesh

from sae.core.errors import InputError
from sae.parallel.axis import Alone, Axis, Ranks

_LONGEST_WAIT = timedelta(hours=2)
"""For ranks to come to a collective: rank 0 may be writing a large checkpoint meanwhile."""


@dataclass(frozen=True)
class Mesh:
    """The two axes that this process is on."""

    data: Axis
    dictionary: Axis

    @staticmethod
    def alone() -> "Mesh":
        """A world of one."""
        return Mesh(Alone(), Alone())

    @staticmethod
    def over_processes(n_dictionary: int = 1, device: torch.device | str = "cpu") -> "Mesh":
        """All processes of the initialised group; alone where there is none.

        Args:
            n_dictionary: ranks that divide the latents; the others divide the tokens.
            device: of this process.

        Raises:
            InputError: the number of processes is no multiple of `n_dictionary`.
        """
        n = distributed.get_world_size() if distributed.is_initialized() else 1
        if n_dictionary < 1 or n % n_dictionary:
            raise InputError(f"{n} processes cannot be divided into groups of {n_dictionary} that share the latents")
        if n == 1:
            return Mesh.alone()
        where = torch.device(device)
        ranks = init_device_mesh(where.type, (n // n_dictionary, n_dictionary), mesh_dim_names=("data", "dictionary"))
        data, dictionary = (
            Ranks(ranks.get_group(name), where) if ranks.size(dim) > 1 else Alone()
            for dim, name in enumerate(("data", "dictionary"))
        )
        return Mesh(data, dictionary)

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.data.size * self.dictionary.size

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.data.rank == 0 and self.dictionary.rank == 0

    def wait(self) -> None:
        """Returns when every process has come here."""
        self.dictionary.wait()
        self.data.wait()


def n_processes() -> int:
    """Processes that torchrun started together; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is rank 0 of those that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def started(device: torch.device | str = "cpu", n_dictionary: int = 1) -> Iterator[Mesh]:
    """The mesh of the processes that torchrun started, gloo on the CPU and nccl on GPUs; without torchrun alone.

    Args:
        device: where to compute; of several GPUs each process takes the one of its local rank.
        n_dictionary: ranks that divide the latents.

    Raises:
        InputError: the number of processes is no multiple of `n_dictionary`.
    """
    if n_processes() == 1:
        yield Mesh.over_processes(n_dictionary, device)
        return
    where = torch.device(device)
    if where.type == "cuda":
        where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(where)
    distributed.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield Mesh.over_processes(n_dictionary, where)
    finally:
        distributed.destroy_process_group()
