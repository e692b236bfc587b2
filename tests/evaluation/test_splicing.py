"""Laws of the spliced loss, on a tiny random model."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sae.core.streams import Covariance
from sae.dictionary import Dictionary
from sae.dictionary.sites import one
from sae.evaluation.contenders import Ablated, Coded, Contender, Projected, Resampled
from sae.evaluation.pca import principal_components
from sae.evaluation.scores import Scores, score
from sae.evaluation.splicing import SplicedLoss, Window
from sae.evaluation.sums import SUMS
from sae.lm.documents import Document
from sae.lm.hooks import editing
from sae.lm.load import LoadedModel

SITE, WIDTH, N_DOCUMENTS = "blocks.1.resid_post", 16, 25


def run(
    loaded: LoadedModel, windows: list[Window], contenders: dict[str, Contender], site: str = SITE
) -> tuple[SplicedLoss, Scores]:
    loss = SplicedLoss(loaded, one(site), contenders, N_DOCUMENTS, torch.full((WIDTH,), 0.1))
    for window in windows:
        loss.update(window)
    return loss, score(loss.text(), loss.contenders(), seed=0, n_resamples=200).scores


def covariance(loaded: LoadedModel, windows: list[Window]) -> Covariance:
    from sae.lm.hooks import reading

    found = Covariance(WIDTH)
    for window in windows:
        with reading(loaded, [SITE]) as captured:
            loaded(**window.packed.inputs())
        found.update(captured[SITE][window.harvested])
    return found


def floors() -> dict[str, Contender]:
    rows = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))
    return {
        "mean_ablation": Ablated(torch.full((WIDTH,), 0.2)),
        "zero_ablation": Ablated(torch.zeros(WIDTH)),
        "resample_ablation": Resampled(rows),
    }


def value(scores: Scores, contender: str, metric: str) -> float:
    found = scores.contenders[contender][metric].value
    assert found is not None
    return found


def test_a_dictionary_that_reconstructs_everything_changes_nothing(
    loaded: LoadedModel, windows: list[Window], identity_dictionary: Dictionary
):
    _, scores = run(loaded, windows, {"dictionary": Coded(identity_dictionary), **floors()})
    assert value(scores, "dictionary", "fvu") < 1e-10
    assert abs(value(scores, "dictionary", "delta_ce_nats")) < 1e-5
    assert value(scores, "dictionary", "kl_nats") < 1e-6
    assert value(scores, "dictionary", "ce_loss_recovered") == pytest.approx(1, abs=1e-3)
    assert value(scores, "dictionary", "l0") == pytest.approx(WIDTH)
    assert value(scores, "dictionary", "cosine") == pytest.approx(1)
    assert value(scores, "dictionary", "relative_norm") == pytest.approx(1)


def test_principal_components_of_full_rank_are_the_identity(loaded: LoadedModel, windows: list[Window]):
    full = Projected(principal_components(covariance(loaded, windows), WIDTH))
    half = Projected(principal_components(covariance(loaded, windows), WIDTH // 2))
    _, scores = run(loaded, windows, {"full": full, "half": half, **floors()})
    assert value(scores, "full", "fvu") < 1e-10
    assert abs(value(scores, "full", "delta_ce_nats")) < 1e-5
    assert value(scores, "full", "fvu") < value(scores, "half", "fvu") < 1
    assert "dead_fraction" not in scores.contenders["half"]


def test_the_fvu_of_principal_components_is_the_variance_that_they_leave(loaded: LoadedModel, windows: list[Window]):
    moments = covariance(loaded, windows)
    _, scores = run(loaded, windows, {"pca": Projected(principal_components(moments, 5))})
    eigenvalues = torch.linalg.eigvalsh(moments.matrix)
    expected = float(eigenvalues[:-5].sum() / eigenvalues.sum())
    assert value(scores, "pca", "fvu") == pytest.approx(expected, rel=1e-4)
    assert "ce_loss_recovered" not in scores.contenders["pca"]


def test_ablating_recovers_nothing_by_definition(
    loaded: LoadedModel, windows: list[Window], random_dictionary: Dictionary
):
    _, scores = run(loaded, windows, {"dictionary": Coded(random_dictionary), **floors()})
    assert value(scores, "zero_ablation", "ce_loss_recovered") == 0
    assert value(scores, "mean_ablation", "ce_loss_recovered_mean") == 0
    assert value(scores, "resample_ablation", "ce_loss_recovered_resample") == 0
    assert value(scores, "zero_ablation", "relative_norm") == value(scores, "zero_ablation", "cosine") == 0
    assert value(scores, "zero_ablation", "kl_nats") > 0


def test_sums_equal_each_document_read_alone(
    loaded: LoadedModel, windows: list[Window], documents: list[Document], random_dictionary: Dictionary
):
    """Packing, batching and splicing at some positions give what one document at a time gives."""
    loss, _ = run(loaded, windows, {"dictionary": Coded(random_dictionary)})
    text, own = loss.text(), loss.contenders()["dictionary"]
    for document in documents:
        ids = torch.from_numpy(document.ids).long()[None]

        def splice(x: torch.Tensor, _context: object) -> torch.Tensor:
            return torch.cat([x[:, :1], random_dictionary(x[:, 1:])], dim=1)

        with torch.no_grad():
            clean = loaded(input_ids=ids).logits[0, :-1].log_softmax(-1)
            with editing(loaded, {SITE: splice}):
                spliced = loaded(input_ids=ids).logits[0, :-1].log_softmax(-1)
        at = (torch.arange(ids.shape[1] - 1), ids[0, 1:])
        np.testing.assert_allclose(text.ce[document.index], -float(clean[at].sum()), atol=1e-3)
        np.testing.assert_allclose(own.ce[document.index], -float(spliced[at].sum()), atol=1e-3)
        kl = float((clean.exp() * (clean - spliced)).sum())
        np.testing.assert_allclose(own.kl[document.index], kl, atol=1e-3)
        assert text.n_targets[document.index] == text.n_tokens[document.index] == ids.shape[1] - 1


def test_latents_that_fire_nowhere_are_counted(
    loaded: LoadedModel, windows: list[Window], random_dictionary: Dictionary
):
    with torch.no_grad():
        random_dictionary.b_enc[:6] = -1e6
    loss, scores = run(loaded, windows, {"dictionary": Coded(random_dictionary)})
    assert loss.contenders()["dictionary"].usage.firing.dead[:6].all()
    assert value(scores, "dictionary", "dead_fraction") >= 6 / random_dictionary.d_sae


def test_what_is_not_harvested_stays_as_it_is(loaded: LoadedModel, windows: list[Window]):
    """With nothing harvested no contender has an effect, and every ratio is null with a note."""
    none = [window._replace(harvested=torch.zeros_like(window.harvested)) for window in windows]
    _, scores = run(loaded, none, floors())
    own = scores.contenders["mean_ablation"]
    assert value(scores, "mean_ablation", "delta_ce_nats") == 0
    assert value(scores, "mean_ablation", "kl_nats") == 0
    assert own["fvu"].value is own["l0"].value is own["ce_loss_recovered"].value is None
    assert len(scores.notes) >= 3


def test_sums_do_not_depend_on_the_batches(
    loaded: LoadedModel, windows_of: Callable[[int], list[Window]], random_dictionary: Dictionary
):
    contenders: dict[str, Contender] = {"dictionary": Coded(random_dictionary), **floors()}
    one, many = (run(loaded, windows_of(n), contenders)[0].contenders() for n in (1, 8))
    for contender in contenders:
        for name in SUMS:
            few, whole = getattr(one[contender], name), getattr(many[contender], name)
            np.testing.assert_allclose(few, whole, rtol=1e-4, atol=1e-4)
    few, whole = one["dictionary"].usage, many["dictionary"].usage
    np.testing.assert_array_equal(few.firing.dead, whole.firing.dead)
    np.testing.assert_array_equal(few.counts.toarray(), whole.counts.toarray())
    np.testing.assert_array_equal(few.sizes, whole.sizes)
    assert few.sizes.sum() == few.counts.sum() == one["dictionary"].n_active.sum()


def test_a_resampled_activation_is_one_of_the_rows_and_not_always_the_same():
    rows = torch.eye(7)
    found = Resampled(rows).of(torch.arange(2000)).argmax(1).bincount(minlength=7)
    assert found.min() > 2000 / 7 - 5 * (2000 / 7) ** 0.5
