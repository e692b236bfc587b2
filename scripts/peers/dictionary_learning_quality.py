"""dictionary_learning trains one dictionary: `update` for every batch, as its own `trainSAE` calls it."""

# pyright: reportMissingImports=false
from typing import Any

from learning import batches, begin, rows, settings, write


def main() -> None:
    said = settings()
    trainer = _trainer(said, len(rows(said, "train")) // said["batch"])
    for step, batch in enumerate(batches(said)):
        trainer.update(step, batch)
    dictionary = trainer.ae
    W_dec = dictionary.W_dec if said["preset"] in ("matryoshka", "jumprelu") else dictionary.decoder.weight.T
    write(said, W_dec, dictionary.encode, dictionary.decode, rate=trainer.lr, settings=_said(trainer.config))


def _said(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if isinstance(value, (int, float, str, type(None)))}


def _trainer(said: dict[str, Any], n_steps: int) -> Any:
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    begin()
    shared: dict[str, Any] = {
        "steps": n_steps,
        "activation_dim": said["d"],
        "dict_size": said["d_sae"],
        "layer": 0,
        "lm_name": "none",
        "device": said["device"],
        "seed": said["seed"],
        # Its default of 1,000 steps is longer than these runs, which it refuses.
        "warmup_steps": min(1000, n_steps // 20),
    }
    # The threshold that it reads with, and its default of 1,000 steps before it is estimated.
    late = {"threshold_start_step": min(1000, n_steps // 2)}
    # Its formula for the TopK family, its defaults for the others.
    top_k = 2e-4 / (said["d_sae"] / 2**14) ** 0.5
    match said["preset"]:
        case "topk":
            return TopKTrainer(k=said["k"], lr=said["factor"] * top_k, **late, **shared)
        case "batchtopk":
            return BatchTopKTrainer(k=said["k"], lr=said["factor"] * top_k, **late, **shared)
        case "matryoshka":
            shares = [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
            return MatryoshkaBatchTopKTrainer(
                k=said["k"], group_fractions=shares, lr=said["factor"] * top_k, **late, **shared
            )
        case "relu":
            penalty = {"l1_penalty": 0.1 * said["penalty"], "sparsity_warmup_steps": min(2000, n_steps // 5)}
            return StandardTrainer(lr=said["factor"] * 1e-3, **penalty, **shared)
        case "jumprelu":
            target = {"target_l0": float(said["k"]), "sparsity_warmup_steps": min(2000, n_steps // 5)}
            penalty = {"sparsity_penalty": said["penalty"]}  # of being off that l0, which its default does not reach
            return JumpReluTrainer(lr=said["factor"] * 7e-5, **penalty, **target, **shared)
        case preset:
            raise ValueError(f"dictionary_learning is not measured with {preset}")


if __name__ == "__main__":
    main()
