"""The strong-preference filter: keeps pairs whose responses are plainly unlike, the chosen one richer.

Each rule is a small function of the two responses and of its threshold. It stands in `RULES` under its name, which
is also the name of its threshold in `StrengthConfig` and the reason in the ledger. A rule whose threshold is None
is off. The rules run in the order of the table, cheap ones first; only the last one tags.

They see the last response of each side and no prompt, and they are made for English: the stop words, the weak
phrases and the taggers are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from penchant.config import StrengthConfig
from penchant.data.tagging import Tagger
from penchant.types import PreferencePair

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

# The closed classes of English: they say how a sentence hangs together, not what it is about.
STOP_WORDS = frozenset(
    """
    a an the this that these those some any no each every either neither both all such same other another own
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her
    hers herself it its itself they them their theirs themselves one who whom whose which what
    am is are was were be been being have has had having do does did doing done will would shall should can could
    may might must ought
    about above across after against along among around as at before behind below beneath beside between beyond by
    down during except for from in inside into like near of off on onto out outside over past per since through
    throughout to toward towards under until up upon with within without
    and but or nor so yet if because while although though unless whereas than when where whether how why
    not never only just also too very more most much many few less least again further then once here there now
    ever even still quite rather really
    i'm you're he's she's it's we're they're i've you've we've they've i'd you'd he'd she'd we'd they'd i'll you'll
    he'll she'll it'll we'll they'll that's there's here's what's who's where's how's let's isn't aren't wasn't
    weren't haven't hasn't hadn't don't doesn't didn't won't wouldn't shan't shouldn't can't cannot couldn't mayn't
    mightn't mustn't
    """.split()
)


@dataclass(frozen=True)
class Verdict:
    """What a rule, or all of them, say about a pair.

    Attributes:
        keep: Whether the pair is kept.
        rule: Name of the rule; "" when no rule objects.
        evidence: What was compared, in numbers; "" when no rule objects. It quotes nothing of the pair save the
            weak phrase found.
        figure: What was compared with the threshold, in the rule's own unit; 0 when no rule objects.
    """

    keep: bool
    rule: str = ""
    evidence: str = ""
    figure: float = 0.0


@dataclass(frozen=True)
class Responses:
    """The two responses of a pair as the rules see them; each thing is measured at most once."""

    chosen: str
    rejected: str
    tagger: Tagger

    @cached_property
    def chosen_words(self) -> list[str]:
        """Words of the chosen response in order, in lower case."""
        return _words(self.chosen)

    @cached_property
    def rejected_words(self) -> list[str]:
        """Likewise of the rejected response."""
        return _words(self.rejected)


def min_length(responses: Responses, above: int) -> Verdict:
    """Keep when each response, without surrounding whitespace, has more than `above` characters."""
    chosen, rejected = len(responses.chosen.strip()), len(responses.rejected.strip())
    return Verdict(
        min(chosen, rejected) > above,
        "min_length",
        f"chosen {chosen}, rejected {rejected} characters; each must have more than {above}",
        min(chosen, rejected),
    )


def max_length_ratio(responses: Responses, largest: float) -> Verdict:
    """Keep when the longer response has at most `largest` times the words of the shorter one."""
    chosen, rejected = len(responses.chosen_words), len(responses.rejected_words)
    return Verdict(
        max(chosen, rejected) <= largest * min(chosen, rejected),
        "max_length_ratio",
        f"chosen {chosen}, rejected {rejected} words; at most {largest:g} to 1",
        max(chosen, rejected) / max(1, min(chosen, rejected)),
    )


def sufficient_difference(responses: Responses, least: float) -> Verdict:
    """Keep when at least `least` of the words of both responses are not shared, repeats counted.

    The order of words does not count, so that a sentence moved is no difference. Aligning the texts, as difflib
    does, could only find them more different.
    """
    chosen, rejected = responses.chosen_words, responses.rejected_words
    total = len(chosen) + len(rejected)
    shared = 2 * (Counter(chosen) & Counter(rejected)).total()
    difference = (total - shared) / total if total else 0.0
    return Verdict(
        difference >= least,
        "sufficient_difference",
        f"{total - shared} of {total} words are not shared, {difference:.3f}; at least {least:g}",
        difference,
    )


def lexical_overlap(responses: Responses, largest: float) -> Verdict:
    """Keep when the responses share at most `largest` of their distinct content words (Jaccard index).

    Two responses without any content word count as the same.
    """
    chosen, rejected = set(responses.chosen_words) - STOP_WORDS, set(responses.rejected_words) - STOP_WORDS
    shared, total = len(chosen & rejected), len(chosen | rejected)
    overlap = shared / total if total else 1.0
    return Verdict(
        overlap <= largest,
        "lexical_overlap",
        f"{shared} of {total} content words are shared, {overlap:.3f}; at most {largest:g}",
        overlap,
    )


def stop_word_ratio(responses: Responses, bounds: tuple[float, float]) -> Verdict:
    """Keep when the share of stop words in the chosen response is within the bounds, ends included.

    Far fewer is a list, code or another language; far more says little. A response without words has 0.
    """
    words = responses.chosen_words
    stops = sum(word in STOP_WORDS for word in words)
    ratio = stops / len(words) if words else 0.0
    return Verdict(
        bounds[0] <= ratio <= bounds[1],
        "stop_word_ratio",
        f"{stops} of {len(words)} words are stop words, {ratio:.3f}; {bounds[0]:g} to {bounds[1]:g}",
        ratio,
    )


def no_weak_phrases(responses: Responses, phrases: tuple[str, ...]) -> Verdict:
    """Keep when the chosen response holds none of the phrases as whole words, whatever their case and spacing."""
    found = _phrase_pattern(phrases).findall(_plain(responses.chosen))
    first = f', first "{" ".join(found[0].split())}"' if found else ""
    return Verdict(not found, "no_weak_phrases", f"{len(found)} weak phrases{first}; none allowed", len(found))


def nouns_and_verbs(responses: Responses, least: int) -> Verdict:
    """Keep when the chosen response has at least `least` more nouns and verbs than the rejected one."""
    count = responses.tagger.count_nouns_and_verbs
    chosen, rejected = count(responses.chosen), count(responses.rejected)
    return Verdict(
        chosen - rejected >= least,
        "nouns_and_verbs",
        f"chosen {chosen}, rejected {rejected} nouns and verbs; at least {least} more in chosen",
        chosen - rejected,
    )


Rule = Callable[[Responses, Any], Verdict]

RULES: dict[str, Rule] = {
    "min_length": min_length,
    "max_length_ratio": max_length_ratio,
    "sufficient_difference": sufficient_difference,
    "lexical_overlap": lexical_overlap,
    "stop_word_ratio": stop_word_ratio,
    "no_weak_phrases": no_weak_phrases,
    "nouns_and_verbs": nouns_and_verbs,
}
"""Every rule by its name, in the order in which they run. A rule takes the responses and its threshold."""


def judge_strength(pair: PreferencePair, config: StrengthConfig, tagger: Tagger) -> Verdict:
    """Return the verdict of the first rule that drops the pair, or one that keeps it; later rules do not run."""
    return decide(_verdicts(pair, config, tagger))


def judge_all(pair: PreferencePair, config: StrengthConfig, tagger: Tagger) -> list[Verdict]:
    """Return what every rule that is on says about the pair by itself, in the order of `RULES`."""
    return list(_verdicts(pair, config, tagger))


def decide(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the first verdict that drops the pair, or, when none does, one that keeps it."""
    return next((verdict for verdict in verdicts if not verdict.keep), Verdict(keep=True))


@dataclass
class StrengthTally:
    """How many pairs each rule removes: alone, and in order as the first rule to object.

    Attributes:
        rows: Pairs that came in.
        kept: Pairs that no rule removes; `rows` is `kept` and the sum of `in_order`.
        alone: For each rule that is on, the pairs it would remove if it were the only one.
        in_order: For each such rule, the pairs that passed every rule before it and not this one.
    """

    rows: int = 0
    kept: int = 0
    alone: dict[str, int] = field(default_factory=dict)
    in_order: dict[str, int] = field(default_factory=dict)

    def add(self, verdicts: list[Verdict]) -> None:
        """Count a pair, given what `judge_all` says about it."""
        self.rows += 1
        first = decide(verdicts)
        self.kept += first.keep
        for verdict in verdicts:
            self.alone[verdict.rule] = self.alone.get(verdict.rule, 0) + (not verdict.keep)
            self.in_order[verdict.rule] = self.in_order.get(verdict.rule, 0) + (verdict.rule == first.rule)


def _verdicts(pair: PreferencePair, config: StrengthConfig, tagger: Tagger) -> Iterator[Verdict]:
    responses = Responses(pair.chosen, pair.rejected, tagger)
    for name, rule in RULES.items():
        threshold = getattr(config, name)
        if threshold is not None:
            yield rule(responses, threshold)


def _words(text: str) -> list[str]:
    return _WORD.findall(_plain(text))


def _plain(text: str) -> str:
    """Return the text in lower case, with straight apostrophes."""
    return text.replace("\u2019", "'").casefold()


@cache
def _phrase_pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    spaced = (r"\s+".join(re.escape(word) for word in _plain(phrase).split()) for phrase in phrases)
    return re.compile(rf"(?<!\w)(?:{'|'.join(spaced)})(?!\w)")
