"""A sweep is its members, each as if its keys were written alone."""

from typing import Any

import pytest

from pipelines.config import check
from pipelines.sweep import sweep_members
from sae.core.errors import InputError


def test_a_member_is_what_its_keys_make_alone() -> None:
    """The seed of a member moves its weights; the order of the data is the experiment's, alone as in a sweep."""
    written = {"text": {"max_tokens": 20_000}, "seed": 3}
    swept = sweep_members(check({**written, "train": {"sweep": {"l0": [4, 8], "seed": [0, 1]}}}, "the test"))
    each = [{"l0": l0, "seed": seed} for l0 in (4, 8) for seed in (0, 1)]
    alone = [member for keys in each for member in sweep_members(check({**written, "train": keys}, "the test"))]
    assert [member.train for member in swept] == [member.train for member in alone]
    assert all(member.train is not None and member.train.data_seed == 3 for member in alone)


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"keep_checkpoints": [1, 2]}, "train.sweep.keep_checkpoints: it changes how a run goes"),
        ({"l0": [4, 4]}, "train.sweep.l0 has a value twice"),
        ({"l0": []}, "train.sweep.l0 is empty"),
        ({"sweep": [{}]}, "a sweep cannot be swept"),
    ],
)
def test_what_makes_no_members_is_refused(sweep: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(sweep_members(check({"text": {"max_tokens": 20_000}, "train": {"sweep": sweep}}, "the test")))
