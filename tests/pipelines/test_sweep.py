"""A sweep is its members, each as if its keys were written alone."""

from pipelines.config import check
from pipelines.sweep import sweep_members


def test_a_member_is_what_its_keys_make_alone() -> None:
    """The seed of a member moves its weights; the order of the data is the experiment's, alone as in a sweep."""
    written = {"text": {"max_tokens": 20_000}, "seed": 3}
    swept = sweep_members(check({**written, "train": {"sweep": {"l0": [4, 8], "seed": [0, 1]}}}, "the test"))
    each = [{"l0": l0, "seed": seed} for l0 in (4, 8) for seed in (0, 1)]
    alone = [member for keys in each for member in sweep_members(check({**written, "train": keys}, "the test"))]
    assert [member.train for member in swept] == [member.train for member in alone]
    assert all(member.train is not None and member.train.data_seed == 3 for member in alone)
