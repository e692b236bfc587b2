"""Laws of order: an edit shows in every later site and in no earlier one, and it is an edit of what the site names."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from sae.lm import Context, editing, reading, sites_of
from sae.lm.families import family_of

WRITERS = {"resid_pre": ("attn_out", "mlp_out"), "resid_mid": ("mlp_out",), "resid_post": ()}
UNSEEN = {"attn_q": ["attn_k", "attn_v"], "attn_k": ["attn_v"], "attn_v": ["attn_pattern"]}
"""Sites of one block that stand later in the list and do not read the first."""
MLP = ["mlp_in", "mlp_hidden", "mlp_out"]


def scale(x: Tensor, context: Context) -> Tensor:
    """Not a shift, which the softmax over keys does not see."""
    return x * torch.linspace(0.5, 1.5, x.shape[-1])


def around_the_middle(model: nn.Module) -> list[str]:
    """The sites of the middle block and outside the blocks, and one in each block beside it."""
    beside = ("blocks.0.mlp_out", "blocks.2.attn_out")
    return [site for site in sites_of(model) if not site.startswith(("blocks.0", "blocks.2")) or site in beside]


def read(model: nn.Module, sites: list[str], ids: Tensor) -> dict[str, Tensor]:
    with reading(model, sites) as captured:
        model(input_ids=ids)
    return dict(captured)


def test_edit_shows_in_every_later_site_and_in_no_earlier(model: nn.Module, ids: Tensor) -> None:
    sites, parallel = around_the_middle(model), family_of(model).parallel
    plain = read(model, sites, ids)
    for number, site in enumerate(sites):
        with editing(model, {site: scale}):
            edited = read(model, sites, ids)
        block, _, name = site.rpartition(".")
        unseen = UNSEEN.get(name, []) + (MLP if parallel and name.startswith("attn") else [])
        for other_number, other in enumerate(sites):
            changed = not torch.equal(edited[other], plain[other])
            expected = other_number >= number and other not in [f"{block}.{late}" for late in unseen]
            assert changed == expected, (site, other)


def test_reading_entered_first_sees_an_edit_of_an_earlier_site_and_none_of_a_later(
    model: nn.Module, ids: Tensor
) -> None:
    sites = around_the_middle(model)
    plain = read(model, sites, ids)
    for early, late in pairwise(sites):
        unseen = UNSEEN.get(early.rpartition(".")[2], []) + (MLP[:1] if family_of(model).parallel else [])
        if late.rpartition(".")[2] in unseen:
            continue
        with reading(model, [early, late]) as outside, editing(model, {late: scale}), editing(model, {early: scale}):
            model(input_ids=ids)
        assert torch.equal(outside[early], plain[early]), (early, late)
        assert not torch.equal(outside[late], plain[late]), (early, late)


def test_edit_of_a_residual_site_is_an_edit_of_the_residual(family: str, model: nn.Module, ids: Tensor) -> None:
    for name, writers in WRITERS.items():
        site = f"blocks.1.{name}"
        if site not in sites_of(model) or family in ("bert", "opt_post"):  # their norms stand after the sums
            continue
        with editing(model, {site: scale}):
            x = read(model, list(sites_of(model)), ids)
        wrote = x["blocks.2.attn_out"] + x["blocks.2.mlp_out"]
        start = x[site] + sum((x[f"blocks.1.{part}"] for part in writers), torch.zeros(16))
        torch.testing.assert_close(start + wrote, x["final"], atol=2e-5, rtol=1e-5)


def test_edit_of_what_a_part_reads_leaves_the_residual(family: str, model: nn.Module, ids: Tensor) -> None:
    if family in ("bert", "opt_post"):
        return
    plain = read(model, list(sites_of(model)), ids)
    with editing(model, {"blocks.1.mlp_in": scale}):
        x = read(model, list(sites_of(model)), ids)
    gained = x["blocks.1.mlp_out"] - plain["blocks.1.mlp_out"]
    torch.testing.assert_close(x["blocks.1.resid_post"], plain["blocks.1.resid_post"] + gained, atol=2e-5, rtol=1e-5)


def test_edits_at_one_site_compose_in_order_at_every_site(model: nn.Module, ids: Tensor) -> None:
    plain = read(model, around_the_middle(model), ids)
    for site in plain:
        two = {site: [lambda x, context: x + 1, scale]}
        with editing(model, two), reading(model, [site]) as listed:
            model(input_ids=ids)
        with editing(model, {site: two[site][0]}), editing(model, {site: scale}), reading(model, [site]) as nested:
            model(input_ids=ids)
        assert torch.equal(listed[site], (plain[site] + 1) * torch.linspace(0.5, 1.5, plain[site].shape[-1]))
        assert torch.equal(nested[site], listed[site])


def test_gradient_by_what_was_read_is_the_gradient_by_an_edit_there(model: nn.Module, ids: Tensor) -> None:
    sites = around_the_middle(model)
    start = torch.zeros(16, requires_grad=True)
    with (
        editing(model, {"embed": lambda x, context: x + start}),
        reading(model, sites, gradients=True, stop=False) as captured,
    ):
        loss = model(input_ids=ids).logits.square().sum()
    by_reading = torch.autograd.grad(loss, [captured[site] for site in sites])
    for site, expected in zip(sites, by_reading, strict=True):
        change = torch.zeros_like(expected, requires_grad=True)
        with editing(model, {site: lambda x, context, change=change: x + change}):
            (by_edit,) = torch.autograd.grad(model(input_ids=ids).logits.square().sum(), change)
        assert by_edit.abs().max() > 1e-4
        torch.testing.assert_close(expected, by_edit, atol=1e-4, rtol=1e-4)
