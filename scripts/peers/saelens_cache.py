"""SAELens' CacheActivationsRunner on a pre-tokenised data set: activations to Arrow files on disk.

A run caches everything anew, through one buffer of its own making; loading the model is not timed. It writes whole
buffers, so tokens are counted in what came out.
"""

# pyright: reportMissingImports=false
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving import Done, serve, settings, timed


def load() -> Callable[[], Done]:
    said = settings()
    import torch
    from datasets import Dataset

    torch.set_num_threads(said["n_threads"])
    documents = Dataset.from_dict({"input_ids": said["documents"]})
    folder = Path(sys.argv[1]).with_suffix(".saelens")

    def run() -> Done:
        shutil.rmtree(folder, ignore_errors=True)
        runner = _runner(said, documents, folder)
        done = timed(lambda: len(runner.run()) * said["window"])
        shutil.rmtree(folder)
        return done

    run()
    return run


def _runner(said: dict[str, Any], documents: Any, folder: Path) -> Any:
    from sae_lens import CacheActivationsRunner, CacheActivationsRunnerConfig

    n_bytes = said["n_tokens"] * said["d_model"] * 4
    config = CacheActivationsRunnerConfig(
        dataset_path="given below",
        model_name=said["model"],
        model_class_name="AutoModelForCausalLM",
        model_batch_size=said["batch"],
        hook_name=f"transformer.h.{said['block']}",
        d_in=said["d_model"],
        training_tokens=said["n_tokens"],
        context_size=said["window"],
        new_cached_activations_path=str(folder),
        buffer_size_gb=n_bytes / 1e9,
        shuffle=False,
        prepend_bos=False,
        streaming=False,
        dtype="float32",
        device="cpu",
    )
    return CacheActivationsRunner(config, override_dataset=documents)


if __name__ == "__main__":
    serve(load)
