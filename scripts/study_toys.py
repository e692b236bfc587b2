#!/usr/bin/env python3
"""Toy models of superposition at full length, three seeds: their gates, and pictures.

    python scripts/study_toys.py [--quick] [--out FOLDER]

1. Five features of importance 0.9^i in two dimensions, at eight densities: two features alone where they are dense,
   two digons, a pentagon where they are sparse; and a linear model, which keeps two.
2. Forty equal features in eight dimensions: dimensions per feature falls from 1 to 1/2 and below.
3. Two features in one dimension: which of the three phases, by density and relative importance.
4. A dictionary trained on hidden states of sixteen features in six dimensions, with twice as many latents: with as many
   as features, now and then one latent stands between two of them and another feature is missed.

Writes gates.json and a picture of each. After Elhage et al. 2022, "Toy models of superposition".
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

import sae
from sae.synthetic.geometry import dimensionality, dimensions_per_feature, groups, represented
from sae.synthetic.pairing import paired
from sae.synthetic.phases import phase_diagram
from sae.synthetic.toys import ToyConfig, Toys, train_toys
from sae.training import TrainConfig

matplotlib.use("agg")
from matplotlib import pyplot as plt

SEEDS = (0, 1, 2)
DENSITIES = 20.0 ** -torch.linspace(0, 1, 8)
WIDE_DENSITIES = torch.tensor([1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01])
GRID_DENSITIES = torch.tensor([1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05])
GRID_IMPORTANCES = torch.tensor([0.1, 0.3, 0.6, 1.0, 1.5, 3.0, 10.0])
PHASES = ("ignored", "dedicated", "superposed")


def five_in_two(n_steps: int, folder: Path) -> dict[str, Any]:
    """Digons and pentagons, over all seeds; the picture shows the first."""
    importance = (0.9 ** torch.arange(5.0)).expand(len(DENSITIES), 5)
    config = ToyConfig(n_features=5, n_hidden=2, n_steps=n_steps)
    trained = [train_toys(config.model_copy(update={"seed": seed}), DENSITIES, importance) for seed in SEEDS]
    linear = train_toys(config.model_copy(update={"output": "linear"}), DENSITIES[-1:], importance[-1:])
    figure, axes = plt.subplots(len(SEEDS), len(DENSITIES), figsize=(16, 6.4), squeeze=False)
    for row, toys in zip(axes, trained, strict=True):
        for axis, W, density in zip(row, toys.W, DENSITIES, strict=True):
            _draw_columns(axis, W)
            axis.set_title(f"density {density:.3f}\n" + _named(W), fontsize=8)
    _save(figure, folder / "five_in_two.png")
    medians = torch.stack([dimensionality(toys.W).median(1).values for toys in trained])
    return {
        "dense_features": [int(represented(toys.W[0]).sum()) for toys in trained],
        "median_dimensionality": medians.tolist(),
        "nearest_to_half": (medians - 0.5).abs().amin(1).tolist(),
        "nearest_to_two_fifths": (medians - 0.4).abs().amin(1).tolist(),
        "linear_features": int(represented(linear.W[0]).sum()),
        "arrangements": [[_named(W) for W in toys.W] for toys in trained],
        "holds": all(int(represented(toys.W[0]).sum()) == 2 for toys in trained)
        and bool(((medians - 0.5).abs().amin(1) < 0.03).all() and ((medians - 0.4).abs().amin(1) < 0.03).all())
        and int(represented(linear.W[0]).sum()) == 2,
    }


def forty_in_eight(n_steps: int, folder: Path) -> dict[str, Any]:
    """Dimensions per feature, and what each feature has."""
    importance = torch.ones(len(WIDE_DENSITIES), 40)
    config = ToyConfig(n_features=40, n_hidden=8, n_steps=n_steps)
    trained = [train_toys(config.model_copy(update={"seed": seed}), WIDE_DENSITIES, importance) for seed in SEEDS]
    figure, axis = plt.subplots(figsize=(7, 5))
    for toys in trained:
        axis.plot(1 / WIDE_DENSITIES, dimensions_per_feature(toys.W), "k-", lw=0.8)
        for density, each in zip(WIDE_DENSITIES, dimensionality(toys.W), strict=True):
            axis.plot(torch.full((40,), float(1 / density)), each, ".", color="tab:blue", alpha=0.25, ms=4)
    for share, name in (
        (1, "alone"),
        (3 / 4, "tetrahedron"),
        (2 / 3, "triangle"),
        (1 / 2, "digon"),
        (2 / 5, "pentagon"),
    ):
        axis.axhline(share, color="tab:red", lw=0.4)
        axis.text(1.02, share, name, color="tab:red", fontsize=7, transform=axis.get_yaxis_transform(), va="center")
    axis.set(xscale="log", xlabel="1 / density", ylabel="dimensions per feature (line), of each feature (dots)")
    _save(figure, folder / "forty_in_eight.png")
    per_feature = torch.stack([dimensions_per_feature(toys.W) for toys in trained])
    return {
        "densities": WIDE_DENSITIES.tolist(),
        "dimensions_per_feature": per_feature.tolist(),
        "holds": bool(((per_feature[:, 0] - 1).abs() < 0.03).all() and ((per_feature[:, 2] - 0.5).abs() < 0.03).all()),
    }


def phases(n_steps: int, folder: Path) -> dict[str, Any]:
    """The diagram for each seed."""
    config = ToyConfig(n_features=2, n_hidden=1, n_steps=max(n_steps // 2, 10))
    seeded = [config.model_copy(update={"seed": seed}) for seed in SEEDS]
    found = [phase_diagram(GRID_DENSITIES, GRID_IMPORTANCES, one) for one in seeded]
    figure, axes = plt.subplots(1, len(SEEDS), figsize=(13, 4.2))
    for axis, cells in zip(axes, found, strict=True):
        axis.imshow([[PHASES.index(cell) for cell in line] for line in cells], cmap="viridis", vmin=0, vmax=2)
        axis.set_xticks(range(len(GRID_IMPORTANCES)), [f"{value:g}" for value in GRID_IMPORTANCES.tolist()])
        axis.set_yticks(range(len(GRID_DENSITIES)), [f"{value:g}" for value in GRID_DENSITIES.tolist()])
        axis.set(xlabel="relative importance of the second feature", ylabel="density")
        for i, line in enumerate(cells):
            for j, cell in enumerate(line):
                colour = "white" if cell == "ignored" else "black"
                axis.text(j, i, cell[:3], ha="center", va="center", fontsize=7, color=colour)
    _save(figure, folder / "phases.png")
    dense, light = GRID_DENSITIES >= 0.5, GRID_IMPORTANCES <= 0.3
    wrong_dense = [_count(cells, dense, light, "ignored") for cells in found]
    wrong_sparse = [_count(cells, GRID_DENSITIES <= 0.1, GRID_IMPORTANCES > 0, "superposed") for cells in found]
    holds = max(wrong_dense) == 0 and max(wrong_sparse) <= 1
    return {"dense_not_ignored": wrong_dense, "sparse_not_superposed": wrong_sparse, "cells": found, "holds": holds}


def dictionaries(n_steps: int, n_tokens: int) -> dict[str, Any]:
    """MCC of a dictionary trained on hidden states, beside random rows."""
    found, chance = [], []
    for seed in SEEDS:
        config = ToyConfig(n_features=16, n_hidden=6, n_steps=n_steps, seed=seed)
        toys = train_toys(config, torch.tensor([0.02]), torch.ones(1, 16))
        rows = _learnt(toys, n_tokens, seed)
        random = torch.randn(32, 6, generator=torch.Generator().manual_seed(seed))
        for values, each in ((found, rows), (chance, random)):
            values.append(float(paired(toys.W[0].T, each).cosines.mean()))
    return {"mcc": found, "mcc_of_random_rows": chance, "holds": min(found) >= 0.9}


def _learnt(toys: Toys, n_tokens: int, seed: int) -> Tensor:
    h = toys.hidden(0, 100_000, seed)
    config = TrainConfig(preset="topk", d_sae=32, l0=1, tokens=n_tokens, batch=256, seed=seed)
    return sae.train(h[h.norm(dim=1) > 1e-3], config).finish().W_dec.detach()


def _count(cells: list[list[Any]], rows: Tensor, columns: Tensor, wanted: str) -> int:
    """Cells of some rows and columns that are something else."""
    return sum(
        cell != wanted
        for line, inside in zip(cells, rows.tolist(), strict=True)
        if inside
        for cell, within in zip(line, columns.tolist(), strict=True)
        if within
    )


def _named(W: Tensor) -> str:
    names = [group.name for group in groups(W)]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def _draw_columns(axis: Any, W: Tensor) -> None:
    for i, (x, y) in enumerate(W.T.tolist()):
        axis.plot([0, x], [0, y], "-o", ms=3, color=plt.get_cmap("plasma")(i / 5))
    axis.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal", xticks=[], yticks=[])


def _save(figure: Any, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps: shows that it runs")
    parser.add_argument("--out", type=Path, default=Path("toys"), help="folder of the gates and pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    n_steps = 20 if options.quick else 5_000
    found = {
        "five_in_two": five_in_two(n_steps, options.out),
        "forty_in_eight": forty_in_eight(n_steps, options.out),
        "phases": phases(n_steps, options.out),
        "dictionaries": dictionaries(n_steps, 2_560 if options.quick else 100_000),
    }
    (options.out / "gates.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, gate in found.items():
        print(name, "holds" if gate["holds"] else "does not hold")


if __name__ == "__main__":
    main()
