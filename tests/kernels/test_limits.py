"""What a kernel cannot take is refused by name."""

import pytest
import torch

from sae.core.errors import InputError
from sae.kernels import cpu
from tests.kernels.spellings import COMPILED, SPELLINGS


@COMPILED
def test_more_tokens_than_can_be_numbered():
    left, nothing = torch.empty(cpu.LIMIT + 1, 0), torch.empty(0, dtype=torch.int64)
    with pytest.raises(InputError, match=rf"kernel dots numbers at most {cpu.LIMIT}"):
        cpu.CompiledLoops().dots(left, torch.empty(1, 0), nothing, torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("kernel", SPELLINGS)
@pytest.mark.parametrize("k", [0, 6])
def test_more_latents_than_there_are(kernel, k):
    with pytest.raises(InputError, match=f"kernel largest keeps 1 to d_sae = 5 latents, got k = {k}"):
        kernel.encode_topk(torch.ones(3, 2), torch.ones(5, 2), torch.zeros(5), k)


def encoders(kernel):
    floor = torch.zeros(5, dtype=torch.float16)
    return [
        lambda x, rows, bias: kernel.encode_topk(x, rows, bias, 2),
        lambda x, rows, bias: kernel.encode_batchtopk(x, rows, bias, 2),
        lambda x, rows, bias: kernel.encode_threshold(x, rows, bias, 0.0),
        lambda x, rows, bias: kernel.above(x, rows, bias, floor),
    ]


@pytest.mark.parametrize("number", range(4))
def test_float16_that_overflows_says_so(number):
    from sae.kernels import dispatch

    encode = encoders(dispatch)[number]
    x, rows, bias = (torch.ones(s, dtype=torch.float16) for s in ((3, 2), (5, 2), (5,)))
    torch.testing.assert_close(encode(x, rows, bias).values.max(), torch.tensor(3.0, dtype=torch.float16))
    with pytest.raises(InputError, match=r"overflow float16 \(65,504\); encode in bfloat16 or float32"):
        encode(3e4 * x, 2 * rows, bias)
    values = encode((3e4 * x).bfloat16(), (2 * rows).bfloat16(), bias.bfloat16()).values if number < 3 else None
    assert values is None or values.isfinite().all()
