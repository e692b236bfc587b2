"""Laws of editing, for every family."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm import Context, context_of, editing, reading, sites_of
from sae.lm.edits import apply
from sae.lm.tiny import tiny


def identity(x: Tensor, context: Context) -> Tensor:
    return x


def shift(x: Tensor, context: Context) -> Tensor:
    return x + torch.linspace(0.5, 1.5, x.shape[-1])


def read_all(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    with reading(model, sites_of(model)) as captured:
        model(input_ids=ids)
    return dict(captured)


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def test_identity_changes_nothing(model: nn.Module, ids: Tensor, mask: Tensor) -> None:
    plain = model(input_ids=ids, attention_mask=mask).logits
    with editing(model, dict.fromkeys(sites_of(model), identity)):
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, plain)
    assert n_hooks(model) == 0


def test_patching_a_residual_carries_everything(model: nn.Module, ids: Tensor) -> None:
    source = torch.roll(ids, 1, dims=0)
    theirs = read_all(model, source)
    for site in ("embed", "blocks.1.resid_pre", "blocks.1.resid_mid", "blocks.1.resid_post", "final", "final_norm"):
        if site in sites_of(model):
            with editing(model, {site: lambda x, context, site=site: theirs[site]}):
                logits = model(input_ids=ids).logits
            torch.testing.assert_close(logits, theirs["logits"], atol=1e-4, rtol=1e-4)


def test_logits_can_be_edited(model: nn.Module, ids: Tensor) -> None:
    with editing(model, {"logits": lambda x, context: x * 2}):
        edited = model(input_ids=ids).logits
    assert torch.equal(edited, 2 * model(input_ids=ids).logits)


def test_edits_of_a_list_compose_in_order(model: nn.Module, ids: Tensor) -> None:
    site = "blocks.1.resid_post"
    with (
        editing(model, {site: [shift, lambda x, context: 2 * x]}),
        reading(model, [site]) as captured,
    ):
        model(input_ids=ids)
    expected = 2 * shift(read_all(model, ids)[site], context_of({"input_ids": ids}))
    assert torch.equal(captured[site], expected)


def test_contexts_act_in_the_order_in_which_they_were_entered(model: nn.Module, ids: Tensor) -> None:
    plain = read_all(model, ids)
    for site in ("blocks.1.resid_pre", "blocks.1.attn_out", "blocks.1.mlp_in", "final"):
        with (
            reading(model, [site, "logits"]) as outside,
            editing(model, {site: shift}),
            reading(model, [site]) as inside,
        ):
            model(input_ids=ids)
        assert torch.equal(outside[site], plain[site])
        assert torch.equal(inside[site], shift(plain[site], context_of({"input_ids": ids})))
        assert not torch.equal(outside["logits"], plain["logits"])


def test_nested_contexts_are_a_list_at_every_site(model: nn.Module, ids: Tensor) -> None:
    def scale(x: Tensor, context: Context) -> Tensor:
        return x * torch.linspace(0.5, 1.5, x.shape[-1])

    final = sites_of(model)[-2]
    for site in (site for site in sites_of(model) if site.startswith("blocks.1.")):
        with editing(model, {site: [scale, flip, scale]}), reading(model, [site, final]) as listed:
            model(input_ids=ids)
        with editing(model, {site: scale}), reading(model, [site]) as between, editing(model, {site: flip}):
            with editing(model, {site: scale}), reading(model, [site, final]) as nested:
                model(input_ids=ids)
            with reading(model, [final]) as after:
                model(input_ids=ids)
        assert all(torch.equal(nested[one], listed[one]) for one in (site, final)), site
        assert not torch.equal(between[site], nested[site])
        assert not torch.equal(after[final], nested[final])
    assert n_hooks(model) == 0


def flip(x: Tensor, context: Context) -> Tensor:
    return x.flip(-1) + 0.25


def test_reading_outside_sees_an_edit_of_the_middle_at_the_end(ids: Tensor) -> None:
    model = tiny("gpt2")
    plain = read_all(model, ids)
    with reading(model, ["blocks.1.resid_post"]) as outside, editing(model, {"blocks.1.resid_mid": shift}):
        model(input_ids=ids)
    assert not torch.equal(outside["blocks.1.resid_post"], plain["blocks.1.resid_post"])


def test_context_knows_the_pass(model: nn.Module, ids: Tensor, mask: Tensor) -> None:
    seen: list[Context] = []

    def look(x: Tensor, context: Context) -> Tensor:
        seen.append(context)
        return x

    with editing(model, {"blocks.1.mlp_out": look}, capture=["blocks.1.mlp_in"]):
        model(input_ids=ids, attention_mask=mask)
        model(ids, use_cache=False)
    first, second = seen
    assert first.site == second.site == "blocks.1.mlp_out"
    assert first.tokens is not None
    assert torch.equal(first.tokens, ids)
    assert torch.equal(first.mask, mask.bool())
    assert second.mask.all()
    assert not first.generated.any()
    with reading(model, ["blocks.1.mlp_in"]) as captured:
        model(input_ids=ids, attention_mask=mask)
    assert torch.equal(first.captured["blocks.1.mlp_in"], captured["blocks.1.mlp_in"])


def test_hooks_are_gone_after_exceptions(model: nn.Module, ids: Tensor) -> None:
    def fail(x: Tensor, context: Context) -> Tensor:
        raise KeyError("inside an edit")

    with pytest.raises(KeyError), reading(model, ["final"]), editing(model, {"blocks.1.resid_pre": fail}):
        model(input_ids=ids)
    with pytest.raises(InputError), reading(model, ["final"]), editing(model, {"embed": shift, "nowhere": shift}):
        model(input_ids=ids)
    assert n_hooks(model) == 0
    plain = read_all(model, ids)
    assert set(plain) == set(sites_of(model))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, context: x[:, :1], r"gave \[3, 1, 16\] float32 on cpu; it must give \[3, 12, 16\] float32 on cpu"),
        (lambda x, context: x.double(), "gave .* float64"),
        (lambda x, context: None, "gave a NoneType"),
        (lambda x, context: x.add_(1), "changed its argument in place"),
    ],
)
def test_edits_that_break_the_contract_are_refused(model: nn.Module, ids: Tensor, wrong, message: str) -> None:
    with pytest.raises(InputError, match=message), editing(model, {"blocks.0.mlp_out": wrong}):
        model(input_ids=ids)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named_by_site_and_position(
    model: nn.Module, ids: Tensor, mask: Tensor, value: float
) -> None:
    def spoil(x: Tensor, context: Context) -> Tensor:
        here = (context.positions == 3) & (torch.arange(3)[:, None] == 1)
        return torch.where(here[..., None], value, x)

    edits = {"blocks.1.mlp_out": [identity, spoil]}
    says = rf"edit at blocks\.1\.mlp_out gave {value} at text 1, position 3"
    left = mask.flip(1)
    with pytest.raises(InputError, match=says), editing(model, edits):
        model(input_ids=ids, attention_mask=left)
    with editing(model, edits, finite=False):
        assert model(input_ids=ids, attention_mask=left).logits[1].isnan().any()


def test_what_was_not_finite_before_is_not_the_edits_fault(ids: Tensor) -> None:
    model = tiny("llama")
    with editing(model, {"embed": lambda x, context: x * torch.nan}, finite=False), editing(model, {"final": shift}):
        assert model(input_ids=ids).logits.isnan().all()


def test_tokens_can_be_forbidden_at_the_logits(ids: Tensor) -> None:
    model = tiny("llama")
    with editing(model, {"logits": lambda x, context: x.index_fill(-1, torch.tensor([7]), -torch.inf)}):
        assert (model(input_ids=ids).logits[..., 7] == -torch.inf).all()


def test_sums_that_overflow_do_not_accuse() -> None:
    x, context = torch.full((2, 3, 16), 3e38), context_of({"input_ids": torch.ones(2, 3, dtype=torch.long)})
    assert apply(lambda x, context: x * 1, x, context, finite=True).isfinite().all()


@pytest.mark.parametrize("site", ["embed", "blocks.1.attn_q", "blocks.1.attn_heads", "blocks.1.resid_mid", "logits"])
@pytest.mark.parametrize("guard", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_changes_in_place_are_refused_in_every_mode(site: str, guard: Callable[[], Any], ids: Tensor) -> None:
    def part(x: Tensor, context: Context) -> Tensor:
        x[:, 0] = 1
        return x

    def captured(x: Tensor, context: Context) -> Tensor:
        context.captured["embed"].zero_()
        return x

    def own(x: Tensor, context: Context) -> Tensor:
        y = x.clone()
        y[:, 0] += 1
        return y.mul_(2)

    def put(x: Tensor, context: Context) -> Tensor:
        return x.add_(1).clone()

    model = tiny("gpt2")
    for wrong in (part, put, captured, [own, put], [own, part]):
        refused = pytest.raises(InputError, match=f"{site} changed its argument in place")
        with guard(), refused, editing(model, {site: wrong}, capture=["embed"]):
            model(input_ids=ids)
    with editing(model, {site: own}):
        expected = model(input_ids=ids).logits
        with guard():
            assert torch.equal(model(input_ids=ids).logits, expected)


def test_editing_under_inference_mode(ids: Tensor) -> None:
    model = tiny("gpt2")
    with editing(model, {"blocks.1.resid_mid": shift}):
        usual = model(input_ids=ids).logits
        with torch.inference_mode():
            assert torch.equal(model(input_ids=ids).logits, usual)


def test_a_part_that_is_called_after_the_model_is_refused_its_context(model: nn.Module, ids: Tensor) -> None:
    with editing(model, {"blocks.1.resid_post": shift}):
        model(input_ids=ids)
        with pytest.raises(InputError, match="call the whole language model, not a part of it"):
            model.base_model(input_ids=ids[:2, :5])  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("as_record", [True, False])
def test_logits_are_edited_behind_a_loss(model: nn.Module, ids: Tensor, as_record: bool) -> None:
    plain = model(input_ids=ids, labels=ids)
    with editing(model, {"logits": shift}), reading(model, ["logits"], stop=False) as captured:
        output = model(input_ids=ids, labels=ids, return_dict=as_record)
    loss, logits = (output.loss, output.logits) if as_record else output[:2]
    assert torch.equal(loss, plain.loss)
    assert torch.equal(logits, shift(plain.logits, context_of({"input_ids": ids})))
    assert torch.equal(captured["logits"], logits)
