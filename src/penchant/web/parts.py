"""The sections of the local pages, in the order of the navigation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from penchant.tokens.chat import ChatFormat
from penchant.types import Sampling
from penchant.web.arena import arena_part
from penchant.web.data_pages import data_part
from penchant.web.playground import playground_part
from penchant.web.playground_talk import Models
from penchant.web.run_steps import RunWork
from penchant.web.runs import runs_part
from penchant.web.site import Part

# what `penchant chat` begins with; a form of the playground may say otherwise
_SAMPLING, _LONGEST_ANSWER = Sampling(temperature=0.7, top_p=0.9), 512


def make_parts(
    runs: Path,
    work: RunWork,
    models: Models,
    *,
    data: Sequence[Path] = (),
    model: str | None = None,
    pairs: Path | None = None,
    load_chat: Callable[[str], ChatFormat] | None = None,
) -> list[Part]:
    """Return all sections; a further one is a line here. The first is the start page.

    Args:
        runs: A folder of runs, or a run.
        work: What the layers above do for the section on runs.
        models: Who can be asked in the playground.
        data: Files and folders of rows beside the data of the runs.
        model: Whose tokens are shown of data that belongs to no run; None takes the bundled model's.
        pairs: Where preferences of the playground are kept; None = nowhere.
        load_chat: Makes a chat format of a model's name; None shows no tokens.

    Raises:
        UsageError: A path of the data is not there.
    """
    return [
        runs_part(runs, work),
        data_part(data, runs=runs, model=model, load_chat=load_chat),
        playground_part(models, sampling=_SAMPLING, max_new_tokens=_LONGEST_ANSWER, pairs=pairs, where=str(runs)),
        arena_part(runs),
    ]
