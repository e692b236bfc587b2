"""A context belongs to the thread that opened it, whether threads share a model or not."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm import Context, editing, reading
from sae.lm.tiny import tiny

N_ROUNDS = 40


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
