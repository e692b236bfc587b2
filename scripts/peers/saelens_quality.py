"""SAELens trains one dictionary with its `SAETrainer`, and reads rows with the dictionary that it saves for use."""

# pyright: reportMissingImports=false
import io
import tempfile
from contextlib import redirect_stdout
from typing import Any

from learning import batches, begin, rows, settings, write

RATE = 3e-4
"""Its default."""


def main() -> None:
    said = settings()
    with redirect_stdout(io.StringIO()):
        from sae_lens import SAE
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        begin()
        rate = RATE * said["factor"]
        n = len(rows(said, "train"))
        config = SAETrainerConfig(
            total_training_samples=n,
            train_batch_size_samples=said["batch"],
            lr=rate,
            lr_end=rate / 10,
            autocast=False,
            device=said["device"],
        )
        SAETrainer(config, dictionary := _dictionary(said), batches(said)).fit()
        with tempfile.TemporaryDirectory() as folder:
            dictionary.save_inference_model(folder)
            trained = SAE.load_from_disk(folder, device=said["device"])
    write(said, trained.W_dec, trained.encode, trained.decode, rate=rate, settings=dictionary.cfg.to_dict())


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
            kind = sae_lens.StandardTrainingSAEConfig(l1_coefficient=said["penalty"], **sizes)
            return sae_lens.StandardTrainingSAE(kind)
        case "jumprelu":
            kind = sae_lens.JumpReLUTrainingSAEConfig(l0_coefficient=said["penalty"], **sizes)
            return sae_lens.JumpReLUTrainingSAE(kind)
        case preset:
            raise ValueError(f"SAELens is not measured with {preset}")


if __name__ == "__main__":
    main()
