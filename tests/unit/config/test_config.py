"""The configuration: strict YAML in, one checked value out, nothing silently ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from penchant.config import Config, build_config, load_config
from penchant.errors import UsageError
from penchant.strict_yaml import parse_yaml, read_yaml


def parsed(text: str) -> Any:
    return parse_yaml(text, where="here")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-7", 5e-7),
        ("1E3", 1000.0),
        ("-2.5e+1", -25.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("010", 10),
        ("12", 12),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
    ],
)
def test_a_scalar_means_what_it_looks_like(text: str, value: object) -> None:
    """YAML 1.2: exponents make numbers, `no` is a word, and there are no octals, dates or sexagesimals."""
    found = parsed(text)
    assert found == value
    assert type(found) is type(value)


def test_a_key_stands_once() -> None:
    """A repeated key is refused with its line; PyYAML alone would keep the last."""
    with pytest.raises(UsageError, match=r"line 3: the key 'epochs' stands twice"):
        parsed("train:\n  epochs: 1\n  epochs: 2\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x 1\nb: *x\n", "aliases"),
        ("[" * 40 + "]" * 40, "nested deeper"),
        ("a: " + "x" * 1_000_001, "bytes of YAML"),
        ("1: 2", "not a word"),
        ("a: [1", "not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "not YAML"),
        ("9" * 5000, "not YAML"),
    ],
)
def test_what_is_too_large_deep_or_clever_is_refused(text: str, reason: str) -> None:
    """Every limit of the reader ends in an error that a user can read."""
    with pytest.raises(UsageError, match=reason):
        parsed(text)


def test_twenty_levels_are_the_limit() -> None:
    """Depth 20 passes, depth 21 does not; siblings do not add up."""
    assert parsed("[" * 20 + "]" * 20)
    assert parsed("[" + "[1], " * 30 + "]") == [[1]] * 30
    with pytest.raises(UsageError):
        parsed("[" * 21 + "]" * 21)


def test_an_unknown_key_is_an_error_with_the_nearest_name() -> None:
    """In a section and at the top."""
    with pytest.raises(UsageError, match=r'train\.learning_rat is not a setting.*"learning_rate"'):
        build_config({"train": {"learning_rat": 1e-6}})
    with pytest.raises(UsageError, match=r'trian is not a setting.*"train"'):
        build_config({"trian": {}})


def test_every_error_is_told_at_once() -> None:
    """Two mistakes, two sentences."""
    with pytest.raises(UsageError) as caught:
        build_config({"train": {"epochs": -1, "seed": "x"}}, where="my.yaml")
    assert "train.epochs = -1" in str(caught.value)
    assert "train.seed = 'x'" in str(caught.value)
    assert caught.value.where == "my.yaml"


def test_an_override_reaches_a_value_and_wins(tmp_path: Path) -> None:
    """`section.key=value` is read as YAML and replaces what the file says; other values stay."""
    file = tmp_path / "a.yaml"
    file.write_text("train: {learning_rate: 1e-5, epochs: 2}\n", encoding="utf-8")
    config = load_config(file, ["train.learning_rate=5e-7", "model.last_layers=null", "objective.beta=0.2"])
    assert config.train.learning_rate == 5e-7
    assert config.train.epochs == 2
    assert config.objective.beta == 0.2
    assert config.model.last_layers is None


@pytest.mark.parametrize("override", ["beta=1", "objective.beta", "a.b.c=1", ".beta=1", "objective.=1", "=1"])
def test_a_misshapen_override_is_refused(override: str) -> None:
    """It has one section, one key and a value."""
    with pytest.raises(UsageError, match=r"section\.key=value"):
        build_config({}, [override])


def test_an_override_of_an_unknown_key_is_refused() -> None:
    """No second way in for unknown names."""
    with pytest.raises(UsageError, match=r'objective\.betta is not a setting.*"beta"'):
        build_config({}, ["objective.betta=1"])


@pytest.mark.parametrize("option", [{"beta": 0.1}, {"label_smoothing": 0.1}])
def test_an_option_that_the_objective_ignores_is_an_error(option: dict[str, float]) -> None:
    """Even at its default value: whoever writes it expects an effect."""
    with pytest.raises(UsageError, match=f'objective.{next(iter(option))} is not used by objective.loss "sft"'):
        build_config({"objective": {"loss": "sft", **option}})


def test_the_likelihood_counts_tokens_unless_it_is_told_otherwise() -> None:
    """`tokens` is its default and its alone."""
    assert build_config({"objective": {"loss": "sft"}}).objective.logps == "tokens"
    assert build_config({"objective": {"loss": "sft", "logps": "sum"}}).objective.logps == "sum"
    assert build_config({}, ["objective.loss=sft"]).objective.logps == "tokens"
    assert build_config({}).objective.logps == "sum"
    with pytest.raises(UsageError, match=r'logps "tokens" is not used by objective\.loss "dpo", only by "sft"'):
        build_config({"objective": {"logps": "tokens"}})


def test_random_labels_need_a_loss_of_pairs() -> None:
    with pytest.raises(UsageError, match=r'data\.random_labels is not used by objective\.loss "sft"'):
        build_config({"objective": {"loss": "sft"}, "data": {"random_labels": True}})


def test_the_resolved_configuration_reads_back() -> None:
    """What a run directory records gives the same configuration, for both objectives."""
    for loss in ("dpo", "sft"):
        config = build_config({"objective": {"loss": loss}, "train": {"epochs": 3}})
        assert build_config(config.resolved()) == config
        assert ("beta" in config.resolved()["objective"]) is (loss == "dpo")


@pytest.mark.parametrize(
    "values",
    [
        {"objective": {"beta": 0}},
        {"objective": {"label_smoothing": 0.5}},
        {"objective": {"beta": float("nan")}},
        {"objective": {"beta": float("inf")}},
        {"train": {"learning_rate": float("inf")}},
        {"train": {"batch_pairs": 0}},
        {"train": {"batch_pairs": 1.5}},
        {"data": {"max_tokens": 7}},
        {"model": {"last_layers": -1}},
        {"engine": {"precision": "fp16"}},
        {"train": None},
        [],
        "train",
    ],
)
def test_a_value_out_of_range_is_refused(values: Any) -> None:
    """Ranges hold, and infinity is no number to train with."""
    with pytest.raises(UsageError):
        build_config(values)


def test_an_empty_file_is_the_default() -> None:
    """Nothing given, nothing changed; the result cannot be changed afterwards either."""
    config = build_config(parsed(""))
    assert config == Config()
    with pytest.raises(ValueError, match="frozen"):
        config.train.seed = 5  # type: ignore[misc]


def test_a_missing_file_names_its_nearest_neighbour(tmp_path: Path) -> None:
    """The hint comes from the same folder."""
    (tmp_path / "laptop.yaml").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r'no such file.*"laptop.yaml"'):
        read_yaml(tmp_path / "labtop.yaml")
    with pytest.raises(UsageError):
        read_yaml(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError):
        read_yaml(tmp_path / "binary.yaml")


def sections() -> list[type[BaseModel]]:
    found = []
    for field in Config.model_fields.values():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        found.append(field.annotation)
    return found


def test_every_setting_says_what_it_is() -> None:
    """One sentence each, and fewer than eighty of them."""
    fields = [(name, field) for section in sections() for name, field in section.model_fields.items()]
    assert 0 < len(fields) < 80
    for name, field in fields:
        assert field.description, name
        assert field.description.endswith("."), name


def test_an_override_leaves_the_callers_mapping_alone() -> None:
    values = {"train": {"seed": 1}}
    assert build_config(values, ["train.seed=2", "objective.beta=0.5"]).train.seed == 2
    assert values == {"train": {"seed": 1}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"monitor": {"prompts": 16}}, r"monitor\.prompts is not used without monitor\.generate_every"),
        ({"monitor": {"max_new_tokens": 16}}, "max_new_tokens is not used"),
        (
            {"monitor": {"displacement_stop": 0.8}, "objective": {"loss": "simpo"}},
            r'displacement_stop is not used by objective\.loss "simpo".*those that have: dpo, ',
        ),
        ({"monitor": {"displacement_stop": 0.4}}, "greater than or equal to 0.5"),
    ],
)
def test_a_monitor_that_would_do_nothing_is_refused(values: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_config(values)


def test_what_is_not_monitored_is_not_resolved() -> None:
    assert build_config({}).resolved()["monitor"] == {"displacement_stop": None, "generate_every": None}
    watched = build_config({"monitor": {"generate_every": 5, "prompts": 16}}).resolved()["monitor"]
    assert watched == {"displacement_stop": None, "generate_every": 5, "prompts": 16, "max_new_tokens": 48}
