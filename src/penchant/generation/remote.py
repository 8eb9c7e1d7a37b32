"""Answers of a model behind an endpoint: vLLM, or any server with OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penchant.endpoint.chat import ChatRequest, ChatResult
from penchant.endpoint.client import Endpoint
from penchant.errors import UsageError
from penchant.generation.conversations import Asked, check_ids, converse, place_of
from penchant.generation.sampling import GREEDY, row_key
from penchant.types import Answer, Prompt, Sampling

_SEEDS = 2**31  # servers take no larger ones


def remote_answers(
    endpoint: Endpoint,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    samples: int = 1,
    sampling: Sampling = GREEDY,
    stop: Sequence[str] = (),
    on_answers: Callable[[int], None] | None = None,
    on_problem: Callable[[str], None] = lambda _: None,
    check_stop: Callable[[], None] = lambda: None,
) -> list[list[Answer]]:
    """Return each prompt's answers in the order of `answer_prompts`; the server's own chat format is used.

    Every answer is asked for with a seed of its own, made from the sampling's seed, the prompt's id and the number
    of the sample; whether the same seed gives the same answer again is up to the server.

    Args:
        endpoint: Who answers.
        prompts: The prompts; no id stands twice.
        max_new_tokens: Longest answer.
        samples: Answers a prompt.
        sampling: Greedy by default. The protocol knows neither top-k nor min-p.
        stop: Strings that end an answer.
        on_answers: Told how many answers were finished.
        on_problem: Told of each prompt that the server refuses; its answer is empty and not finished.
        check_stop: Called several times a second.

    Raises:
        UsageError: The sampling has a top-k or a min-p.
        DataError: An id stands twice.
        EndpointError: The server cannot be used, or the budget is spent.
    """
    for name in ("top_k", "min_p"):
        if getattr(sampling, name):
            raise UsageError(f"the protocol of endpoints has no {name}", fix="Leave it out, or use top_p.")
    check_ids(prompts)

    def ask(asked: Sequence[Asked], count: int) -> list[list[Answer]]:
        requests = [
            ChatRequest(
                one.turns,
                max_tokens=max_new_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p if sampling.top_p < 1 else None,
                seed=row_key(f"{sampling.seed} {one.name}", sample) % _SEEDS,
                stop=tuple(stop),
            )
            for one in asked
            for sample in range(count)
        ]
        results = endpoint.answers(requests, on_done=on_answers, check_stop=check_stop)
        rows = [results[start : start + count] for start in range(0, len(results), count)]
        return [[told(one, result) for result in row] for one, row in zip(asked, rows, strict=True)]

    def told(one: Asked, result: ChatResult) -> Answer:
        if result.problem:
            where = place_of(one.prompt)
            on_problem(f'the server refuses "{one.prompt.id}"{f" ({where})" if where else ""}: {result.problem}')
            return Answer("", finished=False)
        return Answer(result.text.strip(), result.finished, result.completion_tokens)

    return converse(prompts, samples, ask)
