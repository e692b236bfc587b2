"""sparsify's `Trainer.fit`, whole, over a stand-in model whose only layer hands out the activations.

`fit` runs in a thread; the stand-in waits at the beginning of each of its steps until a run allows more.
"""

# pyright: reportMissingImports=false
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving import Done, serve, settings, timed

MANY_STEPS = 1_000_000


def load() -> Callable[[], Done]:
    said = settings()
    import numpy as np
    import torch

    allowed, begun = threading.Semaphore(0), threading.Semaphore(0)

    def at_step() -> None:
        begun.release()
        allowed.acquire()

    def fit() -> None:
        torch.set_num_threads(said["n_threads"])
        _trainer(said, torch.from_numpy(np.load(said["activations"])), at_step).fit()

    threading.Thread(target=fit, daemon=True).start()
    begun.acquire()

    def steps() -> int:
        for _ in range(said["n_steps"]):
            allowed.release()
            begun.acquire()
        return said["n_steps"] * said["batch"]

    return lambda: timed(steps)


def _trainer(said: dict[str, Any], pool: Any, at_step: Callable[[], None]) -> Any:
    import torch
    from sparsify import SaeConfig, TrainConfig, Trainer

    length = min(256, said["batch"])

    class Handing(torch.nn.Module):
        """Looks like a Hugging Face model; its layer's output is rows of the pool."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Identity()])
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.config = type("Config", (), {"num_hidden_layers": 1})()
            self.device = torch.device("cpu")
            self.dummy_inputs = {"input_ids": torch.zeros(1, 2, dtype=torch.long)}

        @property
        def base_model(self) -> "Handing":
            return self

        def forward(self, input_ids: Any) -> Any:
            if input_ids.shape != (1, 2):
                at_step()
            return self.layers[0](pool[input_ids])

    class Windows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return MANY_STEPS * (said["batch"] // length)

        def __getitem__(self, i: int) -> dict[str, Any]:
            start = i * length % len(pool)
            return {"input_ids": torch.arange(start, start + length)}

    config = TrainConfig(
        SaeConfig(num_latents=said["d_sae"], k=said["k"]),
        batch_size=said["batch"] // length,
        hookpoints=["layers.0"],
        log_to_wandb=False,
        save_every=10**9,
        save_dir=str(Path(sys.argv[1]).with_suffix(".sparsify")),
    )
    return Trainer(config, Windows(), Handing())


if __name__ == "__main__":
    serve(load)
