"""dictionary_learning's ActivationBuffer over nnsight, in its steady state.

A run goes from just after a refill to just after the next one, so that what is read equals what was produced.
Token ids stand in for texts, padded to the longest of the batch by the same tokenizer as nnsight would.
"""

# pyright: reportMissingImports=false
import itertools
from collections.abc import Callable
from typing import Any

from serving import Done, serve, settings, timed


def load() -> Callable[[], Done]:
    said = settings()
    import torch
    from dictionary_learning.buffer import ActivationBuffer
    from nnsight import LanguageModel

    torch.set_num_threads(said["n_threads"])
    model = LanguageModel(said["model"], device_map="cpu", dispatch=True)
    window, n_tokens = said["window"], said["n_tokens"]
    documents = itertools.cycle(said["documents"])
    buffer: Any = ActivationBuffer(
        documents,
        model,
        model.transformer.h[said["block"]],
        d_submodule=said["d_model"],
        n_ctxs=n_tokens // window,
        ctx_len=window,
        refresh_batch_size=said["batch"],
        out_batch_size=min(4096, n_tokens // 8),
        device="cpu",
    )
    refill, n_refills = buffer.refresh, 0

    def next_batch(batch_size: int | None = None) -> Any:
        ids = [next(documents) for _ in range(batch_size or said["batch"])]
        return model.tokenizer.pad({"input_ids": ids}, return_tensors="pt")

    def counted() -> None:
        nonlocal n_refills
        n_refills += 1
        refill()

    def until_refills(n: int) -> int:
        last, read = n_refills + n, 0
        while n_refills < last:
            read += len(next(buffer))
        return read

    buffer.refresh, buffer.text_batch = counted, next_batch
    until_refills(2)
    return lambda: timed(lambda: until_refills(1))


if __name__ == "__main__":
    serve(load)
