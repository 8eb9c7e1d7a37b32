"""From figures to a sentence: did it work?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIGNIFICANT, CLEARLY_ABOVE = 1e-3, 1e-2


def style_verdict(figures: dict[str, Any]) -> dict[str, Any]:
    """Return {"worked", "headline", "reasons"} for a model judged on the house style.

    It worked when the pass rate rose with an exact McNemar p below 0.001 and the degenerate rate did not rise. The
    headline names every control of this run that the policy does not beat with p below 0.01.
    """
    before, after = figures["pass_rate_reference"], figures["pass_rate_policy"]
    rose = after > before and figures["mcnemar_p"] < SIGNIFICANT
    degenerate_before, degenerate_after = (
        figures["degenerate_rate_reference"],
        figures["degenerate_rate_policy"],
    )
    worse = degenerate_after > degenerate_before
    reasons = [
        f"{figures['questions_gained']} of {figures['test_questions']} questions gained, "
        f"{figures['questions_lost']} lost (exact McNemar p = {figures['mcnemar_p']:.1g})",
        f"degenerate answers {degenerate_before:.0%} -> {degenerate_after:.0%}",
        f"KL to the reference on ordinary prose {figures['kl_to_reference']:.3f} nats per token",
    ]
    reasons += [_against(control) for control in figures.get("controls", ())]
    unbeaten = [
        control["name"]
        for control in figures.get("controls", ())
        if not control.get("committed")
        and not (after > control["pass_rate"] and control["p_against_dpo"] < CLEARLY_ABOVE)
    ]
    if rose and not worse:
        headline = f"It worked: answers in the style rose from {before:.0%} to {after:.0%}."
        if unbeaten:
            headline += f" Not clearly above: {', '.join(unbeaten)}."
    elif rose:
        headline = f"In the style {before:.0%} -> {after:.0%}, but more answers are degenerate."
    else:
        headline = f"It did not clearly work: answers in the style {before:.0%} -> {after:.0%}."
    return {"worked": rose and not worse, "headline": headline, "reasons": reasons}


def _against(control: dict[str, Any]) -> str:
    line = f"{control['name']}: {control['pass_rate']:.0%}"
    if control.get("committed"):
        return f"{line} (figures of {control['date']}, not of this run)"
    return f"{line} (p = {control['p_against_dpo']:.1g} against the policy)"


def held_out_verdict(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"worked", "headline", "reasons"} from the figures of `eval/summary.json` on held-out data.

    `worked` is True when the 95 % interval of the change lies on the right side of zero, False when it lies on the
    wrong side, None when it holds zero. The change is that of the preference accuracy of pairs (paired), or of
    imitated examples that of the loss per token; of responses with a label it is how far the area under the
    reward's curve lies from one half, which is the reference's. {} where none of these was measured.
    """
    if change := _change(figures, "preference_accuracy"):
        before, after, low, high = change
        side = 0 if low <= 0 <= high else 1 if low > 0 else -1
        pairs = figures.get("test_pairs")
        where = f"{pairs} held-out pairs" if isinstance(pairs, int) else "held-out pairs"
        moved = f"it puts the chosen response first in {after:.1%} of {where}, {before:.1%} before"
        reasons = [
            f"change {100 * (after - before):+.1f} points, 95% interval {100 * low:+.1f} to {100 * high:+.1f}"
        ]
        fell = figures.get("chosen_logps_fell_fraction")
        if isinstance(fell, float) and fell > _ONE_HALF:
            reasons.append(f"but {fell:.0%} of the chosen responses became less probable than they were")
        return {"worked": _WORKED[side], "headline": _SAID[side].format(moved), "reasons": reasons}
    if change := _change(figures, "token_loss"):
        before, after, low, high = change
        side = 0 if low <= 0 <= high else 1 if high < 0 else -1
        moved = f"the loss on held-out examples is {after:.3f} nats per token, {before:.3f} before"
        reasons = [f"change {after - before:+.3f} nats per token, 95% interval {low:+.3f} to {high:+.3f}"]
        return {"worked": _WORKED[side], "headline": _SAID[side].format(moved), "reasons": reasons}
    if (area := _numbers(figures.get("reward_auc"), figures.get("reward_auc_interval"))) is not None:
        value, low, high = area
        side = 0 if low <= _ONE_HALF <= high else 1 if low > _ONE_HALF else -1
        moved = f"a desirable response has the higher reward in {value:.1%} of couples with an undesirable one"
        reasons = [f"95% interval {low:.1%} to {high:.1%}; a reward that knows nothing has 50%"]
        return {"worked": _WORKED[side], "headline": _SAID[side].format(moved), "reasons": reasons}
    return {}


_ONE_HALF = 0.5
_WORKED = {1: True, 0: None, -1: False}
_SAID = {
    1: "It worked on held-out data: {}.",
    0: "It cannot be said, for the change is within chance: {}.",
    -1: "It did not work on held-out data, it got worse: {}.",
}
_CHANGES = {"preference_accuracy": "preference_accuracy_gain", "token_loss": "token_loss_change"}


def _change(figures: Mapping[str, Any], name: str) -> tuple[float, float, float, float] | None:
    """The figure before and after, and the interval of the change; None where one of them is no number."""
    before, after = figures.get(f"{name}_reference"), figures.get(f"{name}_policy")
    known = _numbers(after, figures.get(f"{_CHANGES[name]}_interval"))
    start = _numbers(before, [0.0, 0.0])
    return None if known is None or start is None else (start[0], *known)


def _numbers(value: object, interval: object) -> tuple[float, float, float] | None:
    """A figure and its interval; None where one of the three is no number, as in a file that was edited."""
    bounds = interval if isinstance(interval, list) and len(interval) == 2 else [None, None]
    known = [one for one in (value, *bounds) if isinstance(one, int | float) and not isinstance(one, bool)]
    numbers = [float(one) for one in known if abs(one) < _TOO_LARGE]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


_TOO_LARGE = 1e30
