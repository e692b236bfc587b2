"""Laws of the operations: what cancels, what stays, what moves."""

from collections.abc import Callable
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from sae.core.errors import InputError, WorldError
from sae.dictionary import Dictionary, DictionaryConfig, Relu
from sae.intervention import (
    Direction,
    Operation,
    ablate,
    add,
    affine,
    at,
    except_tokens,
    in_order,
    interchange,
    load_direction,
    measured,
    multiply,
    orthonormal,
    project_out,
    replace,
    scale_latents,
    set_latents,
    splice,
)
from sae.lm import Context, context_of, editing, reading
from sae.lm.tiny import tiny

from .conftest import SITE, D, normal

IDS = torch.randint(3, 48, (3, 9), generator=torch.Generator().manual_seed(1))
HERE = context_of({"input_ids": IDS})


def context(n_texts: int = 3, captured: dict[str, Tensor] | None = None) -> Context:
    return replaced(context_of({"input_ids": IDS[:n_texts]}), captured=captured or {})


@pytest.fixture
def x() -> Tensor:
    return normal(3, 9, D, seed=9)


def test_delta_clamp_is_the_difference_of_two_decodings(dictionary: Dictionary, x: Tensor) -> None:
    code = dictionary.encode(x)
    edited = code.dense().clone()
    edited[..., 7], edited[..., 30] = 2.5, edited[..., 30] * 3
    edit = set_latents(dictionary, {7: 2.5, 30: lambda old: old * 3})
    bias = dictionary.b_dec
    expected = x + (edited @ dictionary.W_dec + bias) - (code.dense() @ dictionary.W_dec + bias)
    torch.testing.assert_close(edit(x, HERE), expected)


def test_setting_latents_to_what_they_are_changes_nothing(dictionary: Dictionary, x: Tensor) -> None:
    assert torch.equal(set_latents(dictionary, {i: lambda old: old for i in range(40)})(x, HERE), x)
    values = dictionary.encode(x).dense()[..., 3]
    assert torch.equal(set_latents(dictionary, {3: values})(x, HERE), x)


def test_removing_a_latent_that_is_silent_changes_nothing(dictionary: Dictionary, x: Tensor) -> None:
    values = dictionary.encode(x).dense()
    for latent in range(40):
        y = set_latents(dictionary, {latent: 0})(x, HERE)
        silent = values[..., latent] == 0
        assert torch.equal(y[silent], x[silent])
        assert (y[~silent] != x[~silent]).any(-1).all()


def test_splice_is_the_reconstruction_in_the_model(dictionary: Dictionary) -> None:
    model = tiny("gpt2")
    with reading(model, [SITE]) as captured:
        model(input_ids=IDS)
    with editing(model, {SITE: splice(dictionary)}), reading(model, [SITE]) as spliced:
        model(input_ids=IDS)
    torch.testing.assert_close(spliced[SITE], dictionary(captured[SITE]))


def test_addition_and_its_opposite_cancel_in_the_model() -> None:
    model, direction = tiny("llama"), Direction(normal(D), SITE, "norm", "a test", length=3.0)
    plain = model(input_ids=IDS).logits
    with editing(model, {SITE: add(direction, 2.0)}):
        assert not torch.allclose(model(input_ids=IDS).logits, plain, atol=1e-2)
    with editing(model, {SITE: [add(direction, 2.0), add(direction, -2.0)]}):
        torch.testing.assert_close(model(input_ids=IDS).logits, plain, atol=1e-4, rtol=1e-4)


def test_step_has_the_length_that_its_units_say(x: Tensor) -> None:
    direction = Direction(normal(D), SITE, "std", "a test", length=3.0)
    moved = add(direction, 2.0)(x, HERE) - x
    torch.testing.assert_close(moved.norm(dim=-1), torch.full((3, 9), 6.0))
    torch.testing.assert_close(add(normal(D), 0.5)(x, HERE), x + normal(D) / 2)


def test_every_operation_keeps_to_its_positions(dictionary: Dictionary, x: Tensor) -> None:
    mask = normal(3, 9, seed=4) > 0
    for one in (mask, mask[:1]):
        operations = [
            add(normal(D), positions=at(one)),
            set_latents(dictionary, {5: 9.0}, at(one)),
            splice(dictionary, at(one)),
            replace(torch.zeros(D), at(one)),
            interchange(normal(2, D), normal(3, 9, D, seed=2), at(one)),
            project_out(normal(2, D), positions=at(one)),
        ]
        for operation in operations:
            changed = (operation(x, HERE) != x).any(-1)
            assert torch.equal(changed, one.expand(3, 9))


def test_tokens_left_out_keep_their_bits(x: Tensor) -> None:
    left_out = {int(IDS[0, 0]), int(IDS[2, 4])}
    changed = (add(normal(D), positions=except_tokens(left_out))(x, HERE) != x).any(-1)
    assert torch.equal(changed, ~torch.isin(IDS, torch.tensor(sorted(left_out))))
    with pytest.raises(InputError, match="need token ids"):
        add(normal(D), positions=except_tokens({1}))(x, context_of({"inputs_embeds": x}))


def test_patching_a_run_with_itself_changes_nothing(x: Tensor) -> None:
    assert torch.equal(replace(x)(x, HERE), x)
    torch.testing.assert_close(interchange(normal(4, D), x)(x, HERE), x)


def test_interchange_takes_the_subspace_and_leaves_the_rest(x: Tensor) -> None:
    directions, source = normal(3, D), normal(3, 9, D, seed=5)
    y, basis = interchange(directions, source)(x, HERE), orthonormal(directions)
    rest = torch.eye(D) - basis.T @ basis
    torch.testing.assert_close(basis @ basis.T, torch.eye(3))
    torch.testing.assert_close(y @ basis.T, source @ basis.T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(y @ rest, x @ rest, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(interchange(torch.eye(D), source)(x, HERE), source)


def test_projection_is_idempotent_and_leaves_the_mean(x: Tensor) -> None:
    directions, mean = normal(2, D), normal(D, seed=3)
    once = project_out(directions)(x, HERE)
    torch.testing.assert_close(once @ directions.T, torch.zeros(3, 9, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(project_out(directions)(once, HERE), once)
    with_mean = project_out(directions, mean)(x, HERE)
    torch.testing.assert_close(with_mean @ directions.T, (mean @ directions.T).expand(3, 9, 2), atol=1e-5, rtol=1e-5)


def test_half_precision_stays_half_precision(dictionary: Dictionary, x: Tensor) -> None:
    for operation in (add(normal(D)), set_latents(dictionary, {1: 4.0}), splice(dictionary), project_out(normal(1, D))):
        assert operation(x.bfloat16(), HERE).dtype == torch.bfloat16


def test_direction_saves_and_loads(tmp_path: Path) -> None:
    direction = Direction(normal(D), SITE, "norm", "difference of means", length=2.5)
    direction.save(tmp_path / "one")
    found = load_direction(tmp_path / "one")
    assert torch.equal(found.vector, direction.vector)
    assert str(found) == str(direction) == f"difference of means at {SITE}, one unit being 2.5 (norm)"
    with pytest.raises(InputError, match="no direction in"):
        load_direction(tmp_path)
    (tmp_path / "one" / "direction.safetensors").write_bytes(b"nothing")
    with pytest.raises(WorldError, match="is damaged"):
        load_direction(tmp_path / "one")


def test_bad_input_is_refused_by_name(dictionary: Dictionary, x: Tensor) -> None:
    with pytest.raises(InputError, match="width 3 at a site of width 16"):
        add(torch.ones(3))(x, HERE)
    with pytest.raises(InputError, match="no latent 40; the dictionary has latents 0 to 39"):
        set_latents(dictionary, {40: 0.0})
    with pytest.raises(InputError, match="no latent is named"):
        set_latents(dictionary, {})
    with pytest.raises(InputError, match="a mask for 2 texts in a batch of 3"):
        add(normal(D), positions=at(torch.ones(2, 9, dtype=torch.bool)))(x, HERE)
    with pytest.raises(InputError, match="linearly dependent"):
        orthonormal(torch.stack([normal(D), 2 * normal(D)]))
    with pytest.raises(InputError, match="zero or not finite"):
        Direction(torch.zeros(D), SITE, "model", "nothing")
    with pytest.raises(InputError, match=r"did you mean 'blocks\.0\.resid_post'"):
        Direction(normal(D), "blocks.0.resid_pots", "model", "a typo")
    transcoder = Dictionary(DictionaryConfig(d_in=D, d_out=8, d_sae=4, activation=Relu(), subtract_b_dec=False))
    with pytest.raises(InputError, match="from width 16 to 8 cannot edit"):
        splice(transcoder)


def as_it_is(x: Tensor, dictionary: Dictionary) -> list[Operation]:
    """Every operation with settings that leave x as it is."""
    z = dictionary.encode(x).dense()
    return [
        add(normal(D), 0.0),
        add(torch.zeros(3, 9, D), 2.0),
        add(Direction(normal(D), SITE, "std", "a test", length=2.0), 0.0),
        replace(x),
        affine(torch.eye(D), torch.zeros(D)),
        interchange(normal(4, D), x),
        multiply(normal(4, D), 1.0, normal(D, seed=4)),
        set_latents(dictionary, {2: z[..., 2], 5: lambda old: old}),
        scale_latents(dictionary, {2: 1.0, 30: 1.0}),
        set_latents(dictionary, {2: z[..., 2]}, source="embed"),
        in_order(add(normal(D), 0.0), replace(x), scale_latents(dictionary, {7: 1.0})),
    ]


def test_settings_that_say_as_it_is_change_nothing(dictionary: Dictionary, x: Tensor) -> None:
    here = context(captured={"embed": x})
    for operation in as_it_is(x, dictionary):
        assert torch.equal(operation(x, here), x), str(operation)


def test_multiplying_moves_the_coordinates_and_nothing_else(x: Tensor) -> None:
    directions, centre = normal(3, D), normal(D, seed=4)
    y, basis = multiply(directions, -2.0, centre)(x, HERE), orthonormal(directions)
    torch.testing.assert_close((y - centre) @ basis.T, -2 * ((x - centre) @ basis.T), atol=1e-5, rtol=1e-5)
    rest = torch.eye(D) - basis.T @ basis
    torch.testing.assert_close(y @ rest, x @ rest, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        multiply(directions, 0.0)(x, HERE), project_out(directions)(x, HERE), atol=1e-5, rtol=1e-5
    )


def test_scaling_latents_is_setting_them_to_multiples(dictionary: Dictionary, x: Tensor) -> None:
    scaled = scale_latents(dictionary, {7: 3.0, 30: 0.0})(x, HERE)
    torch.testing.assert_close(scaled, set_latents(dictionary, {7: lambda old: 3 * old, 30: 0.0})(x, HERE))


def test_ablation_leaves_zero_or_the_mean(x: Tensor) -> None:
    assert not ablate()(x, HERE).any()
    assert torch.equal(ablate(normal(D))(x, HERE), normal(D).expand_as(x))
    assert str(ablate()) == "replace by 0 everywhere"


def test_operations_of_an_order_act_one_after_the_other(dictionary: Dictionary, x: Tensor) -> None:
    one, other = add(normal(D), 3.0), splice(dictionary)
    assert torch.equal(in_order(one, other)(x, HERE), other(one(x, HERE), HERE))
    assert not torch.equal(in_order(one, other)(x, HERE), in_order(other, one)(x, HERE))


def test_a_transcoder_reads_its_source(x: Tensor) -> None:
    config = DictionaryConfig(d_in=8, d_out=D, d_sae=20, activation=Relu(), subtract_b_dec=False)
    transcoder, source = Dictionary(config).requires_grad_(False), normal(3, 9, 8, seed=2)
    for seed, weight in enumerate(transcoder.parameters()):
        weight.copy_(normal(*weight.shape, seed=seed))
    here = context(captured={"blocks.1.mlp_in": source})
    assert torch.equal(splice(transcoder, source="blocks.1.mlp_in")(x, here), transcoder(source))
    active = transcoder.encode(source).dense()[..., [4]]
    removed = set_latents(transcoder, {4: 0.0}, source="blocks.1.mlp_in")(x, here)
    torch.testing.assert_close(removed, x - active * transcoder.W_dec[4])


def test_a_unit_is_measured_on_activations() -> None:
    x, vector = normal(500, D) * torch.linspace(1, 3, D) + 1, torch.eye(D)[3] * 7
    assert measured(vector, SITE, "std", "a test", x).length == pytest.approx(
        float(x[:, 3].std(correction=0)), rel=1e-5
    )
    assert measured(vector, SITE, "norm", "a test", x).length == pytest.approx(float(x.norm(dim=1).mean()), rel=1e-5)
    assert measured(vector, SITE, "model", "a test", x).length == 1.0
    moved = add(measured(vector, SITE, "std", "a test", x), 2.0)(x[None, :9], context(1)) - x[None, :9]
    torch.testing.assert_close(moved[0, :, 3], 2 * x[:, 3].std(correction=0).expand(9))
    with pytest.raises(InputError, match="width 16 and activations of width 3"):
        measured(vector, SITE, "std", "a test", x[:, :3])
    with pytest.raises(InputError, match=r"cannot be 0\.0 long"):
        measured(vector, SITE, "std", "a test", torch.ones(5, D))


def test_a_unit_does_not_depend_on_leading_axes_nor_on_the_vectors_precision() -> None:
    a, v = normal(2, 5, D) * torch.arange(1, D + 1), normal(D)
    for units in ("std", "norm"):
        flat, whole = (measured(v, "embed", units, "o", x).length for x in (a.flatten(0, 1), a))
        assert flat == pytest.approx(whole)
    for vector in (torch.full((D,), 2e4).half(), torch.full((D,), 1e20), v.bfloat16()):
        torch.testing.assert_close(Direction(vector, "embed", "model", "o").unit.norm(), torch.tensor(1.0))


@pytest.mark.parametrize("vector", [torch.ones(2, D), torch.tensor(1.0), torch.ones(D, dtype=torch.int64)])
def test_what_is_no_vector_is_no_direction(vector: Tensor) -> None:
    with pytest.raises((InputError, TypeCheckError)):
        Direction(vector, "embed", "model", "o")


def test_numbers_that_could_not_be_saved_are_refused(dictionary: Dictionary) -> None:
    two: Any = np.float32(2.0)
    three: Any = np.int64(3)
    for make in (
        lambda: multiply(normal(1, D), two),
        lambda: add(normal(D), two),
        lambda: set_latents(dictionary, {three: 1.0}),
        lambda: set_latents(dictionary, {3: True}),
        lambda: scale_latents(dictionary, {3: two}),
    ):
        with pytest.raises((InputError, TypeCheckError)):
            make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: add(torch.tensor([1.0, float("nan")])), "are not all finite"),
        (lambda: add(normal(D), float("inf")), "strength inf is not finite"),
        (lambda: add(normal(1, 2, 3, D)), r"give \[d\], \[batch, d\] or \[batch, position, d\]"),
        (lambda: affine(torch.eye(3), torch.zeros(4)), "do not fit"),
        (lambda: interchange(normal(2, D), normal(3)), "directions of width 16 and a value of width 3"),
        (lambda: project_out(normal(2, D), normal(3)), "directions of width 16 and a value of width 3"),
        (lambda: multiply(normal(1, D), float("nan")), "factor nan is not finite"),
        (lambda: in_order(), "no operation is named"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], Operation], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_latents_that_cannot_be_set_are_refused(dictionary: Dictionary) -> None:
    with pytest.raises(InputError, match="the value of latent 3: nan is not finite"):
        set_latents(dictionary, {3: float("nan")})
    with pytest.raises(InputError, match="must be finite: a number"):
        set_latents(dictionary, {3: torch.full((3, 9), float("nan"))})
    with pytest.raises(InputError, match="no site 'nowhere'"):
        splice(dictionary, source="nowhere")


def test_a_direction_stands_for_the_span_of_its_vector(x: Tensor) -> None:
    direction, source = Direction(normal(D), SITE, "std", "a test", length=3.0), normal(D, seed=5)
    rows = direction.vector[None]
    for one, other in (
        (project_out(direction), project_out(rows)),
        (multiply(direction, 2.0), multiply(rows, 2.0)),
        (interchange(direction, source), interchange(rows, source)),
        (interchange(direction, direction.step(2.0)), interchange(rows, 6 * direction.unit)),
    ):
        assert torch.equal(one(x, HERE), other(x, HERE))
        assert str(one) == str(other)
