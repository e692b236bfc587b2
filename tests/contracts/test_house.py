"""Laws of the whole house: what is imported is declared, the root is lazy, the README's tree is true."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"sae", "pipelines"}
IMPORT_NAMES = {"scikit-learn": "sklearn", "pyyaml": "yaml", "huggingface-hub": "huggingface_hub"}
HEAVY = ("transformers", "sklearn", "datasets", "matplotlib", "wandb", "h5py")


def imported(folder: str) -> set[str]:
    """Top-level names of everything that the Python files of a folder import, at any depth of their code."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names


def test_every_import_is_declared_and_every_dependency_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {_import_name(line) for line in project["dependencies"]}
    extras = {
        _import_name(line)
        for name, lines in project["optional-dependencies"].items()
        for line in lines
        if name != "dev"
    }
    used = (imported("sae") | imported("pipelines")) - set(sys.stdlib_module_names) - OURS
    assert used <= declared | extras
    assert declared <= used


def _import_name(requirement: str) -> str:
    name = re.split(r"[><=;\[]", requirement)[0].strip()
    return IMPORT_NAMES.get(name, name)


def test_importing_the_root_loads_nothing_heavy() -> None:
    code = f"import sys, sae; print([m for m in ('torch', *{HEAVY!r}) if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
    code = f"import sys, sae; sae.load; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize("folder", ["sae", "scripts"])
def test_the_tree_of_the_readme_is_true(folder: str) -> None:
    tree = (ROOT / "README.md").read_text().split("## The code")[1].split("```")[1]
    if folder == "sae":
        inner = tree.split("sae/  ")[1].split("pipelines/")[0]
        written = set(re.findall(r"(\w+)/", inner))
        there = {path.name for path in (ROOT / "sae").iterdir() if (path / "__init__.py").is_file()}
        assert written == there
    else:
        there = {path.name for path in (ROOT / "scripts").iterdir() if path.is_file()}
        assert all(name in tree for name in there)


def test_the_commands_of_the_readme_exist() -> None:
    from pipelines.cli import COMMANDS

    written = re.findall(r"`sae ([a-z\\|]+) ", (ROOT / "README.md").read_text())
    named = {name for group in written for name in group.replace("\\", "").split("|")}
    assert named - {"COMMAND"} <= set(COMMANDS)
    assert set(COMMANDS) <= named


def test_files_keep_to_one_process(request: pytest.FixtureRequest) -> None:
    """Else what a file or the store shares is made once a process: xdist 3.8 loses its groups under pytest 9.2."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("runs in one process anyway")
    assert request.node.nodeid.endswith("test_house.py")
