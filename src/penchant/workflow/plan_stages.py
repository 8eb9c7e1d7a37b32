"""`penchant plan` of a recipe with stages: a plan of each, and what they come to together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penchant.recipes.stages import Stage
from penchant.workflow.align import stage_parts
from penchant.workflow.grading import Estimate
from penchant.workflow.plan import Plan, plan_run
from penchant.workflow.plan_start import read_start
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper

_NOWHERE = Path("runs", "mine")  # where runs are said to go when nobody said so


@dataclass(frozen=True)
class StagedPlan:
    """What a recipe of stages will need, all of it in one process.

    Attributes:
        stages: A plan of each stage by name, in their order.
    """

    stages: dict[str, Plan]

    @property
    def memory(self) -> Estimate:
        """Peak memory, bytes: that of the stage that needs most."""
        return max((plan.memory for plan in self.stages.values()), key=lambda estimate: estimate.value)

    @property
    def total(self) -> Estimate | None:
        """Seconds of all stages; None where one could not be measured.

        The bounds are added up too: where one stage is slower than its plan, so most likely are the others.
        """
        totals = [plan.total for plan in self.stages.values()]
        known = [total for total in totals if total is not None]
        if len(known) < len(totals):
            return None
        return Estimate(*(sum(getattr(total, name) for total in known) for name in ("value", "low", "high")))

    @property
    def disk(self) -> float:
        """Bytes on disk: every stage's run directory stays."""
        return sum(sum(plan.disk.values()) for plan in self.stages.values())

    @property
    def disk_free(self) -> int:
        """Bytes that are free where the run directories will be."""
        return min(plan.disk_free for plan in self.stages.values())

    @property
    def fits(self) -> bool:
        """Whether the memory of each stage is there."""
        return all(plan.fits for plan in self.stages.values())

    def facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        total = self.total
        return {
            "memory_bytes": asdict(self.memory),
            **({"total_seconds": asdict(total)} if total is not None else {}),
            "disk_bytes": self.disk,
            "disk_free": self.disk_free,
            "fits": self.fits,
            "stages": {
                name: {**{key: asdict(one) for key, one in plan.estimates.items()}, **plan.facts()}
                for name, plan in self.stages.items()
            },
        }


def plan_stages(
    stages: Sequence[Stage],
    *,
    data: Path | None = None,
    sft_data: Path | None = None,
    out: Path | None = None,
    limit: int | None = None,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> StagedPlan:
    """Predict what `penchant align` will need; with `out` leave each stage's prediction where its run will be.

    A stage begins from a model that does not exist yet; its shape is known: that of the stage before, in fp32, and
    with a head of its own where that stage gave it one.

    Args:
        stages: From `penchant.recipes.stages.load_stages`.
        data: Preference pairs, for every stage; without them lengths are assumed.
        sft_data: Examples for the stages of the loss sft.
        out: Where the stages' run directories will be.
        limit: Only the first rows of each data set.
        reporter: Hears notes and progress.
        stopper: Asked now and then whether to stop.

    Raises:
        PenchantError: See `penchant.workflow.plan.plan_run`.
    """
    reporter = reporter or Reporter()
    nothing = Path()  # stands for the data that nobody gave
    parts = stage_parts(stages, data or nothing, sft_data, out or _NOWHERE)
    start = read_start(parts[0].config.model, parts[0].config.model.path)
    plans: dict[str, Plan] = {}
    for number, part in enumerate(parts, start=1):
        reporter.note(f"Stage {number} of {len(parts)}, {part.name}")
        plan = plan_run(
            part.config,
            data=None if part.data is nothing else part.data,
            out=part.run if out is not None else None,
            start=start,
            limit=limit,
            reporter=reporter,
            stopper=stopper,
        )
        plans[part.name] = plan
        start = start.after(plan.sizes)
    return StagedPlan(plans)
