#!/usr/bin/env python
"""Trains the microworld's model, or scores the shipped one.

    python scripts/train_microworld.py                 trains and writes the shipped folder
    python scripts/train_microworld.py --out DIR       writes another one
    python scripts/train_microworld.py --score --json  scores the weights in the folder
    python scripts/train_microworld.py --verify        trains anew and compares with the folder

Every step sees new documents of the language, and at every word the exact distribution of the next one: after 256 steps
the excess is .12 nats, with sampled words .21. Adam without weight decay, a short warm-up, then a cosine to zero, all
in float32: bfloat16 was no faster at this width. The same command after a kill goes on from the last checkpoint, beside
the folder, and ends with the same bits.
"""

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from sae.microworld.generate import Document, document, stream
from sae.microworld.model import folder, tokenizer, untrained
from sae.microworld.score import score, tokens_of
from sae.microworld.targets import next_word_targets

N_BUCKETED = 16
"""Batches drawn together, so that documents of similar length share one; also the steps between two checkpoints."""
RECORD = "training.json"
WARM_UP = 100
PEAK = 3e-3


def main() -> None:
    """Reads the command line, then trains, verifies or scores."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.score:
        _show(score(_load(arguments.out), arguments.texts), arguments.json)
    elif arguments.verify:
        with tempfile.TemporaryDirectory() as fresh:
            recipe = Recipe(**_record(arguments.out)["recipe"])
            torch.set_num_threads(recipe.n_threads)
            train(recipe, Path(fresh) / "weights", arguments.texts)
            _verify(arguments.out, Path(fresh) / "weights", arguments.texts, arguments.json)
    else:
        recipe = Recipe(arguments.seed, arguments.steps, arguments.documents, arguments.threads)
        _show(train(recipe, arguments.out, arguments.texts), arguments.json)


@dataclass(frozen=True)
class Recipe:
    """What the weights follow from, on one kind of machine."""

    seed: int
    """Of the weights and the texts."""
    n_steps: int
    n_documents: int
    """In a batch; 96 are about 3,400 words."""
    n_threads: int

    @property
    def command(self) -> str:
        """What to type for these weights."""
        options = f"--seed {self.seed} --steps {self.n_steps} --documents {self.n_documents} --threads {self.n_threads}"
        return f"python scripts/train_microworld.py {options}"


@dataclass
class State:
    """Everything a training continues from; batches follow from the seed and the step."""

    model: LlamaForCausalLM
    optimiser: torch.optim.Adam
    step: int = 0
    n_words: int = 0
    seconds: float = 0.0


def train(recipe: Recipe, out: Path, n_texts: int) -> dict[str, float]:
    """Trains, scores, and writes model, tokenizer and the record of the training."""
    checkpoint = out.with_name(out.name + ".training")
    state = _resumed(recipe, checkpoint)
    while state.step < recipe.n_steps:
        _train_some(recipe, state)
        _save(recipe, state, checkpoint)
    model = state.model.eval()
    print(f"scoring on {n_texts:,} held-out texts", file=sys.stderr)
    figures = score(model, n_texts)
    _write(model, out, recipe, state, figures)
    shutil.rmtree(checkpoint)
    return figures


def _train_some(recipe: Recipe, state: State) -> None:
    """The steps up to the next checkpoint."""
    began, before, losses = time.monotonic(), state.seconds, []
    for documents in _batches(recipe, state.step // N_BUCKETED)[: recipe.n_steps - state.step]:
        for group in state.optimiser.param_groups:
            group["lr"] = PEAK * _rate(state.step, recipe.n_steps)
        loss = _loss(state.model, documents)
        state.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
        state.optimiser.step()
        state.step += 1
        losses.append(loss.item())
        state.n_words += sum(len(document.tokens) for document in documents)
        state.seconds = before + time.monotonic() - began
    _progress(state, recipe.n_steps, sum(losses) / len(losses))


def _batches(recipe: Recipe, number: int) -> list[list[Document]]:
    """The batches between two checkpoints: new documents, each batch of similar lengths, in random order."""
    rng = stream(f"train/{number}", recipe.seed)
    drawn = sorted((document(rng) for _ in range(recipe.n_documents * N_BUCKETED)), key=lambda d: len(d.tokens))
    groups = [drawn[begin : begin + recipe.n_documents] for begin in range(0, len(drawn), recipe.n_documents)]
    rng.shuffle(groups)
    return groups


def _resumed(recipe: Recipe, checkpoint: Path) -> State:
    """The state in the checkpoint if it is of this recipe, else that before the first step."""
    model = untrained(recipe.seed).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=PEAK, betas=(0.9, 0.98), fused=True)
    state = State(model, optimiser)
    fresh = _fresh(checkpoint)
    if not checkpoint.exists() and fresh.exists():
        fresh.rename(checkpoint)  # killed between removing the old checkpoint and putting this one in its place
    if not (checkpoint / RECORD).is_file():
        return state
    record = json.loads((checkpoint / RECORD).read_text(encoding="utf-8"))
    if record["recipe"] != asdict(recipe):
        print(f"{checkpoint.name} is of another recipe, {record['recipe']}; starting anew", file=sys.stderr)
        return state
    saved = load_file(checkpoint / "state.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(saved[f"model/{name}"])
    held = {
        i: {"step": saved[f"{i}/step"], "exp_avg": saved[f"{i}/exp_avg"], "exp_avg_sq": saved[f"{i}/exp_avg_sq"]}
        for i in range(len(list(model.parameters())))
    }
    optimiser.load_state_dict({"state": held, "param_groups": optimiser.state_dict()["param_groups"]})
    state.step, state.n_words, state.seconds = record["step"], record["n_words"], record["seconds"]
    print(f"going on from step {state.step}", file=sys.stderr)
    return state


def _save(recipe: Recipe, state: State, checkpoint: Path) -> None:
    """Puts a whole checkpoint in the place of the last one: written beside it, the record last, then renamed."""
    fresh, writing = _fresh(checkpoint), checkpoint.with_name(checkpoint.name + ".writing")
    for old in (writing, fresh):
        shutil.rmtree(old, ignore_errors=True)
    writing.mkdir(parents=True)
    tensors = {f"model/{name}": p.detach() for name, p in state.model.named_parameters()}
    for i, held in state.optimiser.state_dict()["state"].items():
        tensors |= {f"{i}/{name}": value for name, value in held.items()}
    save_file(tensors, writing / "state.safetensors")
    record = {"recipe": asdict(recipe), "step": state.step, "n_words": state.n_words, "seconds": state.seconds}
    (writing / RECORD).write_text(json.dumps(record), encoding="utf-8")
    writing.rename(fresh)
    if checkpoint.exists():
        checkpoint.rename(writing)
    fresh.rename(checkpoint)
    shutil.rmtree(writing, ignore_errors=True)


def _fresh(checkpoint: Path) -> Path:
    """A whole checkpoint that has not taken its place yet."""
    return checkpoint.with_name(checkpoint.name + ".fresh")


def _loss(model: LlamaForCausalLM, documents: Sequence[Document]) -> Tensor:
    """Cross-entropy with the true distribution of each word, in nats, the mean over words of the batch."""
    targets = next_word_targets(documents)
    logits = model(input_ids=tokens_of(documents), use_cache=False).logits[:, :-1]
    return -(targets * logits.log_softmax(-1)).sum() / targets.sum()


def _rate(step: int, n_steps: int) -> float:
    """Share of the peak learning rate: linear up, then a half cosine to zero."""
    warm_up = min(WARM_UP, n_steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, n_steps - warm_up)))


def _write(model: LlamaForCausalLM, out: Path, recipe: Recipe, state: State, figures: dict[str, float]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    record = {
        "command": recipe.command,
        "recipe": asdict(recipe),
        "n_words": state.n_words,
        "seconds": round(state.seconds, 1),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "held_out": figures,
    }
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _progress(state: State, n_steps: int, loss: float) -> None:
    left = state.seconds / state.step * (n_steps - state.step)
    rate = state.n_words / state.seconds
    print(f"step {state.step}/{n_steps}  loss {loss:.4f} nats  {rate:,.0f} words/s  {left:.0f} s left", file=sys.stderr)


def _record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))


def _load(folder: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder).eval()


TOLERANCE = {"excess_nats": 0.005}
"""How far a retraining's figures may be off: a rate by 0.01, the excess by this."""


def _verify(shipped: Path, fresh: Path, n_texts: int, as_json: bool) -> None:
    """Scores both folders; ends with status 1 if a figure differs by more than its tolerance."""
    models = _load(shipped), _load(fresh)
    recorded = _record(shipped)["held_out"]
    old = recorded if recorded["n_texts"] == n_texts else score(models[0], n_texts)
    new = score(models[1], n_texts)
    same = all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    off = [name for name in new if abs(new[name] - old[name]) > TOLERANCE.get(name, 0.01)]
    _show({name: new[name] - old[name] for name in new} | {"same_bits": same, "off": off}, as_json)
    if off:
        raise SystemExit(1)


def _show(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value:.4f}" if isinstance(value, float) else f"{name:20} {value}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the texts")
    parser.add_argument("--steps", type=_positive, default=2200, help="batches")
    parser.add_argument("--documents", type=_positive, default=96, help="in a batch")
    parser.add_argument("--out", type=Path, default=folder(), help="folder to write, or to score")
    parser.add_argument("--threads", type=_positive, default=2, help="of torch")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--score", action="store_true", help="score the folder on held-out texts instead of training")
    instead.add_argument("--verify", action="store_true", help="train anew by the folder's record and compare with it")
    parser.add_argument("--texts", type=_positive, default=2000, help="held-out texts to score on")
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    arguments = parser.parse_args()
    if (arguments.score or arguments.verify) and not (arguments.out / RECORD).is_file():
        parser.error(f"{arguments.out} holds no trained model: it has no {RECORD}")
    if arguments.out.exists() and not arguments.out.is_dir():
        parser.error(f"{arguments.out} is a file; --out names a folder")
    return arguments


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


if __name__ == "__main__":
    main()
