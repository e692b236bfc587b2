"""From text to causally validated features.

The root is lazy: `import sae` loads nothing but itself; a subpackage loads when it is first touched.
"""

import importlib
from typing import Any

_SUBPACKAGES = (
    "activations",
    "catalogue",
    "causal",
    "core",
    "dashboard",
    "dictionary",
    "evaluation",
    "intervention",
    "kernels",
    "lm",
    "microworld",
    "objective",
    "probe",
    "steer",
    "synthetic",
    "training",
)


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("sae.dictionary").load
    if name == "train":
        return importlib.import_module("sae.training.run").train
    if name in _SUBPACKAGES:
        return importlib.import_module(f"sae.{name}")
    raise AttributeError(f"module 'sae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["load", "train", *_SUBPACKAGES]
