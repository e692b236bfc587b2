"""A context belongs to the thread that opened it, whether threads share a model or not."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm import Context, editing, reading
from sae.lm.tiny import tiny

N_ROUNDS = 12


def shifted(by: float) -> Callable[[Tensor, Context], Tensor]:
    return lambda x, context: x + by


def final(model: nn.Module, ids: Tensor, by: float) -> Tensor:
    with editing(model, {"blocks.1.resid_pre": shifted(by)}), reading(model, ["final"]) as captured:
        model(input_ids=ids)
    return captured["final"]


def together(*works: Callable[[], None]) -> list[BaseException]:
    """Runs all at once; what they raised."""
    raised: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        start.wait()
        try:
            for _ in range(N_ROUNDS):
                work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.parametrize("shared_model", [True, False])
def test_threads_do_not_meet(shared_model: bool, ids: Tensor) -> None:
    one = tiny("gpt2")
    models = [one, one if shared_model else tiny("llama"), one]
    alone = [final(model, ids, by) for by, model in enumerate(models)]
    plain = one(input_ids=ids).logits

    def work(by: int) -> Callable[[], None]:
        def check() -> None:
            assert torch.equal(final(models[by], ids, by), alone[by])

        return check

    def look() -> None:
        with torch.no_grad():
            assert torch.equal(one(input_ids=ids).logits, plain)

    assert together(*map(work, range(3)), look) == []
    assert sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in one.modules()) == 0


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "bert"])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_weights_leave_the_kernel_of_others_alone(name: str, padded: bool, ids: Tensor, mask: Tensor) -> None:
    """Of another thread's passes through the model, and of another model with the same configuration object."""
    model: Any = tiny(name, eager=False)
    other = type(model)(model.config).eval()
    own, inputs = model.config, {"input_ids": ids, **({"attention_mask": mask} if padded else {})}
    assert other.config is own
    with torch.no_grad():
        plain = [one(**inputs).logits for one in (model, other)]
    sites = [f"blocks.{block}.attn_pattern" for block in range(3)]
    with reading(model, sites) as alone:
        model(**inputs)

    def look(one: nn.Module, expected: Tensor) -> None:
        with torch.no_grad():
            assert torch.equal(one(**inputs).logits, expected)

    def read() -> None:
        with reading(model, sites[1:], stop=False) as captured, reading(model, sites[:1], stop=False) as first:
            model(**inputs)
            look(other, plain[1])
        assert all(torch.equal(x, alone[site]) for site, x in {**captured, **first}.items())

    with reading(model, sites):
        assert together(lambda: look(model, plain[0]), lambda: look(other, plain[1])) == []
    assert together(read, read, lambda: look(model, plain[0]), lambda: look(other, plain[1])) == []
    assert model.config is other.config is model.base_model.config is own
    look(model, plain[0])


def test_a_setting_made_meanwhile_stays(ids: Tensor) -> None:
    model: Any = tiny("llama", eager=False)
    with reading(model, ["blocks.1.attn_pattern"]):
        model.config.use_cache = False
        assert (model.config._attn_implementation, model.config.to_dict()["hidden_size"]) == ("sae_weights", 16)
        model(input_ids=ids)
    assert not model.config.use_cache
    assert model.config._attn_implementation == "sdpa"


def test_other_threads_do_not_see_an_open_context(ids: Tensor) -> None:
    model = tiny("llama")
    plain, seen = model(input_ids=ids).logits, []

    def fail(x: Tensor, context: Context) -> Tensor:
        raise InputError("reached")

    with editing(model, {"embed": fail}), reading(model, ["embed"]):
        other = threading.Thread(target=lambda: seen.append(model(input_ids=ids).logits))
        other.start()
        other.join()
    assert torch.equal(seen[0], plain)
