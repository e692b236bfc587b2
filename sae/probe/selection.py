"""What probing chose, for the stages that act on it: `selection.json`, written by probe, read by steer and validate."""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from sae.core.config import Strict
from sae.core.errors import InputError, WorldError, nearest
from sae.core.records import first_problem

FILE = "selection.json"
DIRECTIONS = "directions.safetensors"


class TaskSelection(Strict):
    """One task: tell `target` from the other label or labels."""

    target: str
    latent: int
    """The best single latent."""
    sign: Literal[1, -1]
    """1 where the latent fires for the target, −1 where it fires for the other label."""
    label: str
    """The label for which it fires."""
    threshold: float
    """Activation above which it counts as firing."""
    position: str
    """Where the latent was read: `span`, the last token of the span, or `consequence`, the place of prediction."""
    top_latents: tuple[int, ...]
    """The best latent and those that differ most beside it, five in all."""
    direction_position: str
    """Where the difference of means was read."""
    validation: dict[str, float]
    """Balanced accuracy on validation by method."""


class VariableSelection(Strict):
    """One variable."""

    labels: tuple[str, ...]
    has_consequence: bool
    """Whether every text of it has a consequence, so that it can be steered and validated."""
    tasks: dict[str, TaskSelection]
    """By target: one for a variable of two labels, one per label otherwise."""

    def by_label(self) -> dict[str, TaskSelection]:
        """The task that tells each label: its own, or of two labels the only one."""
        if len(self.labels) == 2:
            return {label: task for label in self.labels for task in self.tasks.values()}
        return dict(self.tasks)


class Selection(Strict):
    """All variables that were probed."""

    site: str
    dictionary: str
    """Hash of the dictionary."""
    variables: dict[str, VariableSelection]

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def steerable(self, asked: tuple[str, ...] = ()) -> list[str]:
        """Variables with a consequence; those asked for, if any are.

        Raises:
            InputError: one asked for was not probed or has no consequence, or none is left.
        """
        allowed = [name for name, variable in self.variables.items() if variable.has_consequence]
        for name in asked:
            if name not in allowed:
                known = f"there are {', '.join(allowed)}" if allowed else "no variable has one"
                raise InputError(f"no probed variable {name!r} with a consequence{nearest(name, allowed)}; {known}")
        if not allowed:
            raise InputError("no probed variable has a consequence, so there is nothing to read an effect from")
        return list(asked) or allowed


def read_selection(folder: Path) -> Selection:
    """Reads `selection.json`.

    Raises:
        WorldError: it is missing or damaged.
    """
    try:
        return Selection.model_validate_json((folder / FILE).read_bytes())
    except OSError as error:
        raise WorldError(f"{folder / FILE}: {error.strerror}; delete {folder} and run probe again") from None
    except ValidationError as error:
        raise WorldError(f"{folder / FILE} is damaged: {first_problem(error)}") from None


def direction_key(variable: str, target: str) -> str:
    """Name of a task's difference of means in `directions.safetensors`."""
    return f"{variable}/{target}"
