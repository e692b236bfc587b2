"""sparsify's `Trainer.fit`, whole, over a stand-in model whose only layer hands out the activations.

`fit` runs in a thread; the stand-in waits at the beginning of each of its steps until a run allows more. On a GPU its
own Triton kernels decode, and its own forward pass is under autocast to bfloat16: neither is asked for here.
"""

# pyright: reportMissingImports=false
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving import Done, finish, pool, serve, settings, timed

MANY_STEPS = 1_000_000


def load() -> Callable[[], Done]:
    said = settings()
    import torch

    allowed, begun = threading.Semaphore(0), threading.Semaphore(0)

    def at_step() -> None:
        begun.release()
        allowed.acquire()

    def fit() -> None:
        torch.set_num_threads(said["n_threads"])
        try:
            _trainer(said, pool(said), at_step).fit()
        finally:  # it has more steps than anybody asks for: only an error ends it, and who waits would wait on
            traceback.print_exc()
            os._exit(1)

    threading.Thread(target=fit, daemon=True).start()
    begun.acquire()

    def steps() -> int:
        for _ in range(said["n_steps"]):
            allowed.release()
            begun.acquire()
        finish(said)
        return said["n_steps"] * said["batch"]

    return lambda: timed(steps)


def _trainer(said: dict[str, Any], x: Any, at_step: Callable[[], None]) -> Any:
    import torch
    from sparsify import SaeConfig, TrainConfig, Trainer

    length = min(256, said["batch"])

    class Handing(torch.nn.Module):
        """Looks like a Hugging Face model; its layer's output is rows of x."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Identity()])
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.config = type("Config", (), {"num_hidden_layers": 1})()
            self.device = torch.device(said["device"])
            self.dummy_inputs = {"input_ids": torch.zeros(1, 2, dtype=torch.long)}

        @property
        def base_model(self) -> "Handing":
            return self

        def forward(self, input_ids: Any) -> Any:
            if input_ids.shape != (1, 2):
                at_step()
            return self.layers[0](x[input_ids])

    class Windows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return MANY_STEPS * (said["batch"] // length)

        def __getitem__(self, i: int) -> dict[str, Any]:
            start = i * length % len(x)
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
