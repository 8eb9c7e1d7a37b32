"""Lint of preference data: what is wrong with pairs that each look usable, and what only shows across rows.

`CHECKS` says of each check how bad a hit is, what it means and what to do. An error makes data unfit to train on
or to be judged by; a warning is something that a person should have seen.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Literal, NamedTuple

from penchant.data.near_duplicates import similar_pairs
from penchant.data.statistics import length_figures
from penchant.types import LedgerEntry, PreferencePair, TokenizedPair, Turn

Severity = Literal["error", "warning"]
MOST_EXAMPLES = 5
_MOST_ID_CHARACTERS = 80
_CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Check:
    """What a check looks for.

    Attributes:
        severity: Of every finding of the check.
        what: What a hit is, in the plural; its count stands beside it.
        advice: What to do about it.
    """

    severity: Severity
    what: str
    advice: str


CHECKS: dict[str, Check] = {
    "unusable_row": Check(
        "error",
        "rows that cannot be read as a pair",
        "`penchant prepare` leaves them out and says why in its ledger.",
    ),
    "empty_response": Check(
        "error",
        "pairs with a response that shows nothing",
        "Drop them: there is nothing to prefer, or to avoid.",
    ),
    "identical_responses": Check(
        "error", "pairs whose responses are the same text", "Drop them: they state no preference."
    ),
    "contradictory_preferences": Check(
        "error",
        "pairs that another pair contradicts: the same prompt and responses, preferred the other way round",
        "Keep the side with more votes, or drop both.",
    ),
    "score_disagrees": Check(
        "error",
        "pairs whose own score or margin says that the rejected response is the better one",
        "Find out which column is right. When it is most rows, chosen and rejected are swapped.",
    ),
    "prompt_leak": Check(
        "error",
        "pairs whose prompt is also in another split",
        "Split by prompt, so that all pairs of a prompt are on one side; `penchant prepare` does.",
    ),
    "double_bos": Check(
        "error",
        "pairs whose ids begin with two beginning-of-sequence tokens, or have one where the response begins",
        "The template writes the token and the tokenizer adds it again; let only one of them do it.",
    ),
    "double_eos": Check(
        "error",
        "pairs with a response that ends with two end tokens",
        "The text or the template holds the end token already; take it out of the text.",
    ),
    "exact_duplicate": Check(
        "warning",
        "pairs that repeat an earlier one but for case, spacing and Unicode form",
        "Drop the repetitions: each counts like more weight on one preference.",
    ),
    "near_duplicate": Check(
        "warning",
        "pairs whose prompt and responses are nearly those of another pair",
        "Look at some. Templates and paraphrases may be meant; copies inflate the data.",
    ),
    "near_prompt_leak": Check(
        "warning",
        "pairs whose prompt is nearly one of another split",
        "Look at some. Where they ask the same, put them on one side.",
    ),
    "loses_and_wins": Check(
        "warning",
        "pairs whose rejected response is the chosen one of another pair of the prompt",
        "Right for rankings of three and more responses; wrong when labels are noisy.",
    ),
    "identical_normalised": Check(
        "warning",
        "pairs whose responses differ only in case, spacing or Unicode form",
        "Drop them unless that difference is what is to be learnt.",
    ),
    "identical_tokens": Check(
        "warning",
        "pairs whose responses are the same tokens once they are cut to fit",
        "They are dropped in training; a larger data.max_tokens keeps those that differ late.",
    ),
    "prompt_fills_window": Check(
        "warning",
        "pairs whose prompt takes more than three quarters of data.max_tokens, or has to be cut for it",
        "Raise data.max_tokens, or expect to train on parts.",
    ),
    "dropped_by_tokenizer": Check(
        "warning",
        "pairs that tokenising drops for another reason",
        "Look at one with --row: it says why, and training leaves them out.",
    ),
    "length_bias": Check(
        "warning",
        "pairs that follow length: the longer response is chosen, or rejected, too regularly",
        "Expect a policy that learns length. Balance the pairs, limit the length ratio, or report length beside "
        "every result.",
    ),
    "suspected_swap": Check(
        "warning",
        "pairs with a refusal or next to nothing chosen over a full answer, in most rows of the split",
        "Check that chosen and rejected are not swapped. In data that teaches refusal it may be meant.",
    ),
    "special_token_text": Check(
        "warning",
        "pairs with the text of a special token",
        "Left from a template: take it out. It forges turns where a tokenizer reads it as the token itself.",
    ),
    "not_utf8": Check(
        "warning",
        "pairs with U+FFFD or half a surrogate pair, left where bytes were no UTF-8",
        "Read the source again in its own encoding.",
    ),
    "mojibake": Check(
        "warning",
        "pairs with UTF-8 that was read as Latin-1 or Windows-1252",
        "Decode the source again as UTF-8.",
    ),
    "control_character": Check("warning", "pairs with control characters", "Take them out of the text."),
    "bidirectional_override": Check(
        "warning",
        "pairs with characters that turn the reading direction around",
        "Take them out: what a person reads is not what the model reads.",
    ),
    "zero_width": Check(
        "warning",
        "pairs with zero-width spaces, byte-order marks or soft hyphens",
        "Take them out: they split words into other tokens, unseen.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: A name of `CHECKS`.
        severity: error or warning.
        count: Pairs concerned.
        examples: Where the first of them are, `MOST_EXAMPLES` at most: split, id and line, never text.
        advice: What to do.
        figures: Numbers behind the finding, by name; empty for most checks.
    """

    check: str
    severity: Severity
    count: int
    examples: tuple[str, ...]
    advice: str
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """What was counted, in the plural."""
        return CHECKS[self.check].what


@dataclass(frozen=True)
class Limits:
    """The thresholds of the checks.

    Attributes:
        likeness: Least Jaccard index of three-word shingles at which texts are nearly the same.
        longer_low: The longer response is chosen in too few pairs when the share's whole interval is below this.
        longer_high: In too many, when it is all above this.
        swap_share: Least share of a split's rows that must look swapped before the split is suspected.
        full_answer_words: Words from which a response is a full answer.
        near_nothing_words: Words up to which a response is next to nothing.
        prompt_share: Share of data.max_tokens above which a prompt fills the window.
    """

    likeness: float = 0.8
    longer_low: float = 0.4
    longer_high: float = 0.6
    swap_share: float = 0.5
    full_answer_words: int = 20
    near_nothing_words: int = 3
    prompt_share: float = 0.75


@dataclass(frozen=True)
class TokenOutcomes:
    """Tokenised pairs to check.

    Attributes:
        outcomes: For each split what `penchant.tokens.chat.tokenize_pair` returned, pair by pair. It is read once,
            so it may be made on the way.
        max_tokens: The window that they were cut to.
        bos_id: The beginning-of-sequence token, None when there is none.
        end_ids: Tokens that end a response.
    """

    outcomes: Mapping[str, Iterable[tuple[TokenizedPair | None, LedgerEntry]]]
    max_tokens: int
    bos_id: int | None
    end_ids: frozenset[int]


def lint(
    splits: Mapping[str, Sequence[PreferencePair]],
    *,
    dropped: Mapping[str, Iterable[LedgerEntry]] | None = None,
    tokenized: TokenOutcomes | None = None,
    limits: Limits = Limits(),
) -> list[Finding]:
    """Check pairs, and return what was found: errors first, then the more frequent first.

    Args:
        splits: The pairs by the name of their split.
        dropped: Rows of the splits that reading left out; each counts for the check that its reason belongs to.
        tokenized: The same pairs as ids; without them the checks of ids are left out.
        limits: Thresholds.
    """
    lost = _dropped_rows(dropped or {})
    findings = [
        _finding(check, chain(lost.pop(check, ()), map(str, hits)))
        for check, hits in _hits(splits, limits).items()
    ]
    findings += [_finding(check, hits) for check, hits in lost.items()]
    for split, pairs in splits.items():
        findings += [_length_bias(split, pairs, limits), _swap(split, pairs, limits)]
    if tokenized is not None:
        findings += _token_findings(tokenized, limits)
    found = [finding for finding in findings if finding is not None]
    return sorted(found, key=lambda finding: (finding.severity, -finding.count, finding.check))


def pair_hits(
    splits: Mapping[str, Sequence[PreferencePair]], *, limits: Limits = Limits()
) -> Iterator[tuple[str, Hit]]:
    """Yield every hit of the checks of single pairs and of pairs among each other, with the name of its check.

    What `lint` counts, one by one. Checks of ids, and `length_bias`, which is of a split as a whole, have none.

    Args:
        splits: The pairs by the name of their split.
        limits: Thresholds.
    """
    for check, hits in _hits(splits, limits).items():
        yield from ((check, hit) for hit in hits)
    for split, pairs in splits.items():
        if _swap(split, pairs, limits) is not None:
            swapped = (pair for pair in pairs if _looks_swapped(pair, limits) > 0)
            yield from (("suspected_swap", Hit(_Row(split, pair))) for pair in swapped)


def _hits(splits: Mapping[str, Sequence[PreferencePair]], limits: Limits) -> dict[str, Iterator[Hit]]:
    rows = [_Row(split, pair) for split, pairs in splits.items() for pair in pairs]
    keys = [_Key.of(row.pair) for row in rows]
    return {
        "empty_response": _empty(rows),
        "identical_responses": _identical(rows),
        "identical_normalised": _identical_normalised(rows, keys),
        "exact_duplicate": _exact_duplicates(rows, keys),
        "near_duplicate": _near_duplicates(rows, keys, limits),
        "contradictory_preferences": _contradictions(rows, keys),
        "loses_and_wins": _losers_that_win(rows, keys),
        "prompt_leak": _leaks(rows, keys),
        "near_prompt_leak": _near_leaks(rows, keys, limits),
        "score_disagrees": (Hit(row) for row in rows if _score_disagrees(row.pair)),
        **{name: _texts_with(pattern, rows) for name, pattern in _MARKS.items()},
    }


class _Row(NamedTuple):
    split: str
    pair: PreferencePair

    @property
    def place(self) -> str:
        return _place(self.split, self.pair.id, self.pair.line)


class Hit(NamedTuple):
    """A pair that a check has something to say about; as text, where it is.

    Attributes:
        row: Its split, and the pair.
        how: What the text looks like, with a place for the row and one for the other.
        other: The row that it was compared with, if there is one.
    """

    row: _Row
    how: str = "{}"
    other: _Row | None = None

    def __str__(self) -> str:
        return self.how.format(self.row.place, self.other.place if self.other else "")


def _place(split: str, pair_id: str, line: int) -> str:
    return f"{split} {_harmless(pair_id)} (line {line})"


def _harmless(name: str) -> str:
    """Return an id from data fit for one line of a terminal or a log."""
    signs = ("\N{REPLACEMENT CHARACTER}" if unicodedata.category(char) in _CONTROLS else char for char in name)
    return "".join(signs)[:_MOST_ID_CHARACTERS]


class _Key(NamedTuple):
    """Digests of a pair's texts in the form in which case, spacing and Unicode form do not count."""

    prompt: bytes
    chosen: bytes
    rejected: bytes

    @classmethod
    def of(cls, pair: PreferencePair) -> _Key:
        chosen, rejected = _sides(pair)
        return cls(_digest(pair.prompt), _digest(chosen), _digest(rejected))


def _sides(pair: PreferencePair) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Everything in which the two sides may differ."""
    return (
        (*pair.chosen_lead, Turn("assistant", pair.chosen)),
        (*pair.rejected_lead, Turn("assistant", pair.rejected)),
    )


def _digest(turns: Sequence[Turn]) -> bytes:
    said = "\n".join(f"{turn.role}: {_normal(turn.content)} {turn.tool_calls}" for turn in turns)
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _finding(check: str, places: Iterable[str], figures: Mapping[str, float] | None = None) -> Finding | None:
    hits = iter(places)
    examples = tuple(islice(hits, MOST_EXAMPLES))
    if not examples:
        return None
    count = len(examples) + sum(1 for _ in hits)
    about = CHECKS[check]
    return Finding(check, about.severity, count, examples, about.advice, figures or {})


# What reading drops a row for, and the check that it belongs to; any other reason makes it an unusable row.
_UNREAD = {
    "empty_response": "empty_response",
    "identical_responses": "identical_responses",
    "duplicate_pair": "exact_duplicate",
}


def _dropped_rows(dropped: Mapping[str, Iterable[LedgerEntry]]) -> dict[str, list[str]]:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for split, entries in dropped.items():
        for entry in entries:
            check = _UNREAD.get(entry.reason, "unusable_row")
            reason = f": {entry.reason}" if check == "unusable_row" else ""
            places[check].append(_place(split, entry.id, entry.line) + reason)
    return dict(places)


# -------------------------------------------------------------------------------------------- responses


def _empty(rows: Sequence[_Row]) -> Iterator[Hit]:
    return (Hit(row) for row in rows if not (_shows(row.pair.chosen) and _shows(row.pair.rejected)))


def _shows(text: str) -> bool:
    """Whether anything of a text is visible: not spaces, control or formatting characters alone."""
    return any(not char.isspace() and unicodedata.category(char) not in ("Cc", "Cf") for char in text)


def _identical(rows: Sequence[_Row]) -> Iterator[Hit]:
    for row in rows:
        chosen, rejected = _sides(row.pair)
        if chosen == rejected:
            yield Hit(row)


def _identical_normalised(rows: Sequence[_Row], keys: Sequence[_Key]) -> Iterator[Hit]:
    for row, key in zip(rows, keys, strict=True):
        chosen, rejected = _sides(row.pair)
        if key.chosen == key.rejected and chosen != rejected:
            yield Hit(row)


def _score_disagrees(pair: PreferencePair) -> bool:
    if pair.margin is not None and pair.margin < 0:
        return True
    if pair.score_chosen is None or pair.score_rejected is None:
        return False
    return pair.score_chosen < pair.score_rejected


# ------------------------------------------------------------------------------------------ across rows


def _exact_duplicates(rows: Sequence[_Row], keys: Sequence[_Key]) -> Iterator[Hit]:
    first: dict[_Key, _Row] = {}
    for row, key in zip(rows, keys, strict=True):
        earlier = first.setdefault(key, row)
        if earlier is not row:
            yield Hit(row, "{} = {}", earlier)


def _near_duplicates(rows: Sequence[_Row], keys: Sequence[_Key], limits: Limits) -> Iterator[Hit]:
    once = list({key: row for row, key in zip(reversed(rows), reversed(keys), strict=True)}.values())[::-1]
    texts = [(_said(row.pair.prompt), *map(_said, _sides(row.pair))) for row in once]
    partner: dict[int, int] = {}
    for one, other in similar_pairs(texts, threshold=limits.likeness):
        partner.setdefault(one, other)
        partner.setdefault(other, one)
    for one, other in sorted(partner.items()):
        yield Hit(once[one], "{} ~ {}", once[other])


def _said(turns: Sequence[Turn]) -> str:
    return "\n".join(turn.content for turn in turns)


def _contradictions(rows: Sequence[_Row], keys: Sequence[_Key]) -> Iterator[Hit]:
    first: dict[_Key, _Row] = {}
    for row, key in zip(rows, keys, strict=True):
        first.setdefault(key, row)
    for row, key in zip(rows, keys, strict=True):
        opposite = first.get(_Key(key.prompt, key.rejected, key.chosen))
        if opposite is not None and key.chosen != key.rejected:
            yield Hit(row, "{} against {}", opposite)


def _losers_that_win(rows: Sequence[_Row], keys: Sequence[_Key]) -> Iterator[Hit]:
    """Rejected responses that win elsewhere; a plain contradiction is another check's."""
    winners: dict[tuple[bytes, bytes], _Row] = {}
    for row, key in zip(rows, keys, strict=True):
        winners.setdefault((key.prompt, key.chosen), row)
    known = set(keys)
    for row, key in zip(rows, keys, strict=True):
        winner = winners.get((key.prompt, key.rejected))
        contradicted = _Key(key.prompt, key.rejected, key.chosen) in known
        if winner is not None and not contradicted:
            yield Hit(row, "{} loses, {} wins", winner)


def _leaks(rows: Sequence[_Row], keys: Sequence[_Key]) -> Iterator[Hit]:
    """Pairs of a later split whose cluster or normalised prompt an earlier split has."""
    first: dict[bytes | str, _Row] = {}
    for row, key in zip(rows, keys, strict=True):
        names = [key.prompt, row.pair.cluster] if row.pair.cluster else [key.prompt]
        earlier = [first.setdefault(name, row) for name in names]
        leaked = next((other for other in earlier if other.split != row.split), None)
        if leaked is not None:
            yield Hit(row, "{} = {}", leaked)


def _near_leaks(rows: Sequence[_Row], keys: Sequence[_Key], limits: Limits) -> Iterator[Hit]:
    number = {split: position for position, split in enumerate(dict.fromkeys(row.split for row in rows))}
    if len(number) < 2:
        return
    once: dict[bytes, _Row] = {}
    sharing: defaultdict[bytes, list[_Row]] = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        once.setdefault(key.prompt, row)
        sharing[key.prompt].append(row)
    prompts = list(once.items())
    texts = [(_said(row.pair.prompt),) for _, row in prompts]
    groups = [number[row.split] for _, row in prompts]
    partner: dict[int, int] = {}
    for one, other in similar_pairs(texts, threshold=limits.likeness, groups=groups):
        later, earlier = (other, one) if groups[one] < groups[other] else (one, other)
        partner.setdefault(later, earlier)
    for later, earlier in sorted(partner.items()):
        split = prompts[later][1].split
        near = prompts[earlier][1]
        yield from (Hit(row, "{} ~ {}", near) for row in sharing[prompts[later][0]] if row.split == split)


# ------------------------------------------------------------------------------------------------- text

_MARKS = {
    "special_token_text": re.compile(
        r"<\|[A-Za-z0-9_]+\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>"
    ),
    "not_utf8": re.compile(r"[\ufffd\ud800-\udfff]"),
    "mojibake": re.compile(
        r"\u00c3[\u0080-\u00bf]|\u00c2[\u00a0-\u00bf]|\u00e2\u20ac[\u0090-\u00bf\u2018-\u2022\u0153\u2122\u02dc]"
    ),
    "control_character": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)"),
    "bidirectional_override": re.compile(r"[\u202a-\u202e\u2066-\u2069]"),
    "zero_width": re.compile(r"[\u200b\u2060\ufeff\u00ad]"),
}


def _texts_with(pattern: re.Pattern[str], rows: Sequence[_Row]) -> Iterator[Hit]:
    return (Hit(row) for row in rows if any(pattern.search(text) for text in _texts(row.pair)))


def _texts(pair: PreferencePair) -> Iterator[str]:
    for turn in (*pair.prompt, *pair.chosen_lead, *pair.rejected_lead):
        yield turn.content
    yield pair.chosen
    yield pair.rejected


# ----------------------------------------------------------------------------------------- whole splits


def _length_bias(split: str, pairs: Sequence[PreferencePair], limits: Limits) -> Finding | None:
    figures = length_figures(pairs).get("longer_wins", {})
    if "share" not in figures or (figures["high"] >= limits.longer_low and figures["low"] <= limits.longer_high):
        return None
    share = figures["share"]
    count = round(max(share, 1 - share) * figures["unequal"])
    about = CHECKS["length_bias"]
    side = "chosen" if share > 0.5 else "rejected"
    example = f"{split}: the longer response is {side} in {max(share, 1 - share):.1%}"
    return Finding("length_bias", about.severity, count, (example,), about.advice, figures)


_REFUSAL = re.compile(
    r"\s*(?:sorry\b|as an ai\b|i apologi[sz]e\b|i(?:['\u2019]m| am) (?:sorry|unable|not able|afraid)\b"
    r"|i (?:can(?:no|['\u2019])t|won['\u2019]t|will not)\b)",
    re.IGNORECASE,
)


def _swap(split: str, pairs: Sequence[PreferencePair], limits: Limits) -> Finding | None:
    """Suspect a split in whose rows mostly a refusal or next to nothing is chosen over a full answer."""
    looks = Counter(_looks_swapped(pair, limits) for pair in pairs)
    if not looks[1] or looks[1] < limits.swap_share * len(pairs):
        return None
    hits = (_place(split, pair.id, pair.line) for pair in pairs if _looks_swapped(pair, limits) > 0)
    figures = {"swapped": looks[1], "as_labelled": looks[-1], "neither": looks[0], "rows": len(pairs)}
    return _finding("suspected_swap", hits, figures)


def _looks_swapped(pair: PreferencePair, limits: Limits) -> int:
    """Return 1 for a poor response chosen over a full one, -1 for the reverse, 0 where it cannot be seen."""
    chosen, rejected = _is_poor(pair.chosen, limits), _is_poor(pair.rejected, limits)
    if chosen and not rejected and _is_full(pair.rejected, limits):
        return 1
    return -1 if rejected and not chosen and _is_full(pair.chosen, limits) else 0


def _is_poor(response: str, limits: Limits) -> bool:
    return bool(_REFUSAL.match(response)) or len(response.split()) <= limits.near_nothing_words


def _is_full(response: str, limits: Limits) -> bool:
    return len(response.split()) >= limits.full_answer_words


# ------------------------------------------------------------------------------------------------- ids


def _token_findings(tokenized: TokenOutcomes, limits: Limits) -> list[Finding | None]:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for split, outcomes in tokenized.outcomes.items():
        for pair, entry in outcomes:
            for check in _token_checks(pair, entry, tokenized, limits):
                reason = f": {entry.reason}" if check == "dropped_by_tokenizer" else ""
                places[check].append(_place(split, entry.id, entry.line) + reason)
    return [_finding(check, hits) for check, hits in places.items()]


# What tokenising cuts or drops a row for, and the check that it belongs to.
_UNFIT = {
    "identical_tokens": "identical_tokens",
    "identical_after_cut": "identical_tokens",
    "prompt_too_long": "prompt_fills_window",
    "prompt_cut": "prompt_fills_window",
    "prompt_and_response_cut": "prompt_fills_window",
}


def _token_checks(
    pair: TokenizedPair | None, entry: LedgerEntry, tokenized: TokenOutcomes, limits: Limits
) -> Iterator[str]:
    if pair is None:
        yield _UNFIT.get(entry.reason, "dropped_by_tokenizer")
        return
    responses = (pair.chosen_ids, pair.rejected_ids)
    bos, ends = tokenized.bos_id, tokenized.end_ids
    if bos is not None and (pair.prompt_ids[:2] == (bos, bos) or any(ids[:1] == (bos,) for ids in responses)):
        yield "double_bos"
    if any(len(ids) > 1 and ids[-1] in ends and ids[-2] in ends for ids in responses):
        yield "double_eos"
    if pair.chosen_ids == pair.rejected_ids:
        yield "identical_tokens"
    if entry.reason in _UNFIT or len(pair.prompt_ids) > limits.prompt_share * tokenized.max_tokens:
        yield "prompt_fills_window"
