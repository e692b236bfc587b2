"""Laws of saving: the same bits and the same words; what is damaged or unknown is refused."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sae.core.config import canonical_hash
from sae.core.errors import InputError, WorldError
from sae.intervention import (
    Direction,
    Intervention,
    add,
    applying,
    in_order,
    indices,
    load_intervention,
    on_generated,
    project_out,
    replace,
    saving,
    set_latents,
    splice,
)
from sae.lm import Context, editing
from sae.lm.tiny import tiny

from .conftest import DENSE, DIRECTION, LENGTHS, LONGEST, SITE, SOURCE, SPARSE, TRANSCODER, Case, D, normal

POSITIONS = torch.arange(LONGEST).expand(3, -1).where(torch.arange(LONGEST) < torch.tensor(LENGTHS)[:, None], -1)
HERE = Context(
    POSITIONS % 7 + 3, POSITIONS, POSITIONS >= 0, POSITIONS >= 99, {SOURCE: normal(3, LONGEST, D, seed=11)}, SITE
)
X = normal(3, LONGEST, D, seed=10)


def saved(tmp_path: Path, *operations) -> Path:
    Intervention({SITE: operations}).save(tmp_path / "one")
    return tmp_path / "one"


def test_saving_and_loading_keeps_the_bits_and_the_words(case: Case, tmp_path: Path) -> None:
    before = Intervention({SITE: [case.made()], "final": [case.made(), add(DIRECTION)]})
    before.save(tmp_path)
    after = load_intervention(tmp_path)
    assert str(after) == str(before)
    assert after.capture == before.capture
    for one, other in zip(before.edits["final"], after.edits["final"], strict=True):
        assert type(one) is type(other)
        assert torch.equal(one(X, HERE), other(X, HERE))


def test_equal_interventions_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Intervention({SITE: [add(DIRECTION, 2.0), splice(SPARSE)]}).save(tmp_path / name)
    files = [{p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("a", "b")]
    assert files[0] == files[1]


def test_a_dictionary_is_referred_to_where_its_folder_is_named(tmp_path: Path) -> None:
    home, other = tmp_path / "store" / "dictionary", tmp_path / "store" / "other"
    SPARSE.save(home)
    DENSE.save(other)
    folder = tmp_path / "findings" / "one"
    Intervention({SITE: [splice(SPARSE), set_latents(SPARSE, {3: 1.0})]}).save(folder, dictionaries=[other, home])
    assert not (folder / "dictionaries").exists()
    assert "../../store/dictionary" in (folder / "intervention.json").read_text()
    first, second = load_intervention(folder).edits[SITE]
    assert torch.equal(first(X, HERE), splice(SPARSE)(X, HERE))
    assert first.dictionary is second.dictionary  # type: ignore[union-attr]
    (tmp_path / "moved").mkdir()
    (tmp_path / "store").rename(tmp_path / "moved" / "store")
    with pytest.raises(WorldError, match=r"store/dictionary is no dictionary"):
        load_intervention(folder)
    (tmp_path / "moved" / "findings").mkdir()
    folder.rename(tmp_path / "moved" / "findings" / "one")
    load_intervention(tmp_path / "moved" / "findings" / "one")
    DENSE.save(tmp_path / "moved" / "store" / "dictionary")
    with pytest.raises(WorldError, match="is not the one that was saved"):
        load_intervention(tmp_path / "moved" / "findings" / "one")


def test_a_large_dictionary_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "COPIED_BYTES", 1000)
    with pytest.raises(InputError, match=r"is not copied .* save it by reference"):
        Intervention({SITE: [splice(SPARSE)]}).save(tmp_path / "one")
    SPARSE.save(tmp_path / "dictionary")
    Intervention({SITE: [splice(SPARSE)]}).save(tmp_path / "one", [tmp_path / "dictionary"])
    assert str(load_intervention(tmp_path / "one").edits[SITE][0]) == str(splice(SPARSE))


def test_half_precision_is_kept(tmp_path: Path) -> None:
    from copy import deepcopy

    half = deepcopy(DENSE).bfloat16()
    operations = [splice(half), add(normal(D).bfloat16()), project_out(normal(2, D).half())]
    found = load_intervention(saved(tmp_path, *operations)).edits[SITE]
    for one, other in zip(operations, found, strict=True):
        assert torch.equal(one(X.bfloat16(), HERE), other(X.bfloat16(), HERE))


def test_functions_cannot_be_saved(tmp_path: Path) -> None:
    edit = in_order(add(DIRECTION), set_latents(SPARSE, {3: 1.0, 7: lambda old: 2 * old}))
    with pytest.raises(InputError, match=r"resid_post\.0\.operations\.1\.values\.1 is a function, which cannot"):
        saved(tmp_path, edit)
    assert not (tmp_path / "one" / "intervention.json").exists()


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, add(DIRECTION, 2.0, indices(1)), splice(SPARSE))
    record, tensors = folder / "intervention.json", folder / "intervention.safetensors"
    weights = next(folder.glob("dictionaries/*/weights.safetensors"))
    for file in (record, tensors, weights):
        good = file.read_bytes()
        for bad in (good[: len(good) // 2], good[:-20] + bytes(8) + good[-12:], b""):
            file.write_bytes(bad)
            with pytest.raises(WorldError, match="is damaged"):
                load_intervention(folder)
        if file != record:
            file.unlink()
            with pytest.raises(WorldError, match="is damaged"):
                load_intervention(folder)
        file.write_bytes(good)
    load_intervention(folder)
    record.unlink()
    with pytest.raises(InputError, match="no intervention in"):
        load_intervention(folder)


def rewrite(folder: Path, change) -> None:
    """Changes the record and makes its hash right again."""
    path = folder / "intervention.json"
    record = json.loads(path.read_text())
    change(record)
    record.pop("hash")
    path.write_text(json.dumps({**record, "hash": canonical_hash(record)}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("strength", "2", "Add.strength cannot be '2'"),
        ("strength", True, "Add.strength cannot be 'True'"),
        ("strength", None, "Add.strength cannot be"),
        ("direction", 3, "Add.direction cannot be"),
        ("positions", "prompt", "Add.positions cannot be 'prompt'"),
        ("positions", {"kind": "Add"}, "has the fields direction, strength, positions, not"),
        ("positions", {"kind": "Somewhere"}, "no kind 'Somewhere'; there are Add, "),
        ("positions", {"kind": "AtIndices", "indices": [1, 2.5]}, "AtIndices.indices cannot be"),
        ("positions", {"kind": "AtIndices", "indices": []}, "no position is named"),
        ("positions", {"kind": "AllOf", "rules": [{"kind": "AllOf", "rules": [3]}]}, "AllOf.rules cannot be"),
        ("surplus", 1, "has the fields direction, strength, positions, not"),
        ("kind", "os.system", "no kind 'os.system'"),
        ("kind", ["Add"], "no kind"),
        ("direction", {"tensor": "elsewhere"}, "elsewhere"),
    ],
)
def test_unknown_content_is_refused_by_name(tmp_path: Path, field: str, value: object, message: str) -> None:
    folder = saved(tmp_path, add(DIRECTION, 2.0, indices(1)))
    rewrite(folder, lambda record: record["edits"][SITE][0].update({field: value}))
    with pytest.raises(WorldError, match=message):
        load_intervention(folder)


def test_records_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, add(DIRECTION))
    for change, message in (
        (lambda record: record.update(version=2), "it has version 2; this code reads 1"),
        (lambda record: record.update(edits={}), "needs at least one operation"),
        (lambda record: record.update(edits={"nowhere": record["edits"][SITE]}), "no site 'nowhere'"),
        (lambda record: record.update(edits={SITE: [{"kind": "Everywhere"}]}), "Everywhere"),
        (lambda record: record.update(edits=[1]), "damaged"),
    ):
        Intervention({SITE: [add(DIRECTION)]}).save(folder)
        rewrite(folder, change)
        with pytest.raises(WorldError, match=message):
            load_intervention(folder)


def test_an_intervention_says_what_it_does() -> None:
    intervention = Intervention(
        {
            SITE: [add(DIRECTION, 2.0, on_generated()), splice(TRANSCODER, source=SOURCE)],
            "final": [set_latents(SPARSE, {7: 2.5, 3: 0})],
        }
    )
    assert str(intervention) == (
        f"at {SITE}: add 2 × (difference of means at {SITE}, one unit being 1.5 (std)) on what the model generates;"
        f" then splice in the reconstruction of a dictionary of 24 latents reading {SOURCE} everywhere\n"
        "at final: set latent 7 to 2.5, latent 3 to 0 of a dictionary of 40 latents everywhere"
    )
    assert intervention.capture == (SOURCE,)


def test_interventions_compose_in_order(tmp_path: Path) -> None:
    model, ids = tiny("gpt2"), torch.arange(3, 12)[None]
    one = Intervention({SITE: [add(DIRECTION)], "final": [replace(torch.ones(D))]})
    other = Intervention({SITE: [project_out(normal(3, D))], "embed": [add(normal(D))]})

    def logits(*interventions: Intervention) -> Tensor:
        from contextlib import ExitStack

        with ExitStack() as stack:
            for intervention in interventions:
                stack.enter_context(applying(model, intervention))
            return model(input_ids=ids).logits

    both = one.then(other)
    assert [len(operations) for operations in both.edits.values()] == [2, 1, 1]
    assert torch.equal(logits(both), logits(one, other))
    one, other = Intervention({SITE: one.edits[SITE]}), Intervention({SITE: other.edits[SITE]})
    assert torch.equal(logits(one.then(other)), logits(one, other))
    assert torch.equal(logits(one.then(other)), logits(Intervention({SITE: [in_order(*one.then(other).edits[SITE])]})))
    assert not torch.allclose(logits(one.then(other)), logits(other.then(one)), atol=1e-3)


def test_a_source_that_was_not_captured_is_named() -> None:
    model = tiny("gpt2")
    with (
        pytest.raises(InputError, match=rf"edit at {SITE} reads {SOURCE}, which was not captured"),
        editing(model, {SITE: splice(TRANSCODER, source=SOURCE)}),
    ):
        model(input_ids=torch.arange(5)[None])


def test_interventions_that_are_none_are_refused() -> None:
    for edits in ({}, {SITE: []}):
        with pytest.raises(InputError, match="needs at least one operation"):
            Intervention(edits)
    with pytest.raises(InputError, match=r"no site 'blocks\.0\.resid'"):
        Intervention({"blocks.0.resid": [add(DIRECTION)]})
    with pytest.raises(InputError, match=r"cannot be -1\.0 long"):
        Direction(normal(D), SITE, "std", "a test", length=-1.0)
