"""`DPOTrainer`: TRL's constructor and what scripts call of it, with Penchant's training behind it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import TrainOutput

from penchant.cli.console import make_reporter
from penchant.errors import UsageError
from penchant.integrations.trl.arguments import adapter_keys, configuration, course_of, every, read_arguments
from penchant.integrations.trl.config import DPOConfig
from penchant.integrations.trl.constructor import check_arguments, patience_of
from penchant.integrations.trl.evaluation import evaluation
from penchant.integrations.trl.following import Following, Printer, Warnings, show
from penchant.integrations.trl.history import history
from penchant.integrations.trl.outputs import copy_model, is_to_resume
from penchant.integrations.trl.rows import PreferenceRows
from penchant.integrations.trl.scripting import Scripting, devices, speaks
from penchant.integrations.trl.start import Start, find_start, reference_in, take_over
from penchant.integrations.trl.step_log import StepLog
from penchant.integrations.trl.tokens import describe_missing, training_ids
from penchant.library.models import AnyModel
from penchant.library.train import Trained, train
from penchant.models.load import load_model
from penchant.models.precision import choose_device
from penchant.objective.loss_table import uses_means
from penchant.processes import together
from penchant.workflow.reporter import Reporter


class DPOTrainer(Scripting):
    """TRL's DPOTrainer for the common case, with Penchant's engine; docs/from-trl.md has what is taken.

    The run directory of Penchant (`config.yaml`, `metrics.jsonl`, `eval/`, ...) is `args.output_dir`. For the same
    arguments and rows the losses in `state.log_history` are those that TRL 1.16 logs.

    Args:
        model: A Hub id or a directory; or a loaded transformers model, which has the trained weights afterwards.
        ref_model: Another reference than the policy as it begins.
        args: The configuration, this package's or TRL's own; None = TRL's defaults.
        data_collator: None.
        train_dataset: A `datasets.Dataset` or a list of rows with chosen, rejected and, mostly, prompt.
        eval_dataset: Likewise, to validate on; or several by name, for `evaluate` alone.
        processing_class: The tokenizer; None = the model's own.
        compute_metrics: None.
        callbacks: `EarlyStoppingCallback` at most.
        optimizers: (None, None).
        quantization_config: None.
        peft_config: A `peft.LoraConfig` without dropout.
        **others: What TRL's DPOTrainer does not take either; it raises.

    Raises:
        UsageError: An argument or a field that cannot be had here, with the reason and the remedy.
        DataError: The rows cannot be read as pairs.
        ModelError: The model or its tokenizer cannot be used.

    Attributes:
        args: The configuration.
        state: As transformers has it: `log_history`, `global_step`, `epoch`, `max_steps`.
    """

    def __init__(
        self,
        model: Any,
        ref_model: Any = None,
        args: Any = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_metrics: Any = None,
        callbacks: Any = None,
        optimizers: Any = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
        **others: Any,
    ) -> None:
        given = {"data_collator": data_collator, "compute_metrics": compute_metrics}
        check_arguments({**given, "optimizers": optimizers, "quantization_config": quantization_config}, others)
        self.args = DPOConfig() if args is None else read_arguments(args)
        self._start: Start = find_start(model, processing_class, ref_model, self.args.router_aux_loss_coef)
        if self.args.output_dir is None:
            self.args.output_dir = f"{self._start.label}-DPO" if args is None else "trainer_output"
        self._reporter = _reporter(self.args)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self._rows = PreferenceRows(train_dataset, "train_dataset")
        self._adapters = adapter_keys(peft_config, self._start.model_type)
        self._trained: Trained | None = None
        self._loaded: PreTrainedModel | None = None
        self._prepare(patience_of(callbacks))

    def _prepare(self, patience: int | None) -> None:
        """Find out how the run will go: its pairs, its steps, its configuration."""
        args, count = self.args, devices()
        held_out = self._held_out()
        settings: dict[str, Any] = {"text": self._rows.text, "patience": patience, "more": self._adapters}
        settings["held_out"] = 0 if held_out is None else len(held_out)
        first = configuration(args, course_of(args, len(self._rows), count), **settings)
        ids = training_ids(self._rows, self._start.chat, first, self._reporter)
        self._tokens, self._course = ids.tokens, course_of(args, len(ids.tokens), count)
        self.config = configuration(args, self._course, **settings)
        self.state = TrainerState(
            max_steps=self._course.steps,
            num_train_epochs=-(-self._course.steps // self._course.epoch_steps),
            train_batch_size=args.per_device_train_batch_size,
            log_history=[],
        )
        if missing := describe_missing(ids):
            self._reporter.warn(missing)
        if self._course.has_short_pass:
            self._reporter.warn(
                "the last pass of an epoch is short: its pairs weigh more in TRL's last step, and all alike here"
            )
        if isinstance(self._start.model, PreTrainedModel) and self._start.model.dtype != torch.float32:
            self._reporter.warn(f"the weights are {self._start.model.dtype}, and are trained in fp32 here")

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainOutput:
        """Train, and return steps, mean loss and times as transformers' trainer does.

        Args:
            resume_from_checkpoint: Go on from the newest checkpoint in the output directory: True, that directory,
                or the checkpoint itself.

        Raises:
            UsageError: There is a run already and it is not to be resumed, or there is nothing to resume.
            PenchantError: See `penchant.train`.
        """
        out, began = Path(str(self.args.output_dir)), time.time()
        resume = is_to_resume(resume_from_checkpoint, out)
        printer = Printer(out, self._log())
        follow = Following(self._reporter, printer.on_step) if speaks() else self._reporter
        with together():
            reference = reference_in(self._start, out / "start-reference", resume=resume)
            part = self.config.model.model_copy(update={"reference": reference})
            self.config = self.config.model_copy(update={"model": part})
            self._trained = train(
                self._start.model,
                self._rows,
                out,
                tokenizer=self._start.tokenizer,
                config=self.config,
                held_out=self._held_out(),
                resume=resume,
                reporter=follow,
            )
        printer.validated()
        if isinstance(self._start.model, PreTrainedModel):
            take_over(self._start.model, self._trained.model.state_dict())
        return self._summary(out, time.time() - began)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return loss, rewards and log-probabilities on held-out pairs, of the model as it is now.

        Args:
            eval_dataset: Pairs, or several data sets by name; None = those of the constructor.
            ignore_keys: Not used; there are no other outputs.
            metric_key_prefix: What the names begin with.

        Raises:
            UsageError: There is no data set.
        """
        del ignore_keys
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        if data is None:
            raise UsageError("there is no eval_dataset", where="evaluate", fix="Give one.")
        if isinstance(data, Mapping):
            found = [self.evaluate(one, None, f"{metric_key_prefix}_{name}") for name, one in data.items()]
            return {name: value for one in found for name, value in one.items()}
        began, rows = time.time(), PreferenceRows(data, "eval_dataset")
        figures = evaluation(*self._both(), rows, self.config, self._reporter)
        seconds = time.time() - began
        found = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        found |= {
            f"{metric_key_prefix}_runtime": seconds,
            f"{metric_key_prefix}_samples_per_second": len(rows) / seconds,
            "epoch": self.state.epoch,
        }
        self.state.log_history.append({**found, "step": self.state.global_step})
        if speaks():
            show(found)
        return found

    def save_model(self, output_dir: str | Path | None = None, _internal_call: bool = False) -> None:
        """Write the trained model where it opens with transformers; of adapters, them alone.

        Raises:
            UsageError: Nothing is trained yet.
        """
        if self._trained is None:
            raise UsageError("nothing is trained yet", where="save_model", fix="Call train() before.")
        if speaks():
            copy_model(self._trained.run, Path(str(output_dir or self.args.output_dir)))

    @property
    def model(self) -> PreTrainedModel:
        """The model: the caller's own object where one was given, otherwise read when first asked for."""
        if isinstance(self._start.model, PreTrainedModel):
            return self._start.model
        if self._loaded is None:
            device = choose_device(self.config.engine.device)
            name = self._start.model if self._trained is None else self._trained.run / "model"
            self._loaded = load_model(str(name), device=device).model
        return self._loaded

    @property
    def processing_class(self) -> Any:
        """The tokenizer."""
        return self._start.tokenizer or self._start.chat.tokenizer

    def _held_out(self) -> PreferenceRows | None:
        """The rows to validate on while training, if that is asked for."""
        if every(self.args, course_of(self.args, len(self._rows), 1), "eval") is None:
            return None
        if self.eval_dataset is None or isinstance(self.eval_dataset, Mapping):
            raise UsageError(
                f"eval_strategy = {self.args.eval_strategy!r} needs one eval_dataset",
                where="DPOTrainer",
                fix="Give it, or eval_strategy='no' and evaluate() afterwards.",
            )
        return PreferenceRows(self.eval_dataset, "eval_dataset")

    def _log(self) -> StepLog:
        args, logging = self.args, every(self.args, self._course, "logging")
        return StepLog(
            self._course,
            self.config.objective.beta,
            uses_means(self.config.objective),
            self._tokens,
            logging,
            first=args.logging_first_step,
            last=args.logging_strategy == "epoch",
        )

    def _summary(self, out: Path, seconds: float) -> TrainOutput:
        """Fill the state in, and return what `train` returns."""
        assert self._trained is not None
        log, state, steps = self._log(), self.state, self._trained.steps
        state.log_history, loss = history(out, log)
        state.global_step = steps
        state.epoch = self._course.epochs_after(steps)
        seen = self._course.pairs * self._course.steps / self._course.epoch_steps
        metrics = {
            "train_runtime": seconds,
            "train_samples_per_second": seen / seconds,
            "train_steps_per_second": steps / seconds,
            "train_loss": loss,
            **log.rest(),
            "epoch": state.epoch,
        }
        state.log_history.append({**metrics, "step": steps})
        if speaks():
            show(metrics)
        return TrainOutput(steps, loss, metrics)

    def _both(self) -> tuple[tuple[AnyModel, Any], tuple[AnyModel, Any]]:
        """Policy and reference as they are now, each with its tokenizer where it is in memory."""
        if self._trained is not None:
            part = self._trained.config.model
            return (self._trained.run / "model", None), (part.reference or part.path, None)
        start = (self._start.model, self._start.tokenizer)
        other = self._start.reference
        if other is None:
            return start, start
        return start, (other, None if isinstance(other, str | Path) else self.processing_class)


def _reporter(args: DPOConfig) -> Reporter:
    if not speaks():
        return Reporter()
    return Warnings() if args.disable_tqdm else make_reporter(quiet=False)
