"""What each process of `test_two_processes` does; its results are written for the test to judge.

Rank 1 ends first; what rank 0 hears when it asks for it then is written, too.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=… MASTER_PORT=… python ranks.py FOLDER
"""

import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook
from safetensors.torch import save_file

with install_import_hook("sae", "beartype.beartype"):
    from trajectory import RUNS, train

    from sae.core.errors import InputError, WorldError
    from sae.kernels import reference, sparse_decode
    from sae.parallel import Axis, Mesh, selected, share, started


def collectives(axis: Axis) -> dict[str, torch.Tensor]:
    """Every collective, on numbers that differ between the ranks."""
    own = torch.arange(6, dtype=torch.float64).view(2, 3) + 10 * axis.rank
    x = own.clone().requires_grad_()
    (axis.sum(x.square()).prod() * (axis.rank + 1)).backward()
    assert x.grad is not None
    grad = x.grad.clone()
    return {
        "sum": axis.sum(own),
        "mean": axis.mean(own),
        "sum_": axis.sum_(own.clone()),
        "sum_of_columns": axis.sum_(own.clone().T),
        "mean_": axis.mean_(own.clone()),
        "max_": axis.max_(own.clone() * (-1) ** axis.rank),
        "any": axis.any(torch.tensor([axis.rank == 0, axis.rank == 1, False])),
        "broadcast_": axis.broadcast_(own.clone(), axis.size - 1),
        "gather": torch.cat(axis.gather(own[: 1 + axis.rank])),
        "total": torch.tensor(axis.total(axis.rank + 1)),
        "gradient": grad,
    }


def shared_latents(axis: Axis) -> dict[str, torch.Tensor]:
    """A loss of the k largest of latents that the ranks divide: its value, and each rank's gradients."""
    g = torch.Generator().manual_seed(0)
    x, rows, W_dec = (torch.randn(*size, generator=g, dtype=torch.float64) for size in ((9, 4), (11, 4), (11, 4)))
    mine = share(11, axis.rank, axis.size)
    rows, W_dec = rows[mine].requires_grad_(), W_dec[mine].requires_grad_()
    own = reference.topk(x @ rows.T, min(3, len(rows)))
    y = axis.sum(sparse_decode(selected(own, axis, 3), W_dec))
    loss = (x - y).square().sum()
    (loss / axis.size).backward()
    assert rows.grad is not None
    assert W_dec.grad is not None
    return {"loss": loss.detach(), "rows": rows.grad, "W_dec": W_dec.grad}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with started("cpu") as mesh:
        results = {f"data.{name}": value for name, value in collectives(mesh.data).items()}
        across = Mesh.over_processes(n_dictionary=2)
        assert (mesh.data.size, mesh.dictionary.size, across.data.size, across.dictionary.size) == (2, 1, 1, 2)
        assert mesh.is_first == across.is_first == (mesh.data.rank == 0)
        results |= {f"latents.{name}": value for name, value in shared_latents(across.dictionary).items()}
        with pytest.raises(InputError, match="2 processes cannot be divided into groups of 3"):
            Mesh.over_processes(n_dictionary=3)
        for name in RUNS:
            results |= {f"run.{name}.{key}": value for key, value in train(name, mesh).items()}
        mesh.wait()
        save_file(
            {name: x.clone().contiguous() for name, x in results.items()}, folder / f"{mesh.data.rank}.safetensors"
        )
        if mesh.is_first:
            try:
                while True:
                    mesh.data.total(1)
            except WorldError as error:
                (folder / "heard").write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
