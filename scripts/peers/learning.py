"""What the peers' programs of the quality benchmark share: settings in, rows as batches, what they found out.

It uses nothing but the standard library, NumPy and torch, for it is imported in the peers' own environments.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def settings() -> dict[str, Any]:
    """What the benchmark says; the seed is set."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", WANDB_MODE="disabled")
    said = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch

    torch.set_num_threads(said["n_threads"])
    torch.manual_seed(said["seed"])
    return said


_begun: list[float] = []


def begin() -> None:
    """Training begins here: what was loaded before does not count as its time."""
    _begun.append(time.perf_counter())


def rows(said: dict[str, Any], name: str) -> Any:
    """A file of rows, not read before they are needed."""
    import numpy as np

    return np.load(said[name], mmap_mode="r")


def batches(said: dict[str, Any]) -> Iterator[Any]:
    """The training rows in their order, once."""
    import numpy as np
    import torch

    pool = rows(said, "train")
    for start in range(0, len(pool), said["batch"]):
        yield torch.from_numpy(np.array(pool[start : start + said["batch"]])).to(said["device"])


def write(
    said: dict[str, Any], W_dec: Any, encode: Callable[[Any], Any], decode: Callable[[Any], Any], **more: Any
) -> None:
    """Codes and reconstructions of the rows that are scored, and who fires at further ones; `more` is said of the run.

    They are made where it was trained. What passed between `begin` and this call is the time of training.
    """
    import numpy as np
    import torch

    if said["device"] != "cpu":
        torch.cuda.synchronize()
    more["training_seconds"] = round(time.perf_counter() - _begun[-1], 2)
    found: dict[str, list[Any]] = {"rows": [], "latents": [], "values": [], "y": []}
    fired = torch.zeros(len(W_dec), dtype=torch.bool, device=said["device"])
    with torch.no_grad():
        if said["more"]:
            for _, x in _parts(said, "more"):
                fired |= (encode(x).float() != 0).any(0)
        for start, x in _parts(said, "test"):
            code = encode(x).float()
            row, latent = code.nonzero(as_tuple=True)
            found["rows"].append(row.cpu().numpy() + start)
            found["latents"].append(latent.cpu().numpy())
            found["values"].append(code[row, latent].cpu().numpy())
            found["y"].append(decode(code).float().cpu().numpy())
    arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in found.items()}
    arrays |= {"fired": fired.cpu().numpy()} if said["more"] else {}
    np.savez(said["found"], W_dec=W_dec.detach().float().cpu().numpy(), **arrays)
    print(json.dumps(more))


def _parts(said: dict[str, Any], name: str) -> Iterator[tuple[int, Any]]:
    """Rows of a file where it was trained, with the number of the first of each part."""
    import numpy as np
    import torch

    held = rows(said, name)
    for start in range(0, len(held), 1024):
        yield start, torch.from_numpy(np.array(held[start : start + 1024])).to(said["device"])
