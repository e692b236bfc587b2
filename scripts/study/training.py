"""One run of the study: trained by the library's own step where it can be, then scored on rows that it never saw."""

import time
from typing import Any, assert_never

import torch
from study.arms import Arm
from study.data import N_TEST, Rows
from study.optimisers import Muon, Other, Signum, keep_across
from torch import Tensor

from sae.core.random import generator
from sae.dictionary import Dictionary
from sae.objective import Dead, Situation
from sae.synthetic import truth_scores
from sae.training import TrainConfig, initial, result
from sae.training import dead as dead_latents
from sae.training.finite import DivergedError
from sae.training.loop import recipe_of
from sae.training.optimiser import unit_rows
from sae.training.parts import Passes, backward
from sae.training.state import State, scaled
from sae.training.step import Recipe, step


def measured(arm: Arm, rows: Rows, seed: int) -> dict[str, Any]:
    """Trains and scores; a run that diverged has no numbers but that."""
    config = arm.config(rows.bench, rows.train.shape[1], seed)
    start = time.perf_counter()
    state = initial(rows.sample, config)
    if arm.from_data:
        _begin_from(state, rows.sample, seed)
    recipe = recipe_of(state, config)
    if arm.free is not None:
        recipe = recipe._replace(rows=recipe.rows._replace(unit=not arm.free))
    if arm.quick_levels:
        recipe = recipe._replace(rows=recipe.rows._replace(quick_levels=True))
    if not arm.held:
        recipe = recipe._replace(hold_dead=False)
    try:
        _train(arm, state, config, recipe, rows)
    except DivergedError:
        return {"diverged": True}
    seconds, dictionary = time.perf_counter() - start, result(state)
    found = {"seconds": round(seconds, 1), "steps": config.n_steps, **scores(dictionary, rows)}
    return found | (_read_coarsely(dictionary, rows) if config.selection == "bfloat16" else {})


def _train(arm: Arm, state: State, config: TrainConfig, recipe: Recipe, rows: Rows) -> None:
    match arm.optimiser:
        case "adam":
            while state.step < config.n_steps:
                step(state, rows.batch(_first(config) + state.step, config.batch), recipe)
        case "signum":
            _train_otherwise(Signum(state.dictionary), state, config, recipe, rows, lambda _: recipe.schedule.peak)
        case "muon":
            _train_otherwise(Muon(state.dictionary), state, config, recipe, rows, recipe.schedule.rate)
        case _:
            assert_never(arm.optimiser)


def _first(config: TrainConfig) -> int:
    """The batch that a run begins with: the rows are the same for all seeds, but not their order."""
    return (config.seed or 0) * 7919


def _train_otherwise(other: Other, state: State, config: TrainConfig, recipe: Recipe, rows: Rows, rate: Any) -> None:
    """As `sae.training.step`, for what neither has a controller nor a threshold."""
    passes = Passes(recipe.objective, 1, torch.float32)
    nothing = torch.zeros(())
    while state.step < config.n_steps:
        batch = scaled(
            state.dictionary.config, state.scales, rows.batch((config.seed or 0) * 7919 + state.step, config.batch)
        )
        dead = Dead(dead_latents.is_dead(state.tokens_since_fired, recipe.dead_after))
        passed = backward(state.dictionary, batch, nothing, Situation(dead, 0.0, state.step), passes)
        keep_across(state.dictionary)
        other.descend(rate(state.step))
        dead_latents.hold_back(state.dictionary, dead)
        state.optimiser.zero_grad()
        dead_latents.count(state.tokens_since_fired, passed.fired, len(batch.x))
        state.step += 1
    other.finish()


@torch.no_grad()
def _begin_from(state: State, sample: Tensor, seed: int) -> None:
    """Encoder and decoder rows become the unit rows of as many centred activations, some of them twice if need be."""
    dictionary = state.dictionary
    x = dictionary.centred(sample * state.scale)
    which = torch.randint(len(x), (dictionary.d_sae,), generator=generator(seed, "study", "first rows"))
    dictionary.W_dec.copy_(x[which])
    unit_rows(dictionary.W_dec)
    dictionary.encoder_rows.copy_(dictionary.W_dec)


def scores(dictionary: Dictionary, rows: Rows) -> dict[str, float]:
    """FVU, l0 and dead share on the test rows; what is found, where the truth is known."""
    bench = rows.bench
    if bench.truth is not None:
        found = truth_scores(rows.stream(), dictionary, bench.n_test)
        return {name: found[name] for name in ("fvu", "dead_fraction", "l0", "mcc", "f1", "found")}
    numbers = _read(dictionary, rows.test.float())
    if bench.directions is not None:
        cosines = bench.directions() @ torch.nn.functional.normalize(dictionary.W_dec.detach(), dim=1).T
        best = cosines.amax(1)
        numbers |= {"mcc": float(best.mean()), "found": float((best > 0.9).float().mean())}
    return numbers


def _read_coarsely(dictionary: Dictionary, rows: Rows) -> dict[str, float]:
    """FVU and dead share where these weights choose in bfloat16, over those where they choose in float32."""
    x = rows.stream().rows(0, N_TEST) if rows.bench.truth is not None else rows.test.float()
    fine, coarse = _read(dictionary, x), _read(dictionary, x, torch.bfloat16)
    return {f"coarse_{name}": coarse[name] / (fine[name] or 1.0) for name in ("fvu", "dead_fraction")}


@torch.no_grad()
def _read(dictionary: Dictionary, x: Tensor, selection: torch.dtype | None = None) -> dict[str, float]:
    error, l0, fired = 0.0, 0.0, torch.zeros(dictionary.d_sae, dtype=torch.bool)
    for part in x.split(2048):
        code = dictionary.encoded(part, selection).code
        error += float((part - dictionary.decode(code)).double().square().sum())
        l0 += float(code.l0().double().sum())
        fired |= code.fired()
    total = float((x - x.mean(0)).double().square().sum())
    return {"fvu": error / total, "dead_fraction": 1 - float(fired.double().mean()), "l0": l0 / len(x)}
