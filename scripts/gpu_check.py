#!/usr/bin/env python3
"""The kernels on a GPU: correctness first, then training steps beside a roofline measured in the same call.

    python scripts/gpu_check.py [--json FILE] [--sizes small,middle,large] [--steps N] [--peers [NAMES]]

1. Triton's kernels against the dense reference on the device, values and gradients, and every preset trained for 200
   steps there and on the processor: the FVU must be the same within 5 %. Status 1 where they differ.
2. Copy bandwidth and the bfloat16 matrix rate of this device.
3. For every size the time of a training step (the trainer as it ships, latents chosen in bfloat16, weights and
   optimiser in float32) over its roofline: the encoder's product at the matrix rate, plus at the copy bandwidth the k
   rows a token that decoding and each of three gradients gather and the seven numbers a parameter that Adam moves; and
   how often the host waits in a step. The same with `precision: bfloat16`, and with 5 % of the latents dead at every
   step, whose AuxK the roofline leaves out.
4. With `--peers`, after each size the step of SAELens (under its autocast to bfloat16), sparsify (as it ships: its own
   Triton kernels and autocast) and dictionary_learning (as it ships: float32), each in its own process on rows drawn on
   the device, over ours: the median of several steps after two, each waited for. They load side by side and step one
   after the other. One that fails, or is not done after a minute, is said and left out.

Without a CUDA device the roofline is printed from constants (H200: 4.3 TB/s, 790 TFLOP/s) and nothing is measured;
status 0. Rows of the file: {name, value, unit, against, target, holds}.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from peers.environment import DICTIONARY_LEARNING, SAELENS, SPARSIFY
from peers.process import PeerProcess
from torch import Tensor

from sae.core.errors import WorldError

Row = dict[str, Any]
Precision = Literal["float32", "bfloat16"]
TARGET = 1.7
"""Times the roofline."""
WAITS = 1
"""In a TopK step: whether it was sound, and how many latents are dead (tests/training/test_waits.py)."""
PRESETS = ("topk", "batchtopk", "matryoshka", "relu", "jumprelu", "gated", "matching_pursuit")
LEARNT_WITHIN = 0.05
PEERS = {"saelens": SAELENS, "sparsify": SPARSIFY, "dictionary_learning": DICTIONARY_LEARNING}
FASTER = {"saelens": 4.0, "sparsify": 2.0}
"""Times a peer's step over ours at least."""
PEER_SECONDS = 60.0
"""For a peer and a size, loading and all."""
PEER_STEPS = 8


class Rates(NamedTuple):
    """Of a device."""

    bytes_per_second: float
    """Read plus written by a copy."""
    flops_per_second: float
    """Of a bfloat16 product."""


H200 = Rates(4.3e12, 790e12)


@dataclass(frozen=True)
class Size:
    name: str
    d: int
    d_sae: int
    batch: int = 8192
    k: int = 64

    def parts(self, rates: Rates) -> dict[str, float]:
        """Seconds of each part of a step at those rates."""
        gathered = 2 * self.batch * self.k * self.d
        parameters = 2 * self.d * self.d_sae
        return {
            "product": 2 * self.batch * self.d * self.d_sae / rates.flops_per_second,
            "rows": 4 * gathered / rates.bytes_per_second,
            "adam": 7 * 4 * parameters / rates.bytes_per_second,
        }


SIZES = (Size("small", 768, 24_576), Size("middle", 2304, 65_536), Size("large", 4096, 131_072))


def row(
    name: str, value: float, unit: str, against: str = "", target: float | None = None, *, least: bool = False
) -> Row:
    """A row; a target is the most that holds, or the least."""
    holds = None if target is None else value >= target if least else value <= target
    return {"name": name, "value": value, "unit": unit, "against": against, "target": target, "holds": holds}


def roofline_rows(size: Size, rates: Rates, against: str) -> list[Row]:
    parts = size.parts(rates)
    rows = [row(f"roofline_{size.name}_{name}", 1000 * seconds, "ms", against) for name, seconds in parts.items()]
    return [*rows, row(f"roofline_{size.name}", 1000 * sum(parts.values()), "ms", against)]


def seconds_of(run: Callable[[], object], n: int) -> float:
    """The median of n runs on the device."""
    found = []
    for turn in range(n + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if turn >= 2:
            found.append(time.perf_counter() - start)
    return statistics.median(found)


def n_waits(run: Callable[[], object]) -> int:
    """How often the host waits for the device meanwhile, as torch tells it."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        run()
        torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in said)  # not that the mode is new


def measured_rates() -> Rates:
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    copy = seconds_of(lambda: target.copy_(source), 10)
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = seconds_of(lambda: a @ b, 10)
    return Rates(2 * source.nbytes / copy, 2 * 8192**3 / product)


def differences() -> list[str]:
    """Where Triton's kernels are not the reference, on the device."""
    from sae.kernels import reference, triton_ops

    def run(kernel: Any, encode: str, leaves: list[Tensor], k: int) -> list[Tensor]:
        x, rows, bias, W_dec = (leaf.detach().clone().requires_grad_() for leaf in leaves)
        code = getattr(kernel, encode)(x, rows, bias, 0.5 if encode == "encode_threshold" else k)
        y = kernel.sparse_decode(code, W_dec)
        y.square().mean().backward()
        return [code.values, y, *(leaf.grad for leaf in (x, rows, bias, W_dec) if leaf.grad is not None)]

    found = []
    g = torch.Generator(device="cuda").manual_seed(0)
    encoders, sizes = ("encode_topk", "encode_batchtopk", "encode_threshold"), ((37, 48, 1000, 5), (256, 768, 4096, 64))
    for encode, (n, d, d_sae, k) in itertools.product(encoders, (*sizes, (5, 33, 70, 70))):
        shapes = ((n, d), (d_sae, d), (d_sae,), (d_sae, d))
        leaves = [torch.randn(shape, generator=g, device="cuda") / shape[-1] ** 0.25 for shape in shapes]
        both = (run(kernel, encode, leaves, k) for kernel in (triton_ops, reference))
        for number, (a, b) in enumerate(zip(*both, strict=True)):
            if a.shape != b.shape or not torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max())):
                found.append(f"{encode}, n {n}, d {d}, d_sae {d_sae}, k {k}: result {number} differs")
    for moments, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 1e-2)):
        found += adam_differences(moments, tolerance)
    for kind, d_sae, k in itertools.product((torch.float32, torch.bfloat16), (4096, 131_072), (20, 64)):
        x, rows, bias = (torch.randn(shape, generator=g, device="cuda") for shape in ((99, 64), (d_sae, 64), (d_sae,)))
        code = triton_ops.largest(x, rows, bias, k, None, kind)
        pre = (x.to(kind) @ rows.to(kind).T).float() + bias
        if not torch.allclose(pre.gather(1, code.indices).sort(dim=1, descending=True).values, pre.topk(k).values):
            found.append(f"the {k} largest of {d_sae} in {kind} are not torch's")
    return found


def auxk_differences() -> list[str]:
    """Where AuxK, whose products are of bfloat16 on the device, is further from the processor's than those explain."""
    from sae.dictionary import Dictionary, DictionaryConfig, TopK
    from sae.objective.auxiliary import AuxK, Dead, auxiliary_loss
    from sae.parallel import Alone

    found, g = [], torch.Generator().manual_seed(2)
    dictionary = Dictionary(DictionaryConfig(d_in=64, d_out=64, d_sae=512, activation=TopK(k=4)))
    for value in dictionary.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=g) / 8)
    x, y, marks = torch.randn(500, 64, generator=g), torch.randn(500, 64, generator=g) / 2, torch.arange(512) % 5 == 2
    results = []
    for device in ("cpu", "cuda"):
        there, dead = dictionary.copy().to(device), Dead(marks.to(device), int(marks.sum()))
        moved, how = (x.to(device), x.to(device), y.to(device)), AuxK(coefficient=1.0, k=12)
        loss = auxiliary_loss(how, there, *moved, dead, Alone())
        loss.backward()
        rows = (there.encoder_rows.grad, there.W_dec.grad)
        results.append([loss.detach().cpu(), *(grad.cpu() for grad in rows if grad is not None)])
    for name, here, there in zip(("loss", "gradient of the encoder", "gradient of the decoder"), *results, strict=True):
        if not (here - there).norm() <= 0.05 * here.norm():
            found.append(f"AuxK: its {name} is {float((here - there).norm() / here.norm()):.3f} off")
    return found


def adam_differences(moments: torch.dtype, tolerance: float) -> list[str]:
    """Where a step of Adam on unit and on free rows is not the reference's."""
    from sae.kernels import AdamStep, Slot, reference, triton_ops

    def slots() -> list[Slot]:
        g = torch.Generator(device="cuda").manual_seed(1)
        p, gradient, mean, square = (torch.randn(300, 768, generator=g, device="cuda") for _ in range(4))
        m, v, unit = (0.1 * mean).to(moments), (0.1 * square.square()).to(moments), torch.nn.functional.normalize(p)
        return [Slot(rows, gradient.clone(), m.clone(), v.clone(), 3, rows is unit) for rows in (unit, p)]

    ours, theirs, how = slots(), slots(), AdamStep(rate=0.05, clip=0.1)
    triton_ops.descend(ours, how)
    reference.descend(theirs, how)
    return [
        f"adam with moments in {moments}: its {name} differs"
        for a, b in zip(ours, theirs, strict=True)
        for name in ("parameter", "mean", "square")
        if not torch.allclose(getattr(a, name).float(), getattr(b, name).float(), rtol=tolerance, atol=tolerance / 10)
    ]


def learnt(preset: Any, device: str) -> float:
    """FVU of the last batch of a short run."""
    from sae.synthetic import Truth, TruthConfig
    from sae.training import TrainConfig, initial, loop

    truth = Truth(TruthConfig(d=32, n_features=64, highest=0.2, lowest=0.02, n_trees=1, depth=1))
    stream = truth.stream("train", 512)
    config = TrainConfig(preset=preset, d_sae=128, l0=4, batch=512, tokens=200 * 512, selection="float32")
    *_, last = loop(initial(stream.rows(0, 4096).to(device), config), stream, config)
    return last.metrics["fvu"]


def learning_differences(device: str = "cuda") -> list[str]:
    """Presets whose training on the device ends elsewhere than on the processor."""
    found = []
    for preset in PRESETS:
        there, here = learnt(preset, device), learnt(preset, "cpu")
        if not abs(there / here - 1) <= LEARNT_WITHIN:
            found.append(f"{preset}: FVU {there:.4f} on the device, {here:.4f} on the processor")
    return found


class Variant(NamedTuple):
    """One way to train."""

    name: str
    precision: Precision = "float32"
    dead: float = 0.0
    """Share of the latents that are dead at every step, and learn by AuxK."""


VARIANTS = (Variant(""), Variant("_bfloat16", "bfloat16"), Variant("_dead", dead=0.05))


def step_rows(size: Size, rates: Rates, n_steps: int, variant: Variant) -> list[Row]:
    """Steps of the trainer beside the roofline."""
    from sae.training import TrainConfig, dead, initial, loop
    from sae.training.loop import recipe_of

    pool = torch.randn(4, size.batch, size.d, device="cuda")

    class Pool:
        def batch(self, step: int) -> Tensor:
            return pool[step % 4]

    config = TrainConfig(
        d_sae=size.d_sae,
        l0=size.k,
        batch=size.batch,
        tokens=10**6 * size.batch,
        selection="bfloat16",
        precision=variant.precision,
    )
    state = initial(pool[0], config)
    steps, after, n_dead = (
        loop(state, Pool(), config),
        recipe_of(state, config).dead_after,
        round(variant.dead * size.d_sae),
    )

    def one() -> None:
        if n_dead:
            state.tokens_since_fired[:n_dead] = after
            state.n_dead = dead.Counted(n_dead, after, state.tokens_since_fired._version)
        next(steps)

    seconds = seconds_of(one, n_steps)
    name, waits = f"step_{size.name}{variant.name}", n_waits(one)
    over, target = seconds / sum(size.parts(rates).values()), None if n_dead else TARGET
    return [
        row(name, 1000 * seconds, "ms"),
        row(f"{name}_waits", waits, "times that the host waits", "at the step's end", WAITS),
        row(f"{name}_over_roofline", over, "ratio of times", "bandwidth and matrix rate of this call", target),
    ]


def peer_rows(size: Size, ours: float, names: Sequence[str], device: str = "cuda") -> list[Row]:
    """Peers' steps over ours, which takes so many seconds; one that fails is said and left out."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(names)) as side_by_side:
        settings = Path(folder) / f"{size.name}.json"
        said = {"preset": "topk", "n_rows": 4 * size.batch, "n_steps": 1, "device": device}
        settings.write_text(
            json.dumps({**asdict(size), **said, "n_threads": torch.get_num_threads(), "weights": None}),
            encoding="utf-8",
        )
        loading = {
            name: side_by_side.submit(PeerProcess, PEERS[name], f"{name}_trainer", settings, PEER_SECONDS)
            for name in names
        }
        for name, process in loading.items():
            try:
                seconds, against = step_of(process.result()), PEERS[name].requirement
            except WorldError as error:  # the others are measured without it
                print(f"{name} is left out at the size {size.name}: {error}")
                continue
            over = row(
                f"step_{size.name}_over_{name}",
                seconds / ours,
                "ratio of times",
                PEERS[name].name,
                FASTER.get(name),
                least=True,
            )
            found += [row(f"step_{size.name}_{name}", 1000 * seconds, "ms", against), over]
    return found


def step_of(process: PeerProcess) -> float:
    """Seconds of a step: the median of `PEER_STEPS` after two. The process is ended."""
    seconds = [process.run()["seconds"] for _ in range(PEER_STEPS + 2)][2:]
    process.close()
    return statistics.median(seconds)


def write_rows(rows: Sequence[Row], file: Path | None) -> None:
    """The file is written anew."""
    if file is not None:
        file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def show(rows: Sequence[Row]) -> None:
    for one in rows:
        print(f"{one['name']:36} {one['value']:10.4g} {one['unit']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--sizes", default=",".join(size.name for size in SIZES))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peers", nargs="?", const=",".join(PEERS), default="", help="measure all, or these")
    options = parser.parse_args()
    wanted, known = options.sizes.split(","), {size.name: size for size in SIZES}
    if not set(wanted) <= set(known):
        parser.error(f"--sizes {options.sizes}: there are {', '.join(known)}")
    peers = [name for name in options.peers.split(",") if name]
    if not set(peers) <= set(PEERS):
        parser.error(f"--peers {options.peers}: there are {', '.join(PEERS)}")
    if options.steps < 1:
        parser.error(f"--steps {options.steps}: a median is of at least one")
    chosen = [known[name] for name in wanted]
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured; the roofline of an H200 from 4.3 TB/s and 790 TFLOP/s:")
        found = [one for size in chosen for one in roofline_rows(size, H200, "constants of an H200")]
        show(found)
    else:
        wrong = [*differences(), *auxk_differences(), *learning_differences()]
        print("\n".join(wrong) or "Triton's kernels equal the reference, and every preset learns the same with them")
        if wrong:
            sys.exit(1)
        rates = measured_rates()
        found = [
            row("copy", rates.bytes_per_second / 1e9, "GB/s"),
            row("product", rates.flops_per_second / 1e12, "TFLOP/s"),
        ]
        show(found)
        for size in chosen:
            more = roofline_rows(size, rates, "bandwidth and matrix rate of this call")
            for variant in VARIANTS:
                more += step_rows(size, rates, options.steps, variant)
                torch.cuda.empty_cache()
            show(more)
            found += more
            if peers:
                ours = next(one["value"] for one in more if one["name"] == f"step_{size.name}") / 1000
                show(more := peer_rows(size, ours, peers))
                found += more
            write_rows(found, options.json)  # after each, lest a peer take all with it
    write_rows(found, options.json)


if __name__ == "__main__":
    main()
