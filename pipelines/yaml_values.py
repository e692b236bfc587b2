"""YAML 1.2 values, in files and on the command line: `2e-3` is a number, `no` is a word, a key stands once.

PyYAML reads YAML 1.1; this loader replaces its rules for booleans, integers and floats by those of YAML 1.2's core
schema (underscores in numbers stay allowed, as in `1_000_000`). `${NAME:-default}` reads the environment.
"""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from sae.core.errors import InputError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_BOOLEAN = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INTEGER = re.compile(r"^[-+]?[0-9][0-9_]*$")
_FLOAT = re.compile(
    r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars, which refuses a key that stands twice."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 (PyYAML's own name and type)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value.replace("_", ""))


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOLEAN, list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def read_value(text: str) -> Any:
    """One value as on the command line: a number, word, list or mapping."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{text!r} is no YAML value: {_in_one_line(error)}") from None


def read_file(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, environment variables filled in.

    Raises:
        InputError: no such file, broken YAML (with its line), an empty file, or no mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read {path}: {reason}") from None
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {_in_one_line(error)}") from None
    if value is None:
        raise InputError(f"{path} is empty; it should hold an experiment (see configs/quickstart.yaml)")
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}; an experiment is a mapping of keys to values")
    return _with_environment(value, path)


def _in_one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _with_environment(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _with_environment(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_environment(item, path) for item in value]
    if isinstance(value, str) and _VARIABLE.search(value):
        return read_value(_VARIABLE.sub(lambda match: _variable(match, path), value))
    return value


def _variable(match: re.Match[str], path: Path) -> str:
    name, default = match.groups()
    found = os.environ.get(name) or default
    if found is None:
        raise InputError(f"{path} reads the environment variable {name}, which is not set; write ${{{name}:-default}}")
    return found
