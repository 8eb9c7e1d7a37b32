"""Prompts to answers, as text: the chat format, several samples, and later questions of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penchant.config import Format
from penchant.errors import DataError, ModelError
from penchant.generation.conversations import Asked, check_ids, converse, place_of
from penchant.generation.generate import Generated, context_tokens, generate
from penchant.generation.sampling import GREEDY
from penchant.generation.stop_strings import cut_at
from penchant.models.load import LoadedModel
from penchant.tokens.chat import ChatFormat
from penchant.types import Answer, Prompt, Sampling, Turn


def answer_prompts(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    samples: int = 1,
    sampling: Sampling = GREEDY,
    stop: Sequence[str] = (),
    batch_rows: int = 128,
    format: Format | None = None,
    on_answers: Callable[[int], None] | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> list[list[Answer]]:
    """Return each prompt's answers, sample after sample; several processes share the work.

    Of a prompt with `later` turns of the user a sample is the whole conversation: its first answer, the answer to
    the first later turn, and so on; the prompt has samples x (1 + later turns) answers. The draws are keyed by the
    prompt's id, so a prompt is answered alike in any list that holds it. The text has no white space at its ends.

    Args:
        loaded: Model and tokenizer.
        prompts: The prompts; no id stands twice.
        max_new_tokens: Longest answer, its end token included.
        samples: Answers a prompt.
        sampling: Greedy by default.
        stop: Strings that end an answer, wherever its tokens part; the text ends before them.
        batch_rows: Answers made at a time.
        format: Of conversations, where it is not the model's own; a run's is its `data.format`.
        on_answers: Told how many answers were finished, batch by batch; see `count_answers`.
        check_stop: Called before every token; what it raises ends the generation.

    Raises:
        DataError: An id stands twice, or a prompt is empty or longer than the model's context.
        ModelError: A conversation has no form in this format, or holds a control token as text.
        UsageError: A stop string is empty.
    """
    chat = loaded.chat if format is None else loaded.chat.in_format(format)
    check_prompts(loaded, chat, prompts)

    def ask(asked: Sequence[Asked], count: int) -> list[list[Answer]]:
        made = generate(
            loaded,
            [_ids(chat, one.prompt, one.turns) for one in asked],
            max_new_tokens=max_new_tokens,
            samples=count,
            sampling=sampling,
            batch_rows=batch_rows,
            names=[one.name for one in asked],
            stop=stop,
            on_rows=on_answers,
            check_stop=check_stop,
        )
        return [[as_answer(chat, one) for one in row] for row in made]

    return converse(prompts, samples, ask, quoted=lambda text: without_control_tokens(chat, text))


def count_answers(prompts: Sequence[Prompt], samples: int = 1) -> int:
    """Return how many answers `answer_prompts` will give."""
    return samples * sum(1 + len(prompt.later) for prompt in prompts)


def as_answer(chat: ChatFormat, made: Generated) -> Answer:
    """Return generated tokens as text, up to the stop string that ended them and without white space around."""
    return Answer(cut_at(chat.decode(made.ids), made.stop).strip(), made.finished, len(made.ids))


def without_control_tokens(chat: ChatFormat, text: str) -> str:
    """Return what a model said without literal control tokens, which would forge a turn where it is quoted."""
    while token := chat.special_token_in(text):
        text = text.replace(token, "")
    return text


def check_prompts(loaded: LoadedModel, chat: ChatFormat, prompts: Sequence[Prompt]) -> None:
    """Check that all prompts can be asked, later turns included, before hours are spent on the first of them.

    Raises:
        DataError: An id stands twice, or a prompt is empty or longer than the model's context.
        ModelError: A conversation has no form in this format, or holds a control token as text.
    """
    check_ids(prompts)
    context = context_tokens(loaded)
    for prompt in prompts:
        if prompt.later:
            _ids(chat, prompt, _whole(prompt))
        tokens = len(_ids(chat, prompt, prompt.turns))
        if tokens == 0:
            raise DataError(f'the prompt "{prompt.id}" is empty', where=place_of(prompt), fix="Leave it out.")
        if tokens >= context:
            raise DataError(
                f'the prompt "{prompt.id}" has {tokens} tokens, and the model reads {context} at most',
                where=place_of(prompt),
                fix="Shorten it, or leave it out.",
            )


def _whole(prompt: Prompt) -> tuple[Turn, ...]:
    """The conversation with all that the user will say, and something in the place of each answer."""
    later = [turn for text in prompt.later for turn in (Turn("assistant", "penchant"), Turn("user", text))]
    return (*prompt.turns, *later)


def _ids(chat: ChatFormat, prompt: Prompt, turns: Sequence[Turn]) -> tuple[int, ...]:
    try:
        return chat.prompt_ids(turns)
    except ModelError as error:
        raise ModelError(
            f'the prompt "{prompt.id}" cannot be asked: {error.what}', where=place_of(prompt), fix=error.fix
        ) from error
