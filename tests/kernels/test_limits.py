"""What a kernel cannot take is refused by name."""

from typing import Any

import jaxtyping
import pytest
import torch

from sae import kernels
from sae.core.errors import InputError
from sae.kernels import AdamStep, FixedCode, RaggedCode, Slot, cpu
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
    with pytest.raises(InputError, match=r"overflow float16 \(65,504\); work in bfloat16 or float32"):
        encode(3e4 * x, 2 * rows, bias)
    values = encode((3e4 * x).bfloat16(), (2 * rows).bfloat16(), bias.bfloat16()).values if number < 3 else None
    assert values is None or values.isfinite().all()


@pytest.fixture
def unchecked():
    """As a user calls it: without the checks of types and shapes that tests run with."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def linear(**parts):
    given: dict[str, Any] = {"x": torch.ones(3, 2), "encoder_rows": torch.ones(5, 2), "b_enc": torch.zeros(5)} | parts
    return kernels.encode_topk(**given, k=2)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"b_enc": torch.zeros(1)}, r"b_enc has shape \[1\]; it takes \[5\]"),
        ({"x": torch.ones(3, 4)}, "x has width 4; encoder_rows read 2"),
        ({"centre": torch.zeros(3)}, r"centre has shape \[3\]; it takes \[2\]"),
        ({"selection": torch.float16}, "float32 or bfloat16, or in the precision of x; not in torch.float16"),
        ({"encoder_rows": torch.ones(0, 2), "b_enc": torch.zeros(0)}, "at least one latent"),
    ],
)
def test_parts_that_do_not_fit(unchecked, parts, said):
    with pytest.raises(InputError, match=said):
        linear(**parts)


def test_thresholds_and_codes_that_do_not_fit(unchecked):
    x, rows, bias = torch.ones(3, 2), torch.ones(5, 2), torch.zeros(5)
    with pytest.raises(InputError, match=r"thresholds have shape \[1\]"):
        kernels.above(x, rows, bias, torch.tensor(0.5))
    with pytest.raises(InputError, match="encode_batchtopk keeps at least 1 latent, got k = -1"):
        kernels.encode_batchtopk(x, rows, bias, -1)
    with pytest.raises(InputError, match="kernel topk keeps 1 to d_sae = 5 latents, got k = 6"):
        kernels.topk(torch.ones(1, 5), 6)
    with pytest.raises(InputError, match=r"latents are int64 numbers, got torch\.int32"):
        kernels.sparse_decode(FixedCode(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int32), 5), rows)


ONE = torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (lambda: FixedCode(torch.ones(4, 8), ONE.expand(4, 1), 5), "32 values and 4 latents"),
        (lambda: RaggedCode(torch.ones(2), ONE.expand(2), torch.tensor([0, 9]), (1,), 5), "rise from 0 to its 2 pairs"),
        (
            lambda: RaggedCode(torch.ones(2), ONE.expand(2), torch.tensor([0, 3, 2]), (2,), 5),
            "rise from 0 to its 2 pairs",
        ),
        (lambda: RaggedCode(torch.ones(2), ONE, torch.tensor([0, 2]), (1,), 5), "2 values and 1 latents"),
        (
            lambda: RaggedCode(torch.ones(2), ONE.expand(2), torch.tensor([0, 2]).int(), (1,), 5),
            "int64 numbers, got torch.int32",
        ),
        (lambda: FixedCode(torch.ones(1, 1), ONE.view(1, 1) + 5, 9), "latents 5 to 5; the decoder has rows 0 to 4"),
    ],
)
def test_codes_whose_parts_do_not_fit(unchecked, code, said):
    with pytest.raises(InputError, match=said):
        kernels.sparse_decode(code(), torch.ones(5, 2))


def test_moments_of_another_shape(unchecked):
    rows = torch.ones(4, 3)
    with pytest.raises(InputError, match=r"shape \[4, 3\] has gradient and moments of shapes \[\[4, 3\], \[2, 3\]"):
        kernels.descend([Slot(rows, rows.clone(), torch.zeros(2, 3), torch.zeros(4, 3), 1, False)], AdamStep(0.1, 1.0))


def test_a_float16_reconstruction_that_overflows_says_so():
    code = FixedCode(torch.ones(1, 2, dtype=torch.float16), torch.tensor([[0, 1]]), 2)
    with pytest.raises(InputError, match="overflow float16"):
        kernels.sparse_decode(code, torch.full((2, 3), 6e4, dtype=torch.float16))


@pytest.mark.parametrize("kernel", SPELLINGS)
def test_a_batch_that_has_what_is_no_number_keeps_as_many_as_asked_for(kernel):
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
    x[3] = torch.nan
    rows = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    code = kernel.encode_batchtopk(x, rows, torch.zeros(40), 4)
    assert len(code.values) == 28
    assert code.values.isnan().all()


def test_autocast_to_float16_chooses_as_bfloat16_does():
    x, rows = torch.randn(70, 16), torch.randn(300, 16)
    with torch.autocast("cpu", torch.float16):
        code = kernels.encode_topk(x, rows, torch.zeros(300), 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert code.indices.equal(kernels.encode_topk(x, rows, torch.zeros(300), 4).indices)
