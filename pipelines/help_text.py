"""Help, made from the docstrings of the configuration's fields."""

import types
import typing
from typing import Any, Literal

from pydantic.fields import FieldInfo

from pipelines.config import Experiment, section_names, section_type, shipped_configs
from sae.core.config import Strict

COMMANDS = {
    "run": "the stages whose sections the file has, in order, skipping what exists",
    "plan": "predict tokens, disk, memory and time, and refuse what cannot fit",
    "harvest": "stream a model's residual stream to HDF5 shards",
    "train": "learn a sparse dictionary from them",
    "evaluate": "score it on the test split, beside its baselines",
    "catalogue": "where each latent fires, what it promotes, its neighbours",
    "probe": "what can be read from the residual stream and from single latents",
    "steer": "dose-response of adding a direction, against its cost",
    "validate": "what ablating and patching a latent does to behaviour",
    "report": "one static HTML file",
    "merge": "join the parts of a harvest (harvest --part i/n) into one artifact",
    "health": "what the rows of a harvest look like, and what follows for training",
    "verify": "check the files of an artifact against its manifest",
}

_COMMON = """
Flags:
  --section.key value   overrides any key of the file; values are YAML (2e-3, true, [16, 32])
  --store DIR           where artifacts are kept (default: $SAE_STORE, else ./artifacts)
  --with-parents        also run what the stage needs and is not there yet
  --json                the last line on standard output is one JSON object
  --help, --version
"""


_PARTS = """
  --part i/n            make one part of n, i from 0 to n - 1; then sae merge. Under torchrun all ranks share the work
  --repair              make the damaged files of a published harvest again
"""

_COMPARE = """
  --compare             compare the members of a sweep in pairs, and those of other configurations and folders of
                        dictionaries or evaluations that are named after CONFIG: sae evaluate CONFIG [OTHER …] --compare
                        overrides of keys are for every configuration
"""


def of(command: str) -> str:
    """The help of a command, or of the whole program."""
    if command in ("", "help"):
        return _overview()
    positional = "ARTIFACT" if command in ("health", "verify") else "CONFIG"
    head = f"sae {command} {positional} [flags]\n\n  {COMMANDS[command]}\n"
    match command:
        case "verify":
            return head + "\n  ARTIFACT is the folder of an artifact. Exit status 1 if a file is damaged.\n" + _COMMON
        case "health":
            return head + "\n  ARTIFACT is the folder of an activations artifact.\n" + _COMMON
        case "run" | "plan":
            sections = "\n".join(_section(name) for name in section_names())
            return head + _configs() + "\nTop-level keys:\n" + _keys(Experiment, "") + "\n" + sections + _COMMON
        case "merge":
            return head + _configs() + "\n" + _section("harvest") + _COMMON
        case "harvest":
            return head + _configs() + _PARTS + "\n" + _section(command) + _COMMON
        case "evaluate":
            return head + _configs() + _COMPARE + "\n" + _section(command) + _COMMON
        case _:
            return head + _configs() + "\n" + _section(command) + _COMMON


def _overview() -> str:
    lines = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
    head = "sae: from text to causally validated features\n\nUsage: sae COMMAND CONFIG [flags]\n\n"
    return head + lines + "\n" + _configs() + _COMMON


def _configs() -> str:
    names = ", ".join(sorted(file.stem for file in shipped_configs().glob("*.yaml")))
    return f"\n  CONFIG is a YAML file or a shipped one by name: {names}\n"


def _section(name: str) -> str:
    field = Experiment.model_fields["validate_" if name == "validate" else name]
    section = section_type(field.annotation)
    assert section is not None
    return f"Keys of the section {name!r}:\n" + (_keys(section, f"{name}.") or "  (none)\n")


def _keys(model: type[Strict], prefix: str) -> str:
    lines = []
    for name, field in model.model_fields.items():
        inner = section_type(field.annotation)
        if inner is None:
            lines.append(_key(prefix + (field.alias or name), field))
        elif prefix or name in ("text", "model_options"):
            lines.append(_keys(inner, f"{prefix}{name}."))
    return "".join(lines)


def _key(key: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"default {_plain(field.get_default(call_default_factory=True))}"
    text = " ".join((field.description or "").split())
    return f"  --{key} {_type_name(field.annotation)}\n      {text}{' ' if text else ''}({default})\n"


def _plain(value: Any) -> str:
    return (
        {None: "none", True: "true", False: "false"}.get(value, str(value))
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _type_name(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return "|".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return "|".join(_type_name(part) for part in inner if part is not type(None))
    if origin is typing.Annotated:
        return _type_name(inner[0])
    if origin in (tuple, list):
        return f"[{_type_name(inner[0])}, …]"
    if origin is dict:
        return "{…}"
    return {"int": "INT", "float": "NUMBER", "str": "TEXT", "bool": "true|false"}.get(
        getattr(annotation, "__name__", ""), "VALUE"
    )
