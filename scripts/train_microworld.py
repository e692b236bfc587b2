#!/usr/bin/env python
"""Trains the microworld's model, or scores the shipped one.

    python scripts/train_microworld.py                 trains and writes the shipped folder
    python scripts/train_microworld.py --out DIR       writes another one
    python scripts/train_microworld.py --score --json  scores the weights in the folder

Every step sees new documents of the language. AdamW, a short warm-up, then a cosine to zero, all in float32: bfloat16
was no faster at this width.
"""

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from sae.microworld.generate import document, stream
from sae.microworld.model import PAD, folder, tokenizer, untrained, vocabulary
from sae.microworld.score import score, tokens_of

N_DOCUMENTS = 128
"""In a batch; about 4,000 words."""
N_BUCKETED = 16
"""Batches drawn together, so that documents of similar length share one."""
WARM_UP = 100
PEAK = 3e-3
WEIGHT_DECAY = 0.05


def main() -> None:
    """Reads the command line, then trains or scores."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.score:
        model = AutoModelForCausalLM.from_pretrained(arguments.out)
        _show(score(model, arguments.texts, arguments.seed), arguments.json)
    else:
        _show(train(arguments.seed, arguments.steps, arguments.out, arguments.texts), arguments.json)


def train(seed: int, n_steps: int, out: Path, n_texts: int) -> dict[str, float]:
    """Trains, scores, and writes model, tokenizer and the record of the training."""
    model, batches, began = untrained(seed), _batches(stream("train", seed)), time.monotonic()
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, n_steps))
    n_words = 0
    for step, tokens in zip(range(1, n_steps + 1), batches, strict=False):
        loss = _loss(model, tokens)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        n_words += int((tokens != vocabulary()[PAD]).sum()) - len(tokens)
        if step % 50 == 0 or step == n_steps:
            _progress(step, n_steps, n_words, loss.item(), time.monotonic() - began)
    seconds = time.monotonic() - began
    figures = score(model.eval(), n_texts)
    _write(model, out, {"seed": seed, "n_steps": n_steps, "n_words": n_words, "seconds": round(seconds, 1)}, figures)
    return figures


def _batches(rng: Random) -> Iterator[Tensor]:
    """Endless batches of new documents, each batch of similar lengths, in random order."""
    while True:
        drawn = sorted((document(rng) for _ in range(N_DOCUMENTS * N_BUCKETED)), key=lambda d: len(d.words))
        groups = [drawn[begin : begin + N_DOCUMENTS] for begin in range(0, len(drawn), N_DOCUMENTS)]
        rng.shuffle(groups)
        yield from (tokens_of(group) for group in groups)


def _loss(model: LlamaForCausalLM, tokens: Tensor) -> Tensor:
    """Cross-entropy of the words, in nats, the mean over words of the batch."""
    logits = model(input_ids=tokens, use_cache=False).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=vocabulary()[PAD])


def _rate(step: int, n_steps: int) -> float:
    """Share of the peak learning rate: linear up, then a half cosine to zero."""
    warm_up = min(WARM_UP, n_steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, n_steps - warm_up)))


def _write(model: LlamaForCausalLM, out: Path, run: dict[str, float], figures: dict[str, float]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    command = shlex.join(["python", "scripts/train_microworld.py", *sys.argv[1:]])
    n_parameters = sum(p.numel() for p in model.parameters())
    record = {"command": command, **run, "n_parameters": n_parameters, "held_out": figures}
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _progress(step: int, n_steps: int, n_words: int, loss: float, seconds: float) -> None:
    left = seconds / step * (n_steps - step)
    rate = n_words / seconds
    print(f"step {step}/{n_steps}  loss {loss:.4f} nats  {rate:,.0f} words/s  {left:.0f} s left", file=sys.stderr)


def _show(figures: dict[str, float], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value:.4f}" if isinstance(value, float) else f"{name:20} {value:,}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the texts")
    parser.add_argument("--steps", type=int, default=1200, help=f"batches of {N_DOCUMENTS} documents")
    parser.add_argument("--out", type=Path, default=folder(), help="folder to write, or to score")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--score", action="store_true", help="score the folder on held-out texts instead of training")
    parser.add_argument("--texts", type=int, default=2000, help="held-out texts to score on")
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    main()
