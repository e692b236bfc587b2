"""The sparse path's loops in Triton, for a GPU; under `TRITON_INTERPRET=1` also on a processor, to be tested.

The encoder's product is torch's. No kernel of TopK waits for the host; the trainer's step does once, at its end
(`sae.training.step.Heard`). Same functions as `sae.kernels.reference`; importing this needs the package triton.
"""

from sae.kernels.spelling import Spelling
from sae.kernels.triton_ops.loops import TritonLoops

LOOPS = TritonLoops()
_spelling = Spelling(LOOPS)
topk, encode_topk, largest = _spelling.topk, _spelling.encode_topk, _spelling.largest
encode_batchtopk, encode_threshold, above = _spelling.encode_batchtopk, _spelling.encode_threshold, _spelling.above
sparsify, sparse_decode, descend = _spelling.sparsify, _spelling.sparse_decode, _spelling.descend
above_and_between, marked_sums = _spelling.above_and_between, _spelling.marked_sums
