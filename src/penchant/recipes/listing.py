"""What the packaged recipes say of themselves: the comment at their beginning, in a fixed form.

    # One sentence, over as many lines as it takes.
    # launch: a command; as many lines of this kind as there are commands
    # memory: what a run needs
    # checked: what the recipe was run on
    # note: anything else
    #   a line that is indented goes on with the one before

Model, trained part and loss are read from the recipe itself, so that nothing is said twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from penchant.config import OBJECTIVE_OPTIONS, Config, ModelConfig, ObjectiveConfig
from penchant.errors import UsageError
from penchant.recipes import load_recipe, read_recipe, recipe_names, recipe_text
from penchant.recipes.stages import load_stages

_FIELD = re.compile(r"# (launch|memory|checked|note): (\S.*)")


@dataclass(frozen=True)
class Header:
    """The comment at the beginning of a recipe.

    Attributes:
        sentence: What the recipe is.
        launch: Commands that run it, in their order.
        memory: What a run needs, and how that is known.
        checked: What it was run on.
        notes: Anything else.
    """

    sentence: str
    launch: tuple[str, ...]
    memory: str
    checked: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Listed:
    """A packaged recipe as `penchant recipes` lists it.

    Attributes:
        name: How it is called.
        header: What it says of itself.
        model: Where it starts.
        trained: What is trained.
        loss: What is minimised; of several stages, one after the other.
    """

    name: str
    header: Header
    model: str
    trained: str
    loss: str


def listing() -> list[Listed]:
    """Return all packaged recipes, by name."""
    return [listed(name) for name in recipe_names()]


def listed(name: str) -> Listed:
    """Return what is known of a packaged recipe.

    Raises:
        UsageError: There is no such recipe, or its header is not in the fixed form.
    """
    header = parse_header(recipe_text(name), where=f"recipe {name}")
    configs = _configs(name)
    losses = [_loss(config.objective) for config in configs]
    return Listed(name, header, configs[0].model.path, _trained(configs[0].model), ", then ".join(losses))


def parse_header(text: str, *, where: str) -> Header:
    """Return what the comment at the beginning of a recipe says.

    Raises:
        UsageError: It does not begin with a sentence, or there is not one line each of memory and checked and at
            least one of launch.
    """
    fields: dict[str, list[str]] = {"sentence": [], "launch": [], "memory": [], "checked": [], "note": []}
    last = fields["sentence"]
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if found := _FIELD.fullmatch(line):
            last = fields[found[1]]
            last.append(found[2].strip())
        elif line.startswith("#   ") or last is fields["sentence"]:
            last[-1:] = [" ".join([*last[-1:], line.removeprefix("#").strip()])]
        else:
            raise UsageError(f'"{line}" is no line of a header: {_FIELD.pattern}', where=where)
    for name, needed in (("sentence", 1), ("memory", 1), ("checked", 1)):
        if len(fields[name]) != needed:
            raise UsageError(f"the header has {len(fields[name])} lines of {name}, not {needed}", where=where)
    if not fields["launch"]:
        raise UsageError("the header has no launch line", where=where)
    return Header(
        fields["sentence"][0],
        tuple(fields["launch"]),
        fields["memory"][0],
        fields["checked"][0],
        tuple(fields["note"]),
    )


def _configs(name: str) -> list[Config]:
    values, _ = read_recipe(name)
    if "stages" in values:
        return [stage.config for stage in load_stages(name)]
    return [load_recipe(name)]


def _trained(model: ModelConfig) -> str:
    where = "" if model.last_layers is None else f"the last {model.last_layers} layers"
    if model.lora_rank is not None:
        return f"adapters of rank {model.lora_rank}" + (f" in {where}" if where else "")
    if model.train is not None:
        return ", ".join(model.train)
    return f"{where} and the head" if where else "all weights"


def _loss(objective: ObjectiveConfig) -> str:
    names = " + ".join(objective.losses)
    beta = any("beta" in OBJECTIVE_OPTIONS[name] for name in objective.losses)
    mean = any(OBJECTIVE_OPTIONS[name].get("logps") not in (None, objective.logps) for name in objective.losses)
    return (
        names + (f", beta {objective.beta:g}" if beta else "") + (f", {objective.logps} log-probs" if mean else "")
    )
