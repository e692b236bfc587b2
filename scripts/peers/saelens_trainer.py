"""SAELens' SAETrainer: the body of its `fit` loop, step by step, with its own bookkeeping; nothing is logged.

Where the device is no processor it trains under its own autocast to bfloat16, which its defaults leave off.
"""

# pyright: reportMissingImports=false
import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from serving import Done, finish, pool, serve, settings, timed

MANY_STEPS = 1_000_000


def load() -> Callable[[], Done]:
    said = settings()
    import numpy as np
    import torch
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer
    from tqdm.auto import tqdm

    torch.set_num_threads(said["n_threads"])
    x = pool(said)

    def batches() -> Iterator[Any]:
        for i in itertools.count():
            start = i * said["batch"] % len(x)
            yield x[start : start + said["batch"]]

    n_tokens = MANY_STEPS * said["batch"]
    config = SAETrainerConfig(
        total_training_samples=n_tokens,
        train_batch_size_samples=said["batch"],
        lr_warm_up_steps=0,
        lr_end=3e-5,
        autocast=said["device"] != "cpu",
        device=said["device"],
    )
    data = batches()
    dictionary = _dictionary(said)
    if said["weights"] is not None:
        _set_weights(dictionary, np.load(said["weights"]))
    trainer = SAETrainer(config, dictionary, data)
    bar = tqdm(total=n_tokens, file=io.StringIO(), mininterval=60)

    def steps() -> int:
        for _ in range(said["n_steps"]):
            trainer.maybe_reset_sparsity()
            output = trainer.step(next(data))
            trainer._checkpoint_if_needed()
            trainer.n_training_steps += 1
            trainer._update_pbar(output, bar)
        finish(said)
        return said["n_steps"] * said["batch"]

    return lambda: timed(steps)


def _dictionary(said: dict[str, Any]) -> Any:
    import sae_lens

    sizes: dict[str, Any] = {"d_in": said["d"], "d_sae": said["d_sae"], "device": said["device"]}
    k = said["k"]
    match said["preset"]:
        case "topk":
            return sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(k=k, **sizes))
        case "batchtopk":
            return sae_lens.BatchTopKTrainingSAE(sae_lens.BatchTopKTrainingSAEConfig(k=k, **sizes))
        case "matryoshka":
            widths = [said["d_sae"] // part for part in (16, 8, 4, 2, 1)]
            kind = sae_lens.MatryoshkaBatchTopKTrainingSAEConfig(k=k, matryoshka_widths=widths, **sizes)
            return sae_lens.MatryoshkaBatchTopKTrainingSAE(kind)
        case "relu":
            return sae_lens.StandardTrainingSAE(sae_lens.StandardTrainingSAEConfig(**sizes))
        case "jumprelu":
            return sae_lens.JumpReLUTrainingSAE(sae_lens.JumpReLUTrainingSAEConfig(**sizes))
        case preset:
            raise ValueError(f"SAELens is not measured with {preset}")


def _set_weights(dictionary: Any, weights: Any) -> None:
    """Its matrices are [d, d_sae] and [d_sae, d]."""
    import torch

    with torch.no_grad():
        dictionary.W_enc.copy_(torch.from_numpy(weights["W_enc"].T))
        for name in ("W_dec", "b_enc", "b_dec"):
            getattr(dictionary, name).copy_(torch.from_numpy(weights[name]))
        if "threshold" in weights:
            dictionary.threshold.copy_(torch.from_numpy(weights["threshold"]))


if __name__ == "__main__":
    serve(load)
