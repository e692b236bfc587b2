"""One dictionary of the stage *train*, in the folder where it is built: its state, its logs, its checkpoints.

What happens after a step is a function of the step alone, so that a resumed run logs, validates and saves where the
uninterrupted one does.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from pipelines import capacity
from pipelines.stage import Progress as Told
from pipelines.wandb_log import WandbLog
from sae.core.errors import WorldError
from sae.core.metrics import JsonLines, Sink
from sae.dictionary import load
from sae.parallel import device_of
from sae.training import Places, Progress, TrainConfig, begun, checkpoint, cut_back, result, starts, validation_scores
from sae.training.config import ON_AVERAGE
from sae.training.finite import check_saved
from sae.training.initialise import Start
from sae.training.schedule import caution
from sae.training.snapshot import tensors_of
from sae.training.state import State, continued

LOG = "metrics.jsonl"
START = "start.json"
"""What was done to the activations before training; a run that resumes finds it here."""
MIXING = ("shuffle_quality", "batch_mean_autocorrelation", "batch_mean_autocorrelation_spread")
"""What the first record of a log says of its batches."""
L0_TOLERANCE = 0.05
"""Relative distance from the l0 that was asked for, on validation, beyond which the user is told."""
LAST = ("fvu", "l0", "dead_window_fraction", "validation_fvu", "validation_l0", "validation_dead_fraction")
"""What the manifest keeps of the last record."""


class Job(NamedTuple):
    """A dictionary to train: how, where, and whom to tell."""

    config: TrainConfig
    folder: Path
    progress: Told


class Samples(NamedTuple):
    """Fixed rows that every member of a sweep is given; each is read when it is first needed."""

    train: Callable[[], Tensor]
    """From which scale and centre are taken."""
    validation: Callable[[], Tensor]
    """On which the run is validated; without rows it is not."""
    mixing: Callable[[], dict[str, float]]
    """How well the batches are mixed."""


class TrainingRun:
    """Begins or resumes; then is told of every step."""

    def __init__(self, job: Job, places: Places, samples: Samples) -> None:
        self._config, self._folder, self._progress = job
        self._samples = samples
        self._checkpoints = self._folder / "checkpoints"
        self.state = self._begin(places)
        n_kept = cut_back(self._folder / LOG, self.state.step)
        if self.state.step:
            self._say(
                f"resuming at step {self.state.step} of {self._config.n_steps} ({n_kept} records of metrics kept)"
            )
        self._mixing = self._mixed()
        self._sinks = self._opened()

    def _begin(self, places: Places) -> State:
        """The newest checkpoint's state, or the first one, whose dictionary is saved as the control."""
        device = device_of(self._config.device)
        latest = checkpoint.latest(self._checkpoints, self._config, device)
        for notice in latest.notices:
            self._say(notice)
        if latest.state is not None:
            return latest.state
        sample = self._samples.train()
        begin = starts(sample, self._config, places)
        for part, each in zip(places.columns, begin.source + begin.target, strict=False):
            self._say(each.words if len(places.columns) == 1 else f"{part.site}: {each.words}")
        if self._config.learning_rate == "auto":
            for words in caution(self._config.n_steps, self._config.tokens):
                self._say(words)
        (self._folder / START).write_text(json.dumps(_kept(begin.source[0]), indent=1) + "\n", encoding="utf-8")
        if self._config.start_from is None:
            state = begun(begin, sample, self._config, places)
        else:
            state = continued(load(Path(self._config.start_from), device), begin, self._config, places)
        result(state).save(self._folder / "untrained")
        return state

    def _mixed(self) -> dict[str, float]:
        """How well batches are mixed: measured when a run begins, kept as step 0 of its log and read from there.

        The log of a control, which has no other step, says how it does beside.
        """
        log = self._folder / LOG
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        first = json.loads(lines[0]) if lines else {}
        if "shuffle_quality" in first:
            return {name: first[name] for name in MIXING if name in first}
        found = self._samples.mixing()
        if not lines:
            scores = {} if self._config.n_steps else self._validated(Progress(0, 0, {}))
            with JsonLines(log) as sink:
                sink.record(0, found | scores)
        return found

    def _opened(self) -> list[Sink]:
        sinks: list[Sink] = [JsonLines(self._folder / LOG)]
        if self._config.wandb != "off":
            sinks.append(WandbLog(self._folder, self._config))
        return sinks

    @property
    def is_done(self) -> bool:
        return self.state.step >= self._config.n_steps

    def after(self, done: Progress) -> None:
        """Logs, validates and saves what is due after a step.

        Raises:
            DivergedError: what is to be saved is not finite.
        """
        if self.is_done:
            check_saved(tensors_of(self.state), self.state.step)
        if done.metrics:
            values = done.metrics | {"peak_memory_bytes": float(capacity.peak_bytes())} | self._validated(done)
            for sink in self._sinks:
                sink.record(done.step, values)
        milestone = self._passed(done.step, 1, self._config.milestone_every_tokens)
        if not self.is_done and (milestone or self._passed(done.step, 1, self._config.checkpoint_every_tokens)):
            self.save(milestone)

    def _validated(self, done: Progress) -> dict[str, float]:
        """Scores on the validation sample, at the first record after they are due, and the last."""
        every = self._config.log_every_steps
        n_since = done.step % every or every
        if not (self.is_done or self._passed(done.step, n_since, self._config.validate_every_tokens)):
            return {}
        rows = self._samples.validation()
        return validation_scores(result(self.state).eval(), rows) if len(rows) else {}

    def _passed(self, step: int, n_steps: int, every: int | None) -> bool:
        """Whether a multiple of `every` tokens was passed in the last `n_steps` steps."""
        batch = self._config.batch
        return every is not None and step * batch // every > (step - n_steps) * batch // every

    def save(self, milestone: bool = False) -> Path:
        """Writes a checkpoint, once what was logged is on the disk."""
        for sink in self._sinks:
            sink.sync()
        return checkpoint.save(self.state, self._config, self._checkpoints, milestone)

    def keep(self) -> None:
        """Writes a checkpoint of where the run is, unless it is there."""
        if not (self._checkpoints / f"step-{self.state.step:09d}").is_dir():
            self.save()

    def interrupt(self) -> None:
        """Writes a checkpoint of where the run is, and says so."""
        self.keep()
        self._say(f"checkpoint written at step {self.state.step}")

    def failed(self, error: WorldError) -> WorldError:
        """What stopped the run, with the last good checkpoint."""
        self.close()
        good = next(iter(checkpoint.newest_first(self._checkpoints)), None)
        kept = f"the last good checkpoint is {good}" if good else "no checkpoint was written before"
        return WorldError(f"{error}; {kept}")

    def finish(self, n_rows: int) -> dict[str, Any]:
        """Saves the dictionary; the run's metrics.

        Args:
            n_rows: of the train split.
        """
        self.close()
        result(self.state).save(self._folder)
        checkpoint.keep_milestones(self._checkpoints)
        last = json.loads((self._folder / LOG).read_text(encoding="utf-8").splitlines()[-1])
        return {
            **self._l0_error(last),
            "n_tokens": self.state.n_tokens,
            "n_steps": self.state.step,
            "epochs": self.state.n_tokens / n_rows,
            **json.loads((self._folder / START).read_text(encoding="utf-8")),
            **self._mixing,
            **{f"last_{name}": last[name] for name in LAST if name in last},
        }

    def _l0_error(self, last: dict[str, float]) -> dict[str, float]:
        """How far the last record's l0 is from what was asked for, relative to it; says so where it is too far."""
        if self._config.preset not in ON_AVERAGE or "validation_l0" not in last:
            return {}
        found, wanted = last["validation_l0"], self._config.l0
        error = found / wanted - 1
        if abs(error) > L0_TOLERANCE:
            self._say(
                f"l0 on validation is {found:.1f}, {error:+.0%} from the {wanted} asked for, after "
                f"{self._config.n_steps} steps; more of them (train.tokens up, train.batch down) help where it still "
                "moves in metrics.jsonl"
            )
        return {"l0_error": error}

    def close(self) -> None:
        """Closes the logs; may be called twice."""
        while self._sinks:
            self._sinks.pop().close()

    def _say(self, text: str) -> None:
        self._progress.say(text)


def _kept(begin: Start) -> dict[str, Any]:
    """What the manifest says of the start."""
    return {
        "scale": begin.scale,
        "scaling": begin.how,
        "gamma": begin.gamma,
        "gamma_read": begin.gamma_read,
        "sink_rows_fraction": begin.n_far / begin.n_rows,
        "scaling_words": begin.words,
    }
