"""Every field of TRL's has one fate, and the signature of DPOConfig holds those that are accepted."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import HfArgumentParser, IntervalStrategy

from penchant.errors import UsageError
from penchant.integrations import trl as ours
from penchant.integrations.trl.arguments import configuration, course_of, read_arguments
from penchant.integrations.trl.fields import ARGUMENTS, FIELDS
from penchant.recipes.trl.keys import TRAINING_KEYS

DPOConfig: Any = ours.DPOConfig  # which is to be given what its types forbid
ACCEPTED = [name for name, field in FIELDS.items() if field.fate != "default only"]
REFUSED = [name for name, field in FIELDS.items() if field.fate == "default only"]


def config_of(**options: Any) -> Any:
    args = DPOConfig("out", **options)
    return configuration(args, course_of(args, 17, 1), text=False, held_out=3)


def test_every_field_of_trls_stands_in_the_table_with_its_default_and_a_reason() -> None:
    assert list(FIELDS) == list(TRAINING_KEYS)
    assert all(field.default == TRAINING_KEYS[name].default and field.why for name, field in FIELDS.items())
    converted = {name for name, key in TRAINING_KEYS.items() if key.fate == "converted"}
    assert converted <= {name for name, field in FIELDS.items() if field.fate == "taken"}


def test_the_signature_holds_the_accepted_fields_with_trls_defaults() -> None:
    signature = inspect.signature(DPOConfig)
    assert set(signature.parameters) == set(ACCEPTED)
    made = DPOConfig("out")
    assert {name: getattr(made, name) for name in FIELDS if name != "output_dir"} == {
        name: field.default for name, field in FIELDS.items() if name != "output_dir"
    }
    assert made.said() == {"output_dir": "out"}
    assert repr(DPOConfig("out", beta=0.2)) == "DPOConfig(output_dir='out', beta=0.2)"


@pytest.mark.parametrize("name", REFUSED)
def test_a_field_that_is_refused_may_stand_at_its_default_and_says_why_elsewhere(name: str) -> None:
    default = FIELDS[name].default
    assert getattr(DPOConfig("out", **{name: default}), name) == default
    other: Any = not default if isinstance(default, bool) else "another"
    with pytest.raises(UsageError, match="is not taken") as refused:
        DPOConfig("out", **{name: other})
    assert FIELDS[name].why in refused.value.what
    assert repr(default) in str(refused.value.fix)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("learnin_rate", 'Did you mean "learning_rate"'),
        ("evaluation_strategy", "is called eval_strategy"),
        ("max_prompt_length", "no longer a field"),
    ],
)
def test_an_unknown_name_is_told_its_nearest_also_when_it_is_set_later(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        DPOConfig("out", **{name: 1})
    with pytest.raises(UsageError, match=words):
        setattr(DPOConfig("out"), name, 1)


def test_nothing_in_other_words_and_enumerations_are_understood() -> None:
    made = DPOConfig("out", report_to=[], loss_type="hinge", eval_strategy=IntervalStrategy.STEPS)
    assert (made.loss_type, made.eval_strategy) == (["hinge"], "steps")
    parsed = HfArgumentParser(DPOConfig).parse_args_into_dataclasses(
        ["--output_dir", "out", "--beta", "0.3", "--loss_type", "ipo", "--bf16", "false"]
    )[0]
    assert (parsed.beta, parsed.loss_type, parsed.bf16) == (0.3, ["ipo"], False)


def test_trls_defaults_are_what_is_trained() -> None:
    found = config_of()
    assert (found.data.format, found.data.truncation, found.data.max_tokens) == ("trl_chat", "keep_start", 1024)
    train = found.train
    assert (train.order, train.seed, train.batch_pairs, train.epochs) == ("trl", 42, 8, 3.0)
    assert (train.schedule, train.warmup_steps, train.final_fraction, train.adam_beta2) == (
        "linear",
        0,
        0.0,
        0.999,
    )
    assert (train.learning_rate, train.clip_norm, train.checkpoint_every, train.evaluate_every) == (
        1e-6,
        1,
        500,
        None,
    )
    assert (found.engine.precision, found.engine.activation_checkpointing) == ("auto", "auto")


def test_strategies_become_steps_of_this_run() -> None:
    """Seventeen pairs in steps of four: five steps an epoch, fifteen in all."""
    options: dict[str, Any] = {"per_device_train_batch_size": 4, "eval_strategy": "epoch"}
    found = config_of(**options, save_strategy="steps", save_steps=0.2, data_seed=9)
    assert (found.train.evaluate_every, found.train.checkpoint_every, found.train.seed) == (5, 3, 9)
    assert found.train.evaluate_pairs == 3
    assert config_of(save_strategy="no").train.checkpoint_every is None
    best = config_of(**options, load_best_model_at_end=True, metric_for_best_model="eval_rewards/margins")
    assert best.train.keep_best == "rewards/margins"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss_type": ["bco_pair"]}, "leaves out the paper's shift"),
        ({"loss_type": ["sigmoid", "sft"]}, "likelihood"),
        ({"loss_type": "sft"}, "penchant sft"),
        ({"loss_type": "sigmiod"}, "sigmoid"),
        ({"label_smoothing": 0.1}, "ignores it"),
        ({"use_weighting": True}, "limits a pair's weight"),
        ({"truncation_mode": "keep_end"}, "keep_end"),
        ({"max_length": None}, "always a limit"),
        ({"adam_epsilon": 1e-6}, "1e-8"),
        ({"fp16": True}, "fp16 is not built"),
        ({"lr_scheduler_type": "polynomial"}, "polynomial is not built"),
        ({"optim": "adafactor"}, "adafactor is not built"),
        ({"save_strategy": "best"}, "save_strategy"),
        ({"save_total_limit": 5}, "two newest"),
        ({"eval_strategy": "steps", "load_best_model_at_end": True, "greater_is_better": True}, "other way round"),
        ({"sync_ref_model": True, "eval_strategy": "epoch"}, "as it moved"),
        ({"router_aux_loss_coef": 0.1}, "mixtures of experts"),
        ({"model_init_kwargs": {"dtype": "bfloat16"}}, "fp32"),
        ({"model_init_kwargs": {"device_map": "auto"}}, "device_map"),
        ({"logging_steps": 0, "eval_strategy": "steps"}, "above zero"),
    ],
)
def test_what_would_not_be_trls_is_refused_with_the_reason(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        config_of(**options)


@pytest.mark.parametrize(("pairs", "short"), [(16, False), (20, False), (18, False), (21, True), (24, False)])
def test_a_short_pass_beside_full_ones_is_known(pairs: int, short: bool) -> None:
    """Steps of eight in passes of four: of 21 pairs the last five are a pass of four and one of one."""
    args = DPOConfig("out", per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert course_of(args, pairs, 1).has_short_pass is short


def test_what_has_no_effect_here_may_be_said() -> None:
    kwargs = {"dtype": "float32", "attn_implementation": "sdpa", "revision": None, "trust_remote_code": False}
    assert config_of(model_init_kwargs=kwargs, router_aux_loss_coef=0.0, save_total_limit=1) == config_of()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "per_device_train_batch_size": st.integers(1, 9),
            "gradient_accumulation_steps": st.integers(1, 4),
            "num_train_epochs": st.floats(0.5, 4),
            "max_steps": st.integers(-1, 20),
            "logging_steps": st.one_of(st.integers(1, 9), st.floats(0.05, 0.95)),
        },
    ),
    st.integers(1, 40),
)
def test_a_course_is_planned_as_transformers_does(options: dict[str, Any], pairs: int) -> None:
    """An epoch's passes cover the pairs once, and the run ends where its last step says."""
    args = DPOConfig("out", **options)
    course = course_of(args, pairs, 1)
    assert (course.epoch_steps - 1) * course.batch < pairs <= course.epoch_steps * course.batch
    assert course.epochs_after(course.epoch_steps) == 1
    assert 0 < course.epochs_after(1) <= 1
    if args.max_steps <= 0:
        assert course.epochs_after(course.steps) >= args.num_train_epochs - 1e-9 or course.epoch_steps == 1


@pytest.mark.filterwarnings("ignore")  # of TRL and its dependencies
def test_trls_own_object_is_read_field_by_field() -> None:
    trl = pytest.importorskip("trl")
    assert {field.name for field in dataclasses.fields(trl.DPOConfig) if field.init} == set(FIELDS)
    theirs = trl.DPOConfig(
        "out", bf16=False, use_cpu=True, eval_strategy="steps", warmup_steps=3, report_to="none"
    )
    said = read_arguments(theirs).said()
    assert said == {
        "output_dir": "out",
        "bf16": False,
        "use_cpu": True,
        "eval_strategy": "steps",
        "eval_steps": 10,
        "do_eval": True,
        "warmup_steps": 3,
    }
    with pytest.raises(UsageError, match="seedable"):
        read_arguments(trl.DPOConfig("out", use_cpu=True, accelerator_config={"split_batches": True}))


def test_other_objects_are_no_arguments() -> None:
    with pytest.raises(UsageError, match="args is a dict"):
        read_arguments({"output_dir": "out"})


def test_the_package_is_light_until_a_trainer_is_asked_for() -> None:
    program = (
        "import sys; from penchant.integrations.trl import DPOConfig; DPOConfig('out'); "
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def documented() -> str:
    """The tables of docs/from-trl.md."""
    lines = ["| argument | | |", "|---|---|---|"]
    lines += [f"| `{name}` | {field.fate} | {field.why} |" for name, field in ARGUMENTS.items()]
    lines += ["", "| field | TRL's default | | |", "|---|---|---|---|"]
    for fate in ("taken", "already", "default only"):
        for name, field in FIELDS.items():
            if field.fate == fate:
                lines.append(f"| `{name}` | `{field.default!r}` | {fate} | {field.why} |")
    return "\n".join(lines)


def test_the_documented_tables_are_these() -> None:
    """To write them again: python -m tests.unit.integrations.trl.test_fields"""
    page = Path(__file__).parents[4] / "docs" / "from-trl.md"
    assert documented() in page.read_text(encoding="utf-8")


if __name__ == "__main__":
    print(documented())
