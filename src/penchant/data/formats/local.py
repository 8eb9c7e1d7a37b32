"""The generic format: every layout of preference pairs that Penchant knows, told apart by their columns.

    prompt, chosen, rejected       each a text, or a list of messages. A prompt in text is one user turn, or, if it
                                   is a transcript that ends with "Assistant:", its turns. A side in messages
                                   follows the prompt, or is the whole conversation, which then begins with it.
                                   `chosen_lead` and `rejected_lead`: turns between the prompt and a side in text.
    chosen, rejected               both whole conversations, as messages or as HH transcripts
    chosen_messages, rejected_messages      the same as messages (LLaMA-Factory)
    conversations, chosen, rejected         the prompt in messages (ShareGPT ranking)
    system, question, chosen, rejected; input, preferred_output, non_preferred_output     see `orca_dpo`
    messages, or instruction, or input, with chosen and rejected            see `instructions`
    text, score                    two transcripts and their scores
    prompt, response_0, response_1, better_response_id
    question, response_j, response_k        the first is the better

Optional columns: `id`, `source`, `cluster` (pairs that ask the same question), `weight`, `margin`, `score_chosen`,
`score_rejected` (also in an object `metadata`), and `chosen_complete` and `rejected_complete` (false: the response
was cut off, so it gets no end token).

Text is kept as it is, save where a format puts whitespace around its turns.
"""

from __future__ import annotations

from dataclasses import replace

from penchant.data.columns import MissingColumnError, RowError, as_number, items, number, text
from penchant.data.formats import full_hh_rlhf, instructions, orca_dpo
from penchant.data.formats.hh_rlhf import from_transcripts
from penchant.data.formats.layout import Layout
from penchant.data.formats.sides import Side, continued, text_or_turns
from penchant.data.hh_rlhf import is_transcript
from penchant.data.ledger import Drop
from penchant.data.messages import read_turns
from penchant.data.normalise import Draft, part
from penchant.data.rows import RawRow
from penchant.types import Turn


def _read_prompt(row: RawRow) -> Draft | Drop:
    prompt = text_or_turns(row, "prompt")
    chosen, rejected = _with_lead(row, "chosen"), _with_lead(row, "rejected")
    if isinstance(prompt, str):
        if full_hh_rlhf.is_open_transcript(prompt) and isinstance(chosen, str) and isinstance(rejected, str):
            return full_hh_rlhf.read(row)
        prompt = (Turn("user", prompt),)
    return continued(prompt, chosen, rejected)


def _with_lead(row: RawRow, name: str) -> Side:
    side = text_or_turns(row, name)
    lead = row.values.get(f"{name}_lead")
    if lead is None or (row.all_text and lead == ""):
        return side
    if not isinstance(side, str) or not isinstance(lead, list):
        raise RowError(f'column "{name}_lead" is not a list of messages beside a text')
    return (*read_turns(f"{name}_lead", lead), Turn("assistant", side))


def _read_conversations(row: RawRow) -> Draft | Drop:
    chosen, rejected = text_or_turns(row, "chosen"), text_or_turns(row, "rejected")
    if isinstance(chosen, tuple) and isinstance(rejected, tuple):
        return part(chosen, rejected)
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not is_transcript(chosen) and not is_transcript(rejected):
            raise MissingColumnError("prompt")
        return from_transcripts(chosen, rejected)
    raise RowError('without a "prompt" column, "chosen" and "rejected" must both be conversations of one kind')


def _read_message_columns(row: RawRow) -> Draft | Drop:
    names = ("chosen_messages", "rejected_messages")
    chosen, rejected = (read_turns(name, items(row, name)) for name in names)
    return part(chosen, rejected)


def _read_share_gpt(row: RawRow) -> Draft | Drop:
    prompt = read_turns("conversations", items(row, "conversations"))
    sides = (instructions.one_message_or_side(row, name) for name in ("chosen", "rejected"))
    return continued(prompt, *sides)


def _read_scored_texts(row: RawRow) -> Draft | Drop:
    texts, scores = items(row, "text"), items(row, "score")
    if len(texts) != 2 or len(scores) != 2:
        raise RowError(f'"text" and "score" must hold two each, not {len(texts)} and {len(scores)}')
    (one, other), (score, other_score) = texts, (as_number(value, 'a value of "score"') for value in scores)
    if not isinstance(one, str) or not isinstance(other, str) or score is None or other_score is None:
        raise RowError('"text" and "score" must hold two texts and two numbers')
    better, worse = (one, other) if score > other_score else (other, one)
    draft = from_transcripts(better, worse)
    if isinstance(draft, Drop):
        return draft
    high, low = max(score, other_score), min(score, other_score)
    return replace(draft, score_chosen=high, score_rejected=low, tie=f"both {high:g}" if high == low else "")


def _read_two_responses(row: RawRow) -> Draft | Drop:
    responses = text(row, "response_0"), text(row, "response_1")
    better = number(row, "better_response_id")
    if better not in (0, 1):
        raise RowError('column "better_response_id" is neither 0 nor 1')
    prompt = (Turn("user", text(row, "prompt")),)
    return continued(prompt, responses[int(better)], responses[1 - int(better)])


def _read_question_pair(row: RawRow) -> Draft | Drop:
    prompt = (Turn("user", text(row, "question")),)
    return continued(prompt, text(row, "response_j"), text(row, "response_k"))


PROMPT = Layout(("prompt", "chosen", "rejected"), _read_prompt)
CONVERSATIONS = Layout(("chosen", "rejected"), _read_conversations)
LAYOUTS = (
    PROMPT,
    Layout(("conversations", "chosen", "rejected"), _read_share_gpt),
    orca_dpo.QUESTION,
    *instructions.LAYOUTS,
    CONVERSATIONS,
    Layout(("chosen_messages", "rejected_messages"), _read_message_columns),
    orca_dpo.OUTPUTS,
    Layout(("text", "score"), _read_scored_texts),
    Layout(("prompt", "response_0", "response_1", "better_response_id"), _read_two_responses),
    Layout(("question", "response_j", "response_k"), _read_question_pair),
)
