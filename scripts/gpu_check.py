#!/usr/bin/env python3
"""The kernels on a GPU: correctness first, then training steps beside a roofline measured in the same call.

    python scripts/gpu_check.py [--json FILE] [--sizes small,middle,large] [--steps N]

1. Triton's kernels against the dense reference on the device, values and gradients, and every preset trained for 200
   steps there and on the processor: the FVU must be the same within 5 %. Status 1 where they differ.
2. Copy bandwidth and the bfloat16 matrix rate of this device.
3. For every size the time of a training step (the trainer as it ships, latents chosen in bfloat16, weights and
   optimiser in float32) over its roofline: the encoder's product at the matrix rate, plus at the copy bandwidth the k
   rows a token that decoding and each of three gradients gather and the seven numbers a parameter that Adam moves; and
   how often the host waits in a step.
4. Choosing latents where product and choice are one kernel (`sae.kernels.triton_ops.fused`) over the time of a product
   by torch followed by a choice, for several widths: what decides up to which width the trainer takes it.
5. SAELens and sparsify in the same call are not measured.

Without a CUDA device the roofline is printed from constants (H200: 4.3 TB/s, 790 TFLOP/s) and nothing is measured;
status 0. Rows of the file: {name, value, unit, against, target, holds}.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

Row = dict[str, Any]
TARGET = 1.7
"""Times the roofline."""
WAITS = 1
"""In a TopK step: whether it was sound, and how many latents are dead (tests/training/test_waits.py)."""
PRESETS = ("topk", "batchtopk", "matryoshka", "relu", "jumprelu", "gated", "matching_pursuit")
LEARNT_WITHIN = 0.05


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


WIDTHS = (256, 512, 768, 1536)
"""At which fused and separate choice are compared."""
SIZES = (Size("small", 768, 24_576), Size("middle", 2304, 65_536), Size("large", 4096, 131_072))


def row(name: str, value: float, unit: str, against: str = "", target: float | None = None) -> Row:
    """A row; a target is the most that holds."""
    holds = None if target is None else value <= target
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
    return sum("synchroniz" in str(warning.message) for warning in said)


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
    from sae.kernels.triton_ops import fused

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
    x, rows = (torch.randn(n, 200, generator=g, device="cuda") for n in (300, 4096))
    crowded = 20.0 * (torch.arange(4096, device="cuda") % 32 == 3)  # more in one tile than it keeps
    values, indices = x.new_empty(300, 20), torch.empty(300, 20, dtype=torch.int64, device="cuda")
    fused.largest(x, rows, crowded, values, indices)
    pre = x @ rows.T + crowded
    for name, got in {"values": values, "latents": pre.gather(1, indices)}.items():
        if not torch.allclose(got, pre.topk(20).values, rtol=1e-3, atol=1e-2):
            found.append(f"the fused choice of a crowded tile: its {name} are wrong")
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


def choice_rows() -> list[Row]:
    """The fused choice beside the separate one, in bfloat16."""
    from sae.kernels.selection import largest_of_tokens
    from sae.kernels.triton_ops import LOOPS, fused

    found, (n, d_sae, k) = [], (8192, 24_576, 64)
    values, indices = torch.empty(n, k, device="cuda"), torch.empty(n, k, dtype=torch.int64, device="cuda")
    bias, widest = torch.zeros(d_sae, device="cuda"), fused.WIDEST
    for d in WIDTHS:
        x, rows = (torch.randn(m, d, device="cuda", dtype=torch.bfloat16) for m in (n, d_sae))
        one = seconds_of(lambda x=x, rows=rows: fused.largest(x, rows, bias, values, indices), 10)
        fused.WIDEST = 0
        two = seconds_of(lambda x=x, rows=rows: largest_of_tokens(LOOPS, x, rows, bias, k, torch.bfloat16), 10)
        fused.WIDEST = widest
        found.append(row(f"fused_choice_d{d}", one / two, "ratio of times", "product, then choice"))
    return found


def step_rows(size: Size, rates: Rates, n_steps: int) -> list[Row]:
    """Steps of the trainer beside the roofline."""
    from sae.training import TrainConfig, initial, loop

    pool = torch.randn(4, size.batch, size.d, device="cuda")

    class Pool:
        def batch(self, step: int) -> Tensor:
            return pool[step % 4]

    config = TrainConfig(d_sae=size.d_sae, l0=size.k, batch=size.batch, tokens=10**6 * size.batch, selection="bfloat16")
    steps = loop(initial(pool[0], config), Pool(), config)
    seconds = seconds_of(lambda: next(steps), n_steps)
    waits = n_waits(lambda: next(steps))
    against = "bandwidth and matrix rate of this call"
    over = seconds / sum(size.parts(rates).values())
    return [
        *roofline_rows(size, rates, against),
        row(f"step_{size.name}", 1000 * seconds, "ms"),
        row(f"step_{size.name}_waits", waits, "times that the host waits", "at the step's end", WAITS),
        row(f"step_{size.name}_over_roofline", over, "ratio of times", against, TARGET),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--sizes", default=",".join(size.name for size in SIZES))
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    wanted, known = options.sizes.split(","), {size.name: size for size in SIZES}
    if not set(wanted) <= set(known):
        parser.error(f"--sizes {options.sizes}: there are {', '.join(known)}")
    chosen = [known[name] for name in wanted]
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured; the roofline of an H200 from 4.3 TB/s and 790 TFLOP/s:")
        found = [one for size in chosen for one in roofline_rows(size, H200, "constants of an H200")]
    else:
        wrong = [*differences(), *learning_differences()]
        print("\n".join(wrong) or "Triton's kernels equal the reference, and every preset learns the same with them")
        if wrong:
            sys.exit(1)
        rates = measured_rates()
        found = [
            row("copy", rates.bytes_per_second / 1e9, "GB/s"),
            row("product", rates.flops_per_second / 1e12, "TFLOP/s"),
        ]
        found += choice_rows()
        for size in chosen:
            found += step_rows(size, rates, options.steps)
    for one in found:
        print(f"{one['name']:32} {one['value']:10.4g} {one['unit']}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
