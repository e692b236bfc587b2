"""sparsify trains one dictionary with its `Trainer.fit`, over a stand-in model whose only layer hands out the rows."""

# pyright: reportMissingImports=false
import io
import tempfile
from contextlib import redirect_stdout
from typing import Any

from learning import begin, rows, settings, write

LENGTH = 256
"""Rows that stand for one sequence."""


def main() -> None:
    said = settings()
    with redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        dictionary, rate = _fitted(said, folder)

    def encode(x: Any) -> Any:
        import torch

        found = dictionary.encode(x)
        code = torch.zeros(len(x), said["d_sae"], device=said["device"])
        return code.scatter_(1, found.top_indices, found.top_acts.float())

    def decode(code: Any) -> Any:
        top = code.topk(said["k"])
        return dictionary.decode(top.values, top.indices)

    write(said, dictionary.W_dec, encode, decode, rate=rate, settings={"optimizer": "signum", "auxk_alpha": 0.0})


def _fitted(said: dict[str, Any], folder: str) -> tuple[Any, float]:
    import numpy as np
    import torch
    from sparsify import SaeConfig, SparseCoder, TrainConfig, Trainer

    if said["device"] != "cpu":  # in float32, as on a processor: without the autocast that it is wrapped in
        SparseCoder.forward = vars(SparseCoder.forward)["__wrapped__"]
    begin()
    pool = rows(said, "train")
    n_steps = len(pool) // said["batch"]

    class Handing(torch.nn.Module):
        """Looks like a Hugging Face model; its layer's output is rows of the file."""

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
            return self.layers[0](torch.from_numpy(np.array(pool[input_ids.cpu().numpy()])).to(self.device))

    class Windows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return n_steps * (said["batch"] // LENGTH)

        def __getitem__(self, i: int) -> dict[str, Any]:
            return {"input_ids": torch.arange(i * LENGTH, (i + 1) * LENGTH)}

    rate = said["factor"] * 5e-3 / (said["d_sae"] / 2**14) ** 0.5
    config = TrainConfig(
        SaeConfig(num_latents=said["d_sae"], k=said["k"]),
        batch_size=said["batch"] // LENGTH,
        hookpoints=["layers.0"],
        lr=rate,
        init_seeds=[said["seed"]],
        log_to_wandb=False,
        save_every=10**9,
        save_dir=folder,
        # Its default of 1,000 steps is longer than these runs.
        lr_warmup_steps=min(1000, n_steps // 20),
    )
    trainer = Trainer(config, Windows(), Handing())
    trainer.fit()
    for optimiser in trainer.optimizers:
        getattr(optimiser, "eval", lambda: None)()  # schedule-free: the averaged weights, as its checkpoints have
    return next(iter(trainer.saes.values())), rate


if __name__ == "__main__":
    main()
