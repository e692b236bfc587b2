"""The operators keep torch's rules, and a compiled dictionary equals the eager one in value and gradient."""

import subprocess
import sys

import pytest
import torch

from sae.kernels import operators
from tests.kernels.test_ragged_kernels import problem

COMPILED = """
import sys, torch
from sae.dictionary import BatchTopK, Dictionary, DictionaryConfig, JumpRelu, Relu, TopK

torch._dynamo.config.capture_dynamic_output_shape_ops = True
kinds = {"topk": TopK(k=3), "batchtopk": BatchTopK(k=3), "jumprelu": JumpRelu(bandwidth=1.0), "relu": Relu()}
for name, activation in kinds.items():
    for autocast in (False, True)[: 1 + (name == "topk")]:
        g = torch.Generator().manual_seed(0)
        dictionary = Dictionary(DictionaryConfig(d_in=8, d_out=8, d_sae=40, activation=activation))
        for value in dictionary.state_dict().values():
            value.copy_(torch.randn(value.shape, generator=g))
        dictionary.train(name == "batchtopk")
        found = []
        for read in (dictionary, torch.compile(dictionary, backend="aot_eager", fullgraph=True)):
            x = torch.randn(50, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
            dictionary.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                y = read(x)
            y.square().sum().backward()
            found.append([y.detach(), x.grad, *(p.grad for p in dictionary.parameters() if p.grad is not None)])
        assert len(found[0]) == len(found[1]) >= 6 - (name == "jumprelu")
        for a, b in zip(*found):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    print(name)
"""


@pytest.fixture
def leaves() -> list[torch.Tensor]:
    return [leaf.requires_grad_() for leaf in problem((6, 5, 12), torch.float32, 0, False)]


def test_selections_keep_the_rules(leaves):
    x, rows, bias, _ = leaves
    for operator, more in ((operators.largest, (3,)), (operators.above, (torch.zeros(12),))):
        torch.library.opcheck(operator, (x, rows, bias, *more, torch.float32))
    with torch.no_grad():
        assert len(operators.largest_of_batch(x, rows, bias, 18, torch.float32)[0]) == 18


def test_sums_keep_the_rules(leaves):
    x, rows, _, W_dec = leaves
    values, indices = torch.rand(12, requires_grad=True), torch.arange(12)
    starts = torch.arange(7) * 2
    torch.library.opcheck(operators.decode, (values, indices, starts, W_dec))
    fixed = [leaf.detach() for leaf in (x, rows, values)]
    torch.library.opcheck(operators.dots, (fixed[0], fixed[1], indices, starts))
    torch.library.opcheck(operators.by_latent, (fixed[2], indices, starts, fixed[0], 12))


def test_a_compiled_dictionary_equals_the_eager_one():
    """In a process of its own: what checks shapes here would be traced as well."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["topk", "batchtopk", "jumprelu", "relu"]
