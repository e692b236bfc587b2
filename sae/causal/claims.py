"""The findings of validation: what removing a latent, or setting it as in the twin, does to what the model says.

Every effect is signed so that above zero means that the concept acted as it should: an ablation's effect is the *loss*
of log-odds of the text's own label, a patch's the *gain* of the twin's. `settings.share_of_whole` is a patch's effect
over that of patching the whole activation. `settings.level` is `variable`, or `label` for one label of several.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sae.core.records import Control, Finding, Interval, Subject
from sae.core.uncertainty import bootstrap_ratio
from sae.probe.control import rank_among
from sae.probe.score import by_document

UNIT = "nats of log-odds"
LOSS = "above zero: without the latent the model finds the text's own label less likely, so it had relied on it"
GAIN = "above zero: with the twin's value the model leans towards the twin's label"
METHODS = {
    "best latent": "best_latent",
    "top five latents": "sparse_5",
    "difference of means": "difference_of_means",
    "whole activation": "whole_activation",
}


class Compared(NamedTuple):
    """Effects of an intervention and of its controls on the same cases."""

    effects: Float[np.ndarray, "case"]
    controls: Float[np.ndarray, "control case"]
    document: Int[np.ndarray, "case"]

    def of(self, kept: Int[np.ndarray, "some"]) -> "Compared":
        """Some of the cases."""
        return Compared(self.effects[kept], self.controls[:, kept], self.document[kept])

    @property
    def n_documents(self) -> int:
        return len(np.unique(self.document))


def claim(
    kind: str, variable: str, subject: Subject, tested: Compared, settings: dict[str, object], seed: int
) -> Finding:
    """One effect beside its control, with interval by document and p by rank among the controls."""
    sums, counts = by_document(tested.effects, tested.document)
    effect = float(tested.effects.mean())
    null = tested.controls.mean(1)
    return Finding(
        kind=kind,
        variable=variable,
        subject=subject,
        effect=effect,
        unit=UNIT,
        direction=LOSS if kind == "ablation" else GAIN,
        interval=bootstrap_ratio(sums, counts, seed),
        n_documents=len(sums),
        control=_control(null, kind),
        p=rank_among(effect, null) if len(null) else None,
        settings=settings,
    )


def _control(null: Float[np.ndarray, "control"], kind: str) -> Control:
    done = "removed" if kind == "ablation" else "patched"
    if len(null) == 0:
        return Control(what="no other latent fires as often; nothing done", effect=0.0)
    low, high = np.quantile(null, [0.025, 0.975])
    return Control(
        what=f"{len(null)} other latents that fire as often, {done} alike: their mean, and where 95 % of them lie",
        effect=float(null.mean()),
        interval=Interval(low=float(low), high=float(high)),
    )


def share_of(tested: Compared, whole: Compared, seed: int) -> float | None:
    """A patch's effect over the whole activation's; None where that one is not above zero by its interval."""
    sums, counts = by_document(whole.effects, whole.document)
    if bootstrap_ratio(sums, counts, seed).low <= 0:
        return None
    return float(tested.effects.mean() / whole.effects.mean())
