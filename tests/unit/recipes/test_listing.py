"""What recipes say of themselves: a fixed form, and launch lines that are real commands."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from penchant.cli.main import app
from penchant.errors import UsageError
from penchant.recipes import load_recipe, read_recipe, recipe_names, recipe_text
from penchant.recipes.listing import listed, listing, parse_header
from penchant.recipes.stages import load_stages

HEADER = """# One sentence
# over two lines.
# launch: penchant train mine --data PAIRS.jsonl --out runs/mine
# memory: 2 GB
# checked: a whole run
# note: something else,
#   gone on with
model: {path: bundled}
# launch: a comment further down is no header
"""


def test_a_header_is_a_sentence_and_fields_and_ends_with_the_comment() -> None:
    header = parse_header(HEADER, where="mine")
    assert header.sentence == "One sentence over two lines."
    assert header.launch == ("penchant train mine --data PAIRS.jsonl --out runs/mine",)
    assert (header.memory, header.checked) == ("2 GB", "a whole run")
    assert header.notes == ("something else, gone on with",)


@pytest.mark.parametrize(
    ("line", "other", "message"),
    [
        ("# One sentence\n# over two lines.\n", "", "0 lines of sentence"),
        ("# memory: 2 GB\n", "", "0 lines of memory"),
        ("# memory: 2 GB\n", "# memory: 2 GB\n# memory: 3 GB\n", "2 lines of memory"),
        ("# checked: a whole run\n", "", "0 lines of checked"),
        (HEADER.splitlines()[2] + "\n", "", "no launch line"),
        ("# memory: 2 GB\n", "# memory: 2 GB\n# memroy: 3 GB\n", '"# memroy: 3 GB" is no line of a header'),
    ],
)
def test_a_header_in_another_form_is_refused(line: str, other: str, message: str) -> None:
    assert line in HEADER
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_header(HEADER.replace(line, other), where="mine")


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_says_what_it_is_and_needs_and_was_checked_on(name: str) -> None:
    header = listed(name).header
    assert header.sentence.endswith(".")
    assert re.match(r"\d+(\.\d)? GB \(\d+(\.\d)? to \d+(\.\d)?\), ", header.memory), header.memory
    assert len(header.checked) > 10
    text = recipe_text(name)
    assert text.split("\nmodel:")[0].count("\n# ") >= 3  # nothing stands between the header and the sections


@pytest.mark.parametrize("name", recipe_names())
def test_launch_lines_are_commands_that_exist(name: str) -> None:
    """Every option parses, the settings are valid, and what is trained on was prepared before."""
    verbs = getattr(typer.main.get_command(app), "commands", {})
    prepared: set[str] = set()
    for line in listed(name).header.launch:
        program, verb, *words = shlex.split(line)
        assert program == "penchant"
        context = verbs[verb].make_context(verb, words)
        if verb == "prepare":
            prepared.add(str(context.params["out"]))
        if verb in ("train", "sft", "align"):
            assert context.params["recipe"] == name
            load = load_stages if verb == "align" else load_recipe
            assert load(name, context.params["sets"] or [])
            data = str(context.params["data"])
            assert data in prepared or data.split(".", maxsplit=1)[0].isupper()
    assert prepared <= {str(word) for line in listed(name).header.launch[1:] for word in shlex.split(line)}


def test_a_launch_line_with_an_unknown_option_would_be_noticed() -> None:
    verbs = getattr(typer.main.get_command(app), "commands", {})
    with pytest.raises(Exception, match="--dta"):
        verbs["train"].make_context("train", shlex.split("demo --dta x --out y"))


def test_the_listing_reads_model_trained_part_and_loss_from_the_recipe() -> None:
    found = {recipe.name: recipe for recipe in listing()}
    assert list(found) == recipe_names()
    assert (found["demo"].model, found["demo"].trained, found["demo"].loss) == (
        "bundled",
        "the last 5 layers and the head",
        "dpo, beta 0.1",
    )
    assert found["smollm2-strong-hh"].loss == "dpo, beta 0.8, mean log-probs"
    assert found["smollm2-sft-dpo"].loss == "sft, then dpo, beta 0.1"
    assert found["smollm2-sft"].trained == "all weights"
    assert found["zephyr-lora"].trained == "adapters of rank 128"


def test_the_text_of_a_recipe_is_its_file() -> None:
    assert "\nmodel:\n" in recipe_text("demo")
    assert read_recipe("demo")[0]["train"]["learning_rate"] == 8e-5
    with pytest.raises(UsageError, match=r'no recipe "dmeo".*Did you mean "demo"'):
        recipe_text("dmeo")


def test_recipes_that_follow_others_have_their_values() -> None:
    strong = load_recipe("smollm2-strong-hh")
    assert (strong.objective.beta, strong.objective.logps, strong.model.last_layers) == (0.8, "mean", 5)
    assert (strong.train.learning_rate, strong.train.weight_decay, strong.train.batch_pairs) == (1e-4, 1e-2, 8)
    qwen = load_recipe("qwen3-ultrafeedback")
    assert (qwen.train.batch_pairs, qwen.train.max_steps, qwen.train.warmup_steps) == (2 * 8 * 8, 1000, 50)
    assert (qwen.train.learning_rate, qwen.objective.beta) == (5e-7, 0.1)
    assert qwen.engine.activation_checkpointing is True
    zephyr = load_recipe("zephyr-lora")
    assert (zephyr.model.lora_rank, zephyr.model.lora_alpha, zephyr.objective.beta) == (128, 128, 0.01)
    assert (zephyr.train.learning_rate, zephyr.train.schedule, zephyr.train.batch_pairs) == (5e-6, "cosine", 16)
    paper = [stage.config.train for stage in load_stages("paper-hh")]
    for train in paper:
        assert (train.optimizer, train.learning_rate, train.warmup_steps) == ("rmsprop", 5e-7, 150)
        assert (train.batch_pairs, train.clip_norm, train.schedule) == (64, 10, "constant")
