"""The data sets that Penchant knows by name, one module each, in one table."""

from __future__ import annotations

from penchant.data.formats import examples, full_hh_rlhf, hh_rlhf, labelled, local, orca_dpo, ultrafeedback
from penchant.data.formats.layout import DataFormat, Layout
from penchant.errors import UsageError, did_you_mean

__all__ = ["EXAMPLES", "FORMATS", "LABELLED", "DataFormat", "Layout", "format_named"]

_TABLE = (
    DataFormat(
        name="hh_rlhf",
        layouts=hh_rlhf.LAYOUTS,
        hub="Anthropic/hh-rlhf",
        revision="09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa",
        licence="MIT",
        splits=("train", "test"),
        subsets=("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"),
        without_pairs=("red-team-attempts",),
    ),
    DataFormat(
        name="full_hh_rlhf",
        layouts=full_hh_rlhf.LAYOUTS,
        hub="Dahoas/full-hh-rlhf",
        licence="not stated; made from Anthropic/hh-rlhf, which is MIT",
        splits=("train", "test"),
    ),
    DataFormat(
        name="ultrafeedback",
        layouts=ultrafeedback.LAYOUTS,
        hub="HuggingFaceH4/ultrafeedback_binarized",
        revision="3949bf5f8c17c394422ccfab0c31ea9c20bdeb85",
        licence="MIT",
        splits=("train_prefs", "test_prefs"),
    ),
    DataFormat(
        name="ultrafeedback_scored",
        layouts=ultrafeedback.LAYOUTS,
        hub="openbmb/UltraFeedback",
        revision="40b436560ca83a8dba36114c22ab3c66e43f6d5e",
        licence="MIT",
        splits=("train",),
    ),
    DataFormat(
        name="orca_dpo",
        layouts=orca_dpo.LAYOUTS,
        hub="Intel/orca_dpo_pairs",
        licence="Apache-2.0",
        splits=("train",),
    ),
    DataFormat(name="local", layouts=local.LAYOUTS),
)

FORMATS: dict[str, DataFormat] = {entry.name: entry for entry in _TABLE}
LABELLED = DataFormat(name="responses with a label", layouts=labelled.LAYOUTS)
"""What KTO reads: single responses that are said to be desirable or not, and pairs."""
EXAMPLES = DataFormat(name="examples to imitate", layouts=examples.LAYOUTS)
"""What `penchant sft` reads: no format of preference pairs, so it has no place in the table."""


def format_named(name: str) -> DataFormat:
    """Return a format by its name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in FORMATS:
        raise UsageError(f'there is no data set "{name}".{did_you_mean(name, FORMATS)}')
    return FORMATS[name]
