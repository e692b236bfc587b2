"""What the model knows, beside its untrained twin: the trained one says and carries, a model never beats itself."""

import pytest
import torch

from sae import microworld
from sae.core.records import Finding
from sae.dashboard.verdict import verdict
from sae.lm.load import LoadedModel, load_model
from sae.lm.untrained import untrained
from sae.probe.knowledge import knowledge_findings, knowledge_of
from sae.probe.variable import encoded

SITE = "blocks.2.resid_post"


@pytest.fixture(scope="module")
def shipped() -> LoadedModel:
    return load_model(str(microworld.folder()))


def findings(trained: LoadedModel, control: LoadedModel, variable: str) -> dict[str, Finding]:
    texts = microworld.labelled(variable, 240, seed=0)
    one = encoded(trained, texts, 240, seed=0)
    known, unknown = (knowledge_of(each, SITE, texts, one, 240, seed=0) for each in (trained, control))
    return {f.settings["method"]: f for f in knowledge_findings(known, unknown, one.sample, SITE, seed=0)}


@pytest.mark.parametrize("variable", ["number", "sentiment", "gender", "topic", "tense"])
def test_the_trained_model_says_and_carries_what_random_weights_do_not(shipped: LoadedModel, variable: str):
    found = findings(shipped, untrained(shipped, seed=0), variable)
    assert list(found) == ["says", "carries", "reads"]
    assert found["says"].effect >= 0.95
    assert found["says"].effect > found["says"].control.effect + 0.2
    assert verdict(found["says"]).tone == "above"
    # What the last block still fetches from an earlier word ("yesterday … walked") is not yet here.
    assert found["carries"].effect >= (0.6 if variable == "tense" else 0.9)
    assert found["carries"].effect > found["carries"].control.effect
    for finding in found.values():
        assert finding.control.what == "the same model with random weights"
        assert finding.interval is not None
        assert finding.interval.low <= finding.effect <= finding.interval.high


def test_a_model_is_never_told_apart_from_itself(shipped: LoadedModel):
    for finding in findings(shipped, shipped, "number").values():
        assert finding.effect == finding.control.effect
        assert finding.p == 1.0
        assert verdict(finding).tone in ("same", "unsettled")


def test_the_untrained_twin_follows_from_the_seed_and_leaves_everything_else_alone(shipped: LoadedModel):
    before = [p.clone() for p in shipped.model.parameters()]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, again, other = untrained(shipped, 0), untrained(shipped, 0), untrained(shipped, 1)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), again.model.parameters(), strict=True))
    assert not torch.equal(next(one.model.parameters()), next(other.model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(before, shipped.model.parameters(), strict=True))
    assert {n: p.shape for n, p in one.model.named_parameters()} == {
        n: p.shape for n, p in shipped.model.named_parameters()
    }
    assert one.fingerprint != other.fingerprint != shipped.fingerprint
