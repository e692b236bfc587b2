"""Which kernels a call goes to, and what happens where there is no compiler."""

import importlib.util
import logging

import pytest
import torch

from sae import kernels
from sae.core.errors import InputError, WorldError
from sae.kernels import build, choice, cpu, dispatch, reference, sparse
from tests.kernels.spellings import COMPILED

SINGLE, DOUBLE = torch.zeros(1), torch.zeros(1, dtype=torch.float64)


@COMPILED
def test_float32_on_a_processor_is_compiled(monkeypatch):
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    assert dispatch.spelling(SINGLE) is cpu
    assert dispatch.spelling(SINGLE, DOUBLE) is sparse


@pytest.mark.parametrize(("name", "module"), [("reference", reference), ("sparse", sparse), ("cpu", cpu)])
def test_the_environment_names_the_kernels(monkeypatch, name, module):
    monkeypatch.setenv(choice.VARIABLE, name)
    assert dispatch.spelling(SINGLE) is module


def test_an_unknown_name_is_refused(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "fast")
    with pytest.raises(InputError, match="reference, sparse, cpu, triton"):
        kernels.sparsify(SINGLE)


def test_spellings_have_the_same_functions():
    names = {name for name in kernels.__all__ if name.islower()}
    for module in (reference, sparse, cpu):
        assert all(callable(getattr(module, name)) for name in names)


def test_without_a_compiler_one_notice_and_the_torch_kernels(monkeypatch, caplog):
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    build.library.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert {dispatch.spelling(SINGLE) for _ in range(3)} == {sparse}
    build.library.cache_clear()
    assert [record.getMessage() for record in caplog.records] == [
        "no compiled kernels, the slower ones in torch take their place: no C++ compiler: no-such-compiler not found"
    ]


def test_a_compiler_that_fails_says_why(tmp_path):
    with pytest.raises(WorldError, match="ended with status"):
        build.built(["false"], tmp_path)
    assert not list(tmp_path.iterdir())


@COMPILED
def test_loops_are_built_once(tmp_path, monkeypatch):
    assert build.built(build._compiler(), tmp_path)
    (made,) = tmp_path.iterdir()
    before = made.stat().st_mtime_ns
    assert build.built(build._compiler(), tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [before]
    whole = made.read_bytes()
    cut = made.with_name("cut")
    cut.write_bytes(whole[: len(whole) // 2])
    cut.replace(made)  # another file, for this process has the first one loaded
    assert build.built(build._compiler(), tmp_path)
    stem = made.name.rpartition("-")[0]
    assert any(path.name == build._named(stem, path) for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("no-such-compiler -O2", "no C++ compiler: no-such-compiler not found"),
        ("'g++", "No closing quotation"),
    ],
)
def test_a_compiler_that_is_none_is_said(monkeypatch, caplog, named, said):
    monkeypatch.setenv("CXX", named)
    build.library.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert build.library() is None
    build.library.cache_clear()
    assert said in caplog.text


@COMPILED
def test_a_compiler_may_have_arguments(monkeypatch):
    found = build._compiler()
    monkeypatch.setenv("CXX", f"{found[0]} -g0 -O1")
    assert build._compiler() == [found[0], "-g0", "-O1"]
    assert build._run(*build._compiler(), "--version")


def test_without_the_package_one_notice_and_the_torch_kernels(monkeypatch, caplog):
    monkeypatch.setenv(choice.VARIABLE, "triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    choice._triton.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert {dispatch.spelling(torch.zeros(1)).__name__ for _ in range(3)} == {"sae.kernels.sparse"}
    choice._triton.cache_clear()
    assert [record.getMessage() for record in caplog.records] == [
        "no package triton (pip install sae[triton]): the slower kernels in torch take its place"
    ]


def test_triton_without_a_c_compiler_is_not_taken(monkeypatch, caplog):
    pytest.importorskip("triton", reason="no package triton here")
    monkeypatch.setenv(choice.VARIABLE, "triton")
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    choice._triton.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert {dispatch.spelling(torch.zeros(1)).__name__ for _ in range(3)} == {"sae.kernels.sparse"}
    choice._triton.cache_clear()
    assert [record.getMessage() for record in caplog.records] == [
        "no C compiler for triton (no-such-compiler not found): the slower kernels in torch take its place"
    ]
