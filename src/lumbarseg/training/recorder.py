"""What a run writes after its steps: progress, validation scores, history, TensorBoard log, checkpoints."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lumbarseg.io import write_json
from lumbarseg.progress import ProgressBar

from .checkpoint import BEST_FILE, CHECKPOINT_FILE
from .data import TrainingData, describe_limits
from .deepedit import add_empty_click_channels
from .history import HISTORY_FILE, LOG_INTERVAL, History
from .run_result import RESULT_FILE, RunResult, ValidationScores
from .sampling import Batch
from .state import TrainingState, create_checkpoint
from .tensorboard_log import TensorBoardLog
from .torch_predictor import TorchPredictor
from .validation import ValidationReport, WorstCase, validate

ValidationCallback = Callable[[Path, Sequence[WorstCase]], None]
"""Is called with the run's folder after each validation, and with its worst exams where the score is a new best."""
_LOG_FOLDER = "log"


class RunRecorder:
    """Writes the files of a run in the main process."""

    def __init__(
        self, state: TrainingState, data: TrainingData, run_folder: Path, on_validation: ValidationCallback | None
    ) -> None:
        self.state, self.data, self.folder, self.on_validation = state, data, run_folder, on_validation
        self.history = History.read(run_folder / HISTORY_FILE, state.step)
        self.log = TensorBoardLog(run_folder / _LOG_FOLDER, state.step)
        processes = state.process_group.world_size
        suffix = f", {processes} processes" if processes > 1 else ""
        preset, init = state.details.get("preset"), state.details.get("init", {}).get("file")
        preset = preset or ("fine" if init else "none")  # as run_options chooses the settings
        _print(f"preset: {preset}; initial weights: {init or 'none, from scratch'}")
        counts = f"{len(data.train)} training exams, {len(data.val)} validation exams"
        _print(f"{counts}; {state.precision} on {state.device}{suffix}")
        for line in describe_limits(data):
            _print(line)
        self.progress = ProgressBar("steps", state.settings.steps, state.step, has_time_left=False)
        self.saved_at = time.monotonic()
        self.start, self.run_start = self.saved_at - state.elapsed_seconds, self.saved_at
        self.validation_seconds = 0.0  # that a validation takes; 0: not known yet
        if state.step == 0 and init and data.val:
            self._write_and_report(False, self._validate_and_keep_best())

    def close(self) -> None:
        """End the progress bar and close the log."""
        self.progress.close()
        self.log.close()

    def record_step(self, loss: float, batch: Batch) -> bool:
        """Record a step; return whether it was the last one."""
        state, settings = self.state, self.state.settings
        state.elapsed_seconds = time.monotonic() - self.start
        self.progress.advance(f"loss {loss:.4f}, {self._format_remaining_time()} left")
        values = {"loss": loss, "rate": settings.learning_rate_at(state.step - 1, state.elapsed_seconds)}
        self._estimate_validation_seconds()
        last = self._is_over()
        validation_due = bool(self.data.val) and (last or state.step % settings.validation_interval == 0)
        if state.step % LOG_INTERVAL == 0:
            self.log.log_scalars(state.step, values)
        if last or validation_due or state.step % LOG_INTERVAL == 0:
            self.history.add(state.step, {"seconds": state.elapsed_seconds, **values})
        worst: tuple[WorstCase, ...] = ()
        if validation_due:
            worst = self._validate_and_keep_best()
            last = last or 0 < settings.patience <= state.best_validation.waited or self._is_over()
        if last and settings.minutes and state.step < settings.steps and self._is_over():
            state.elapsed_seconds = max(state.elapsed_seconds, 60 * settings.minutes)  # else --resume would go on
        if last or state.step % settings.image_interval == 0:
            images = add_empty_click_channels(batch[0], state.spec.inputs)
            self.log.log_predictions(state.step, state.ema_network(), (images, batch[1]), self.data.codec)
        if last or validation_due:
            self._write_and_report(last, worst)
        if last or time.monotonic() - self.saved_at >= settings.checkpoint_seconds:
            self.save_checkpoint()
        return last

    def _estimate_validation_seconds(self) -> None:
        """Time one validation exam at half of the time limit, if no validation has shown how long one takes."""
        limit, exams = 60 * self.state.settings.minutes, self.data.val
        if exams and not self.validation_seconds and 0 < limit <= 2 * self.state.elapsed_seconds:
            started = time.monotonic()
            validate(self._predictor(), exams[:1], self.data.targets)
            voxel_ratio = sum(exam.labels.size for exam in exams) / exams[0].labels.size
            self.validation_seconds = (time.monotonic() - started) * voxel_ratio

    def _predictor(self) -> TorchPredictor:
        """Return the averaged network as a model."""
        card = create_checkpoint(self.state, self.data).card()
        return TorchPredictor(card, self.state.ema_network(), self.state.precision)

    def _is_over(self) -> bool:
        """Return whether all steps are done, or the time is up but for the validation of the last step."""
        self.state.elapsed_seconds = time.monotonic() - self.start
        seconds = self.state.elapsed_seconds + self.validation_seconds
        return self.state.settings.fraction_done(self.state.step, seconds) >= 1

    def _format_remaining_time(self) -> str:
        """Return the remaining time by steps, time limit and validations; with patience, the longest."""
        state, settings = self.state, self.state.settings
        done = max(1, state.step - self.progress.initial)
        steps_per_second = done / max(1e-6, time.monotonic() - self.run_start)
        seconds = (settings.steps - state.step) / steps_per_second
        if settings.minutes:
            seconds = min(seconds, 60 * settings.minutes - state.elapsed_seconds)
        bound = "at most " if settings.patience and self.data.val else ""
        return f"{bound}{ProgressBar.format_interval(max(0.0, seconds))}"

    def save_checkpoint(self) -> None:
        """Write the history and the checkpoint."""
        self.history.write(self.folder / HISTORY_FILE)
        create_checkpoint(self.state, self.data).save(self.folder / CHECKPOINT_FILE)
        self.saved_at = time.monotonic()

    def _validate_and_keep_best(self) -> tuple[WorstCase, ...]:
        """Validate, record the scores and keep the best weights; return the worst exams of a new best score."""
        state = self.state
        started = time.monotonic()
        report = validate(self._predictor(), self.data.val, self.data.targets)
        self.validation_seconds = max(self.validation_seconds, time.monotonic() - started)
        first = not self.history.validations()
        scores = report.scores_at(state.step, state.elapsed_seconds)
        self._record_scores(report, scores)
        if scores.score > state.best_validation.score:
            state.best_validation = scores
            create_checkpoint(state, self.data).save(self.folder / BEST_FILE)
            return report.worst_cases
        state.best_validation = replace(state.best_validation, waited=state.best_validation.waited + 1)
        return report.worst_cases if first else ()

    def _record_scores(self, report: ValidationReport, scores: ValidationScores) -> None:
        step = scores.step
        for index, name in enumerate(self.data.dataset_digests):
            for structure, (dice, ratio) in report.dataset_means(index).items():
                label = f"{name} {structure}"
                self.log.log_scalars(step, {f"dice/{label}": dice, f"volume ratio/{label}": ratio})
        self.log.log_scalars(step, {"score": scores.score})
        self.history.add_validation(scores)
        _print(f"{f'step {step}' if step else 'before training'}  {report.summary_line}")

    def _write_and_report(self, finished: bool, worst: tuple[WorstCase, ...]) -> None:
        self.history.write(self.folder / HISTORY_FILE)
        write_json(self.folder / RESULT_FILE, self._result(finished).to_dict())
        if self.on_validation:
            self.on_validation(self.folder, worst)

    def _result(self, finished: bool) -> RunResult:
        """Return the result of the run as it is now."""
        state, data, settings, validations = self.state, self.data, self.state.settings, self.history.validations()
        return RunResult(
            preset=state.details.get("preset", ""),
            targets=list(data.targets.names),
            init=state.details.get("init", {}).get("file", "none"),
            datasets=[name.partition(" ")[2] for name in data.dataset_digests],
            exams={"train": len(data.train), "held_out": len(data.val), "left_out": data.excluded_count},
            epochs=state.step * settings.batch_size / data.slice_count,
            minutes=state.elapsed_seconds / 60,
            finished=finished,
            settings=settings,
            best=state.best_validation if state.best_validation.exams else None,
            last=validations[-1] if validations else None,
            before=validations[0] if validations and not validations[0].step else None,
            slices=data.slice_count,
            step=state.step,
            precision=state.precision,
            device=str(state.device),
        )


def _print(text: str) -> None:
    ProgressBar.write(text, file=sys.stderr)
