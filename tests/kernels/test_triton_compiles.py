"""Triton's kernels compile for a GPU, which needs none: the interpreter takes what the compiler does not."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="no package triton here")

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sae.kernels.triton_ops import adam_rows, bag, dots, select

P, I, N, F = "*fp32", "*i64", "i32", "fp32"
adam = dict.fromkeys(("parameter", "gradient", "scale"), P) | {"d": N, "seed": N}
adam |= dict.fromkeys(("rate", "beta1", "beta2", "correction", "epsilon"), F)
chosen = {"bias": P, "values": P, "indices": I, "d_sae": N, "k": N}
for rows in ("*fp32", "*bf16"):
    narrow = rows == "*bf16"
    kernels = [
        (bag._bag, {"indices": I, "starts": I, "rows": rows, "weights": P, "out": P, "totals": P, "d": N},
         {"PAIRS": bag.PAIRS, "WIDTH": bag.WIDTH}),
        (dots._dots, {"left": rows, "rows": rows, "bias": P, "indices": I, "starts": I, "out": P, "d": N},
         {"BIASED": narrow, "PAIRS": dots.PAIRS, "WIDTH": dots.WIDTH}),
        (select._maxima, {"pre": rows, "bias": P, "maxima": "*i32", "d_sae": N, "n_blocks": N},
         {"BLOCKS": 256, "WIDTH": 16}),
        (select._blocks, {"maxima": "*i32", "blocks": "*i32", "n_blocks": N, "k": N}, {"ALL": 2048}),
        (select._choose, chosen | {"pre": rows, "blocks": "*i32", "n_chosen": N}, {"WIDTH": 16, "ALL": 1024}),
        (select._order, {"values": P, "indices": I, "n": N, "k": N}, {"TOKENS": 16, "ALL": 64}),
        (adam_rows._squares, {"gradient": P, "rows": P, "out": P, "d": N}, {"UNIT": narrow, "WIDTH": 1024}),
        (adam_rows._adam, adam | {"mean": rows, "square": rows}, {"UNIT": True, "NARROW": narrow, "WIDTH": 1024}),
    ]
    for kernel, given, constants in kernels:
        signature = {name: given.get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(kernel, signature=signature, constexprs=constants)
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
        print(kernel.__name__)
"""


def test_every_kernel_compiles() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.split()) == 16
