"""From figures to a sentence: did it work?"""

from __future__ import annotations

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
