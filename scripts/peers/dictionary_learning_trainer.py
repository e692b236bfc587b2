"""dictionary_learning's trainers: `update` for every step, as its own `trainSAE` calls it."""

# pyright: reportMissingImports=false
from collections.abc import Callable
from typing import Any

from serving import Done, finish, pool, serve, settings, timed

MANY_STEPS = 1_000_000
STEADY = 2001
"""The step that follows the first, which looks for the geometric median: past the warm-up of 1,000 steps."""


def load() -> Callable[[], Done]:
    said = settings()
    import numpy as np
    import torch

    torch.set_num_threads(said["n_threads"])
    x = pool(said)
    trainer, done = _trainer(said), 0
    weights = None if said["weights"] is None else np.load(said["weights"])

    def steps() -> int:
        nonlocal done
        for _ in range(said["n_steps"]):
            start = done * said["batch"] % len(x)
            trainer.update(STEADY + done if done else 0, x[start : start + said["batch"]].to(torch.float32))
            if weights is not None and not done:  # after its first step, which sets the decoder's bias
                _set_weights(trainer.ae, weights)
            done += 1
        finish(said)
        return said["n_steps"] * said["batch"]

    return lambda: timed(steps)


def _trainer(said: dict[str, Any]) -> Any:
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    shared: dict[str, Any] = {
        "steps": MANY_STEPS,
        "activation_dim": said["d"],
        "dict_size": said["d_sae"],
        "layer": 0,
        "lm_name": "none",
        "device": said["device"],
        "seed": 0,
        "warmup_steps": 1000,
    }
    match said["preset"]:
        case "topk":
            return TopKTrainer(k=said["k"], **shared)
        case "batchtopk":
            return BatchTopKTrainer(k=said["k"], **shared)
        case "matryoshka":
            shares = [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
            return MatryoshkaBatchTopKTrainer(k=said["k"], group_fractions=shares, **shared)
        case "relu":
            return StandardTrainer(**shared)
        case "jumprelu":
            return JumpReluTrainer(target_l0=float(said["k"]), **shared)
        case preset:
            raise ValueError(f"dictionary_learning is not measured with {preset}")


def _set_weights(dictionary: Any, weights: Any) -> None:
    """ReLU's are torch's Linear modules, JumpReLU's matrices [d, d_sae] and [d_sae, d]."""
    import torch

    found = {name: torch.from_numpy(weights[name]) for name in weights.files}
    with torch.no_grad():
        if "threshold" in found:
            dictionary.W_enc.copy_(found["W_enc"].T)
            for name in ("W_dec", "b_enc", "b_dec", "threshold"):
                getattr(dictionary, name).copy_(found[name])
            return
        dictionary.encoder.weight.copy_(found["W_enc"])
        dictionary.encoder.bias.copy_(found["b_enc"])
        dictionary.decoder.weight.copy_(found["W_dec"].T)
        dictionary.bias.copy_(found["b_dec"])


if __name__ == "__main__":
    serve(load)
