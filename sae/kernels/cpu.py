"""The sparse path's loops in C++, for float32 on a processor; built on first use by `sae.kernels.build`.

The encoder's product stays torch's. Threads are as many as torch uses, and its own. Same functions as
`sae.kernels.reference`; other precisions than float32 go through `sae.kernels.sparse`.
"""

import ctypes
import functools

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae.core.errors import InputError, WorldError
from sae.kernels import build, pool
from sae.kernels.loops import AdamStep, Bounds, ByLatent, Loops, Pairs, Slot, bounds
from sae.kernels.spelling import Spelling

LIMIT = 2**31 - 1
"""Latents and tokens that a loop can number."""


class CompiledLoops(Loops):
    """Each loop one call of `loops.cpp`."""

    def select(
        self,
        pre: Float[Tensor, "token d_sae"],
        bias: Float[Tensor, "d_sae"],
        values: Float[Tensor, "token k"],
        indices: Int64[Tensor, "token k"],
    ) -> None:
        n, d_sae = pre.shape
        name = "select_bfloat16" if pre.dtype == torch.bfloat16 else "select_float32"
        _call(name, pre, bias.contiguous(), n, d_sae, values.shape[1], values, indices)

    def refine(
        self,
        x: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        bias: Float[Tensor, "d_sae"],
        values: Float[Tensor, "token k"],
        indices: Int64[Tensor, "token k"],
    ) -> None:
        n, k = values.shape
        _call("refine", x.contiguous(), rows.contiguous(), bias.contiguous(), n, x.shape[1], k, values, indices)

    def above(
        self, pre: Float[Tensor, "token d_sae"], bias: Float[Tensor, "d_sae"], floor: Float[Tensor, "d_sae"]
    ) -> Pairs:
        n, d_sae = pre.shape
        given = pre.contiguous(), bias.contiguous(), floor.contiguous(), n, d_sae
        kind = "bfloat16" if pre.dtype == torch.bfloat16 else "float32"
        counts = torch.empty(n, dtype=torch.int64)
        _call(f"count_above_{kind}", *given, counts)
        starts = bounds(counts)
        values, indices = bias.new_empty(int(starts[-1])), torch.empty(int(starts[-1]), dtype=torch.int64)
        _call(f"fill_above_{kind}", *given, starts, values, indices)
        return Pairs(values, indices, starts)

    def mark(
        self,
        pre: Float[Tensor, "token d_sae"],
        bias: Float[Tensor, "d_sae"],
        floor: Float[Tensor, "d_sae"],
        ceiling: Float[Tensor, "d_sae"],
        marks: Bool[Tensor, "token d_sae"],
    ) -> None:
        kind = "bfloat16" if pre.dtype == torch.bfloat16 else "float32"
        given = pre.contiguous(), bias.contiguous(), floor.contiguous(), ceiling.contiguous()
        _call(f"mark_{kind}", *given, *pre.shape, marks)

    def add_marked(
        self, block: Float[Tensor, "token d_sae"], marks: Bool[Tensor, "token d_sae"], sums: Float[Tensor, "d_sae"]
    ) -> None:
        _call("add_marked", block, marks, *block.shape, sums)

    def bag(
        self,
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
        rows: Float[Tensor, "row d"],
        weights: Float[Tensor, "pair"],
    ) -> Float[Tensor, "token d"]:
        out = rows.new_empty(len(starts) - 1, rows.shape[1])
        given = indices.contiguous(), starts, rows.contiguous(), weights.contiguous()
        _call("bag", *given, *out.shape, out)
        return out

    def dots(
        self,
        left: Float[Tensor, "token d"],
        rows: Float[Tensor, "d_sae d"],
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
    ) -> Float[Tensor, "pair"]:
        out = left.new_empty(len(indices))
        _call("dots", left.contiguous(), rows.contiguous(), indices.contiguous(), starts, *left.shape, out)
        return out

    def take(
        self,
        block: Float[Tensor, "token d_sae"],
        indices: Int64[Tensor, "pair"],
        starts: Bounds,
        out: Float[Tensor, "pair"],
    ) -> None:
        _call("take", block, indices.contiguous(), starts.contiguous(), *block.shape, out)

    def by_latent(self, pairs: Pairs, source: Float[Tensor, "token d"], d_sae: int) -> ByLatent:
        rows, totals = pool.lend(d_sae, source.shape[1], source), source.new_empty(d_sae)
        given = pairs.indices.contiguous(), pairs.starts, source.contiguous(), pairs.values.contiguous()
        _call("sum_by_latent", *given, *source.shape, d_sae, rows, totals)
        return ByLatent(rows, totals)

    def squares(
        self, gradient: Float[Tensor, "row d"], unit_rows: Float[Tensor, "row d"] | None
    ) -> Float[Tensor, "row"]:
        out = gradient.new_empty(len(gradient))
        _call("squares", gradient, unit_rows, *gradient.shape, out)
        return out

    def adam(self, slot: Slot, scale: Float[Tensor, ""], how: AdamStep) -> None:
        if scale.isnan():
            return
        rate = how.rate / (1 - how.beta1**slot.n_steps)
        correction = (1 - how.beta2**slot.n_steps) ** -0.5
        numbers = float(scale), rate, how.beta1, how.beta2, correction, how.epsilon
        kind = "bfloat16" if slot.mean.dtype == torch.bfloat16 else "float32"
        _call(f"adam_{kind}", *slot[:4], *slot.parameter.shape, *numbers, slot.unit, slot.n_steps)


_TYPES = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "f": ctypes.c_float, "i": ctypes.c_int}
_SIGNATURES = {
    "select_float32": "ppnnnpp",
    "select_bfloat16": "ppnnnpp",
    "refine": "pppnnnpp",
    "count_above_float32": "pppnnp",
    "count_above_bfloat16": "pppnnp",
    "fill_above_float32": "pppnnppp",
    "fill_above_bfloat16": "pppnnppp",
    "mark_float32": "ppppnnp",
    "mark_bfloat16": "ppppnnp",
    "add_marked": "ppnnp",
    "take": "pppnnp",
    "bag": "ppppnnp",
    "dots": "ppppnnp",
    "sum_by_latent": "ppppnnnpp",
    "squares": "ppnnp",
    "adam_float32": "ppppnnffffffii",
    "adam_bfloat16": "ppppnnffffffii",
}
"""Parameters of each loop: pointers, counts, numbers, flags; the number of threads comes last."""


@functools.cache
def _library() -> ctypes.CDLL:
    library = build.library()
    if library is None:
        raise WorldError("the compiled kernels cannot be built here; SAE_KERNELS=sparse does without them")
    for name, signature in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = [_TYPES[letter] for letter in signature + "i"], None
    return library


def _call(name: str, *arguments: Tensor | float | int | None) -> None:
    passed = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            # What is written, or updated in place, cannot be copied first.
            assert argument.is_contiguous(), f"{name} got a tensor that is not contiguous"
            passed.append(argument.data_ptr())
        elif isinstance(argument, int) and argument > LIMIT:
            raise InputError(f"the kernel {name} numbers at most {LIMIT} tokens or latents, got {argument}")
        else:
            passed.append(argument)
    getattr(_library(), name)(*passed, torch.get_num_threads())


LOOPS = CompiledLoops()
_spelling = Spelling(LOOPS)
topk, encode_topk, largest = _spelling.topk, _spelling.encode_topk, _spelling.largest
encode_batchtopk, encode_threshold, above = _spelling.encode_batchtopk, _spelling.encode_threshold, _spelling.above
sparsify, sparse_decode, descend = _spelling.sparsify, _spelling.sparse_decode, _spelling.descend
above_and_between, marked_sums = _spelling.above_and_between, _spelling.marked_sums
