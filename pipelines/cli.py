"""The command line: `sae COMMAND CONFIG [--section.key value …] [--store DIR] [--json]`.

Exit status: 0 done; 1 the world failed; 2 the input is wrong; 130 interrupted. Each failure is one line on
standard error; a traceback is always our defect.
"""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sae.core.errors import InputError, NewerFormatError, WorldError, nearest

STAGE_COMMANDS = ("harvest", "train", "evaluate", "catalogue", "probe", "steer", "validate", "report")
COMMANDS = ("run", "plan", *STAGE_COMMANDS, "merge", "health", "verify")
FLAGS = ("--store", "--json", "--with-parents", "--part", "--repair", "--compare", "--help", "--version")


@dataclass
class Arguments:
    """One command line, read."""

    command: str = ""
    positional: str = ""
    others: list[str] = field(default_factory=list)
    overrides: list[tuple[str, str]] = field(default_factory=list)
    store: str = ""
    json: bool = False
    with_parents: bool = False
    part: str = ""
    repair: bool = False
    compare: bool = False
    help: bool = False
    version: bool = False


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its status."""
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = _dispatch(parse(words))
    except InputError as error:
        status = _fail(2, str(error))
    except NewerFormatError as error:
        status = _fail(1, str(error))
    except WorldError as error:
        status = _fail(1, f"{error}; finished artifacts are kept; to go on: sae {shlex.join(words)}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        _fail(1, f"{_reason(error)}; finished artifacts are kept; to go on: sae {shlex.join(words)}")
        sys.stdout.flush()
        # HDF5 closes its files when the interpreter ends; where it cannot write, that ends in a segmentation fault.
        os._exit(1)
    except KeyboardInterrupt:
        status = _fail(130, f"interrupted; what was finished is kept; to go on: sae {shlex.join(words)}")
    sys.exit(status)


def _reason(error: OSError) -> str:
    """What failed and where, in one line; HDF5 hides both within a longer text."""
    text = " ".join(str(error).split())
    hidden = re.search(r"error message = '([^']*)'", text)
    place = error.filename or next(iter(re.findall(r"filename = '([^']*)'", text)), None)
    reason = hidden[1] if hidden else error.strerror or text
    return reason + (f" ({place})" if place else "")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(status: int, text: str) -> int:
    sys.stderr.write(f"\nsae: {text}\n" if sys.stderr.isatty() else f"sae: {text}\n")
    return status


def parse(words: Sequence[str]) -> Arguments:
    """Reads a command line; whatever is no common flag is an override of a key of the file."""
    arguments, rest = Arguments(), list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            _take_positional(arguments, word)
            continue
        name, equals, value = word.partition("=")
        match name:
            case "-h" | "--help":
                arguments.help = True
            case "--version":
                arguments.version = True
            case "--json":
                arguments.json = True
            case "--with-parents":
                arguments.with_parents = True
            case "--repair":
                arguments.repair = True
            case "--compare":
                arguments.compare = True
            case _:
                _take_valued(arguments, name, value if equals else _next_value(name, rest))
    if arguments.others and not arguments.compare:
        raise InputError(
            f"unexpected {arguments.others[0]!r} after {arguments.positional!r}; overrides are written --section.key "
            "value"
        )
    return arguments


def _next_value(name: str, rest: list[str]) -> str:
    if not name.startswith("--") or len(name) == 2:
        raise InputError(f"unknown flag {name}; flags are {', '.join(FLAGS)} and --section.key value")
    if not rest or (rest[0].startswith("--") and len(rest[0]) > 2):
        raise InputError(f"{name} needs a value{nearest(name, FLAGS)}")
    return rest.pop(0)


def _take_valued(arguments: Arguments, name: str, value: str) -> None:
    if name == "--store":
        arguments.store = value
    elif name == "--part":
        arguments.part = value
    else:
        arguments.overrides.append((name[2:], value))


def _take_positional(arguments: Arguments, word: str) -> None:
    if not arguments.command:
        if word not in COMMANDS:
            raise InputError(
                f"unknown command {word!r}{nearest(word, COMMANDS) or '.'} Commands: {', '.join(COMMANDS)}"
            )
        arguments.command = word
    elif not arguments.positional:
        arguments.positional = word
    else:
        arguments.others.append(word)


def _dispatch(arguments: Arguments) -> int:
    from pipelines import help_text

    if arguments.version:
        from importlib.metadata import version

        print(f"sae {version('sae')}")
        return 0
    if arguments.help or not arguments.command:
        print(help_text.of(arguments.command))
        return 0 if arguments.help else 2
    if not arguments.positional:
        what = (
            "an artifact's folder"
            if arguments.command in ("health", "verify")
            else "a configuration: a YAML file or a shipped name"
        )
        raise InputError(f"sae {arguments.command} needs {what}; see sae {arguments.command} --help")
    if arguments.compare and arguments.command != "evaluate":
        raise InputError(f"--compare belongs to sae evaluate, not to sae {arguments.command}")
    match arguments.command:
        case "evaluate" if arguments.compare:
            return _compare(arguments)
        case "verify":
            return _verify(arguments)
        case "health":
            return _health(arguments)
        case "plan":
            return _plan(arguments)
        case _:
            return _run(arguments)


def _is_job(arguments: Arguments) -> bool:
    """Whether several processes are to share a stage, or a harvest is to be repaired.

    Raises:
        InputError: flags that do not go together.
    """
    from pipelines.harvest_jobs import n_ranks

    asked = [flag for flag, given in (("--part", arguments.part), ("--repair", arguments.repair)) if given]
    if asked and arguments.command != "harvest":
        raise InputError(f"{asked[0]} belongs to sae harvest, not to sae {arguments.command}")
    if len(asked) == 2:
        raise InputError("--part and --repair: a published harvest is repaired as a whole; leave --part out")
    if n_ranks() > 1 and (asked or arguments.with_parents or arguments.command not in ("harvest", "merge", "train")):
        flags = [*asked, *(["--with-parents"] if arguments.with_parents else [])]
        what = f"sae {arguments.command} {' '.join(flags)}".strip()
        raise InputError(f"{what} is for one process; under torchrun sae harvest and sae train share their work")
    return bool(asked) or arguments.command == "merge" or n_ranks() > 1


def _run_job(arguments: Arguments, run: Any) -> int:
    from pipelines import harvest_jobs
    from sae.activations.parts import read_part

    if arguments.part:
        done = harvest_jobs.run_part(run, read_part(arguments.part))
        result = {"stage": "harvest", "path": str(done.path), "reused": done.reused, "metrics": done.metrics}
    elif arguments.command == "train":
        from pipelines import training_ranks

        result = _result_of_stage(training_ranks.run_ranks(run))
    else:
        if arguments.command == "merge":
            outcome = harvest_jobs.merge(run)
        else:
            outcome = harvest_jobs.repair(run) if arguments.repair else harvest_jobs.run_ranks(run)
        result = _result_of_stage([outcome])
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(result) if arguments.json else result["path"])
    return 0


def _run(arguments: Arguments) -> int:
    from pipelines.config import read_experiment
    from pipelines.experiment import Run
    from sae.core.artifact import Store

    experiment = read_experiment(arguments.positional, arguments.overrides)
    whole = arguments.command == "run"
    only = ["harvest"] if arguments.command == "merge" else [arguments.command]
    stages = [s for s in STAGE_COMMANDS if experiment.section(s) is not None] if whole else only
    if not stages:
        raise InputError(f"{arguments.positional} has no stage; add a section: {', '.join(STAGE_COMMANDS)}")
    store = Store(_store_of(arguments))
    run = Run(experiment, store)
    if _is_job(arguments):
        return _run_job(arguments, run)
    outcomes = list(run.run(stages, with_parents=whole or arguments.with_parents))
    result = _result_of_run(run, outcomes) if whole else _result_of_stage(outcomes)
    if whole:
        _show(run, outcomes, to_stderr=arguments.json)
    if arguments.json:
        print(json.dumps(result))
    elif not whole:
        print(result["path"])
    return 0


def _compare(arguments: Arguments) -> int:
    from pipelines.compare import compare_all, show
    from sae.core.artifact import Store

    _is_job(arguments)  # refuses several processes
    names = [arguments.positional, *arguments.others]
    compared = compare_all(names, arguments.overrides, Store(_store_of(arguments)), arguments.with_parents)
    show(compared, sys.stderr if arguments.json else sys.stdout)
    print(json.dumps(compared.record()) if arguments.json else compared.artifact.path)
    return 0


def _store_of(arguments: Arguments) -> Path:
    return Path(arguments.store or os.environ.get("SAE_STORE") or "artifacts")


def _plan(arguments: Arguments) -> int:
    from pipelines.config import read_experiment
    from pipelines.plan import Planner, show
    from pipelines.progress import ConsoleProgress
    from sae.core.artifact import Store

    store = Store(_store_of(arguments))
    plan = Planner(read_experiment(arguments.positional, arguments.overrides), store, ConsoleProgress("plan")).plan()
    show(plan, sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        print(json.dumps(plan.record(store.root)))
    return 0 if plan.fits else _fail(1, f"it does not fit: {'; '.join(plan.short_of)}")


def _result_of_stage(outcomes: list[Any]) -> dict[str, Any]:
    last = [outcome for outcome in outcomes if outcome.stage == outcomes[-1].stage]
    result = {
        "stage": last[0].stage,
        "path": str(last[0].artifact.path),
        "reused": all(outcome.reused for outcome in last),
        "metrics": last[0].artifact.metrics,
    }
    return result if len(last) == 1 else {**result, "paths": [str(outcome.artifact.path) for outcome in last]}


def _result_of_run(run: Any, outcomes: list[Any]) -> dict[str, Any]:
    from pipelines.scorecard import headline

    paths = {
        stage: [str(o.artifact.path) for o in outcomes if o.stage == stage] for stage in {o.stage: 0 for o in outcomes}
    }
    return {
        "stage": "run",
        "path": str(outcomes[-1].artifact.path),
        "reused": all(outcome.reused for outcome in outcomes),
        "artifacts": {stage: found[0] for stage, found in paths.items()},
        "scorecard": headline([run.artifacts(member) for member in range(len(run.members))]),
        **({"paths": paths} if len(run.members) > 1 else {}),
    }


def _show(run: Any, outcomes: list[Any], to_stderr: bool) -> None:
    from pipelines.scorecard import show

    stream = sys.stderr if to_stderr else sys.stdout
    show([run.artifacts(member) for member in range(len(run.members))], stream)
    if all(outcome.reused for outcome in outcomes):
        stream.write("Everything was there already: all stages reused.\n")
    if outcomes[-1].stage == "report":
        stream.write(f"Report: {outcomes[-1].artifact.path / 'report.html'}\n")


def _health(arguments: Arguments) -> int:
    from pipelines import health

    path = Path(arguments.positional)
    found, findings = health.health_of(path)
    health.show(found, findings, sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        print(json.dumps(health.record(path, findings)))
    return 0


def _verify(arguments: Arguments) -> int:
    from sae.core.artifact import damaged_files, open_artifact

    artifact = open_artifact(Path(arguments.positional))
    damaged = damaged_files(artifact)
    for name in damaged:
        sys.stderr.write(f"sae: {artifact.path / name} is damaged: its checksum differs from the manifest\n")
    if not damaged:
        sys.stderr.write(f"sae: {artifact.kind} {artifact.hash}: {len(artifact.manifest['files'])} files are whole\n")
    if arguments.json:
        print(json.dumps({"stage": "verify", "path": str(artifact.path), "reused": False, "damaged": damaged}))
    return 1 if damaged else 0
