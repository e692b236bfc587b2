"""Laws of reading, for every family."""

import pytest
import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm import editing, reading, sites_of
from sae.lm.families import family_of


def read(model: nn.Module, sites: list[str], ids: Tensor, stop: bool = True, **inputs: Tensor) -> dict[str, Tensor]:
    with reading(model, sites, stop=stop) as captured:
        model(input_ids=ids, **inputs)
    return dict(captured)


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def test_reading_changes_nothing(model: nn.Module, ids: Tensor, mask: Tensor) -> None:
    plain = model(input_ids=ids, attention_mask=mask).logits
    with reading(model, sites_of(model), stop=False):
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, plain)
    assert n_hooks(model) == 0


def test_stopping_gives_the_same_values_and_skips_the_rest(model: nn.Module, ids: Tensor) -> None:
    every = read(model, list(sites_of(model)), ids, stop=False)
    for site in sites_of(model):
        assert torch.equal(read(model, [site], ids)[site], every[site])
    reached = []
    model.get_submodule(f"{family_of(model).blocks}.2").register_forward_hook(lambda *_: reached.append(2))
    try:
        read(model, ["blocks.1.resid_post", "embed"], ids)
        assert not reached
    finally:
        model.get_submodule(f"{family_of(model).blocks}.2")._forward_hooks.clear()


def test_batch_items_are_kept_apart(model: nn.Module, ids: Tensor) -> None:
    sites = list(sites_of(model))
    together, alone = read(model, sites, ids), read(model, sites, ids[1:2])
    for site in sites:
        kept = 2 if site.endswith("attn_pattern") else 1
        assert (together[site].shape[0], together[site].shape[kept]) == ids.shape
        torch.testing.assert_close(together[site][1:2], alone[site], atol=2e-5, rtol=1e-5)


def test_gradients_flow_only_when_asked(model: nn.Module, ids: Tensor) -> None:
    start = torch.zeros(16, requires_grad=True)
    with (
        editing(model, {"embed": lambda x, context: x + start}),
        reading(model, ["final"], gradients=True) as captured,
    ):
        model(input_ids=ids)
    (gradient,) = torch.autograd.grad(captured["final"].square().sum(), start)
    assert gradient.abs().min() > 0
    with editing(model, {"embed": lambda x, context: x + start}), reading(model, ["final"]) as captured:
        model(input_ids=ids)
    assert not captured["final"].requires_grad


def test_nested_readings_stop_when_all_have_theirs(model: nn.Module, ids: Tensor) -> None:
    every = read(model, list(sites_of(model)), ids)
    with reading(model, ["final"]) as outer:
        with reading(model, ["embed"]) as inner:
            model(input_ids=ids)
        assert torch.equal(outer["final"], every["final"])
        assert torch.equal(inner["embed"], every["embed"])
    logits = None
    with reading(model, ["final"], stop=False), reading(model, ["embed"]):
        logits = model(input_ids=ids).logits
    assert logits is not None
    assert n_hooks(model) == 0


def test_site_that_is_not_there_is_refused_with_what_is(model: nn.Module, ids: Tensor) -> None:
    with pytest.raises(InputError, match=r"did you mean 'blocks\.1\.resid_post'\? it has embed, blocks\.\{0…2\}"):
        read(model, ["blocks.1.resid_pots"], ids)
    with pytest.raises(InputError, match=r"no site 'blocks\.7\.resid_post'"):
        read(model, ["blocks.7.resid_post"], ids)
    if family_of(model).parallel:
        with pytest.raises(InputError, match=r"no site 'blocks\.0\.resid_mid'") as refusal:
            read(model, ["blocks.0.resid_mid"], ids)
        assert "resid_mid," not in str(refusal.value).split("it has")[1]


def test_what_was_not_reached_says_so(model: nn.Module) -> None:
    with reading(model, ["embed"]) as captured:
        pass
    with pytest.raises(InputError, match="call the model inside"):
        captured["embed"]


def test_architecture_without_a_family_is_refused() -> None:
    with pytest.raises(InputError, match="no family for architecture 'Linear'; there are llama, mistral"):
        sites_of(nn.Linear(2, 2))
