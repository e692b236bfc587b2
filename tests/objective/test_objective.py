"""Laws of the loss and of AuxK."""

import pytest
import torch

from sae.dictionary import Dictionary, DictionaryConfig, TopK
from sae.objective import AuxK, Dead, NoAuxiliary, Objective, Situation


def problem() -> tuple[Dictionary, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    dictionary = Dictionary(DictionaryConfig(d_in=8, d_out=8, d_sae=32, activation=TopK(k=3))).double()
    with torch.no_grad():
        for parameter in dictionary.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g))
        dictionary.b_enc[:10] -= 20  # never among the top three
    return dictionary, torch.randn(40, 8, generator=g, dtype=torch.float64)


DEAD = torch.arange(32) < 10
SITUATION = Situation(Dead(DEAD))
NONE = torch.zeros(32, dtype=torch.bool)


def unexplained(dictionary: Dictionary, x: torch.Tensor, k: int) -> torch.Tensor:
    """The definition, dense: the largest dead pre-activations decoded without bias against the residual."""
    residual = (x - dictionary(x)).detach()
    pre = dictionary.pre_activations(x)[:, DEAD]
    values, indices = pre.topk(k, dim=-1)
    z = torch.zeros_like(pre).scatter(-1, indices, values.relu())
    error = (residual - z @ dictionary.W_dec[DEAD]).square().sum()
    return error / (residual - residual.mean(0)).square().sum()


def test_the_parts_add_up():
    dictionary, x = problem()
    loss = Objective(auxiliary=AuxK(k=4)).loss(dictionary, x, x, SITUATION)
    torch.testing.assert_close(loss.total, loss.reconstruction + loss.auxiliary)
    torch.testing.assert_close(loss.reconstruction, (x - dictionary(x)).square().mean())
    torch.testing.assert_close(loss.reconstructed, dictionary(x))


def test_auxk_is_the_papers():
    dictionary, x = problem()
    with torch.no_grad():
        dictionary.b_enc[:] += 20  # the dead stay unselected, with pre-activations of both signs
    loss = Objective(auxiliary=AuxK(k=4, coefficient=0.25)).loss(dictionary, x, x, SITUATION)
    torch.testing.assert_close(loss.auxiliary, 0.25 * unexplained(dictionary, x, 4))


def test_auxk_gives_encoder_and_decoder_of_dead_latents_a_gradient_and_nobody_else():
    dictionary, x = problem()
    with torch.no_grad():
        dictionary.b_enc[:] += 20
    Objective(auxiliary=AuxK(k=4)).loss(dictionary, x, x, SITUATION).auxiliary.backward()
    for parameter in (dictionary.encoder_rows, dictionary.W_dec, dictionary.b_enc):
        assert parameter.grad is not None
        norms = parameter.grad.flatten(1).norm(dim=1) if parameter.ndim > 1 else parameter.grad.abs()
        assert (norms[DEAD] > 0).sum() >= 8
        assert not norms[~DEAD].any()
    assert dictionary.b_dec.grad is None or not dictionary.b_dec.grad.any()


@pytest.mark.parametrize(
    ("auxiliary", "dead"), [(NoAuxiliary(), DEAD), (AuxK(k=4), NONE)], ids=["no term", "nobody dead"]
)
def test_absence_is_zero(auxiliary, dead):
    dictionary, x = problem()
    loss = Objective(auxiliary=auxiliary).loss(dictionary, x, x, Situation(Dead(dead)))
    assert loss.auxiliary == 0
    assert torch.equal(loss.total, loss.reconstruction)


def test_fewer_dead_latents_than_k_aux_use_all_of_them():
    dictionary, x = problem()
    few, many = (Objective(auxiliary=AuxK(k=k)).loss(dictionary, x, x, SITUATION).auxiliary for k in (10, 1000))
    torch.testing.assert_close(few, many)


def test_a_share_of_the_dead_is_a_smaller_k():
    dictionary, x = problem()
    n = int(DEAD.sum())
    for share, k in ((0.5, n // 2), (1 / n, 1), (0.01, 1), (1.0, n)):
        losses = (AuxK(k=1000, share=share), AuxK(k=k))
        a, b = (Objective(auxiliary=auxiliary).loss(dictionary, x, x, SITUATION).auxiliary for auxiliary in losses)
        assert a == b


def test_a_perfect_reconstruction_has_no_auxiliary_loss():
    dictionary, x = problem()
    with torch.no_grad():
        dictionary.b_enc[:] = -1e3
        dictionary.b_dec[:] = x[0]
    same = x[:1].expand(5, 8)
    assert Objective(auxiliary=AuxK(k=4)).loss(dictionary, same, same, SITUATION).auxiliary == 0


def auxiliary(dictionary: Dictionary, x: torch.Tensor, autocast: bool = False) -> list[torch.Tensor]:
    """The term and its gradients."""
    dictionary.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        term = Objective(auxiliary=AuxK(k=4)).loss(dictionary, x, x, SITUATION).auxiliary
    term.backward()
    return [term.detach(), *(p.grad.clone() for p in dictionary.parameters() if p.grad is not None)]


@pytest.mark.parametrize("autocast", [False, True])
def test_auxk_where_whole_products_are_quick(monkeypatch, autocast):
    dictionary, x = problem()
    dictionary, x = dictionary.float(), x.float()
    plain = auxiliary(dictionary, x)
    monkeypatch.setattr("sae.objective.auxiliary._is_quick", lambda x: True)
    quick = auxiliary(dictionary, x, autocast)
    assert len(plain) == len(quick) >= 4
    for a, b in zip(quick, plain, strict=True):
        assert a.isfinite().all()
        assert (a - b).norm() <= 0.15 * b.norm()  # a few of 40 tokens choose otherwise


def test_auxk_stays_in_the_trainer_s_autocast():
    dictionary, x = problem()
    dictionary, x = dictionary.float(), x.float()
    assert auxiliary(dictionary, x, autocast=True)[0] != auxiliary(dictionary, x)[0]
