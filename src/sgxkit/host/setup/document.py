"""A plan as JSON, for programs (docs/schema/setup-plan.schema.json). Text is English whatever the language."""

from __future__ import annotations

from sgxkit.host.setup.actions import action_to_json
from sgxkit.host.setup.change import change, diff
from sgxkit.host.setup.observed import Observed
from sgxkit.host.setup.plan import Plan
from sgxkit.host.setup.step import Step

SCHEMA = 1
"""Version of the document; it rises when a reader of the old one would misread the new one."""


def plan_document(plan: Plan, seen: Observed, *, version: str) -> dict[str, object]:
    """The plan as JSON values."""
    return {
        "schema": SCHEMA,
        "sgxkit": version,
        "profile": plan.options.profile,
        "system": {"id": plan.distribution.id, "version": plan.distribution.version},
        "reboots": plan.reboots,
        "ended": plan.ended,
        "held": list(plan.held),
        "steps": [step_document(step, seen) for step in plan.steps],
    }


def step_document(step: Step, seen: Observed) -> dict[str, object]:
    """One step as JSON values."""
    return {
        "id": step.id,
        "by": "person" if step.by_person else "program",
        "why": str(step.why),
        "change": str(change(step.action, seen)),
        "diff": list(diff(step.action, seen)),
        "action": action_to_json(step.action),
        "reboot": step.reboot,
        "ends": step.ends,
        "after": list(step.after),
        "risks": [str(risk) for risk in step.risks],
        "todo": [str(sentence) for sentence in step.todo],
        "commands": list(step.commands),
        "link": step.link,
    }
