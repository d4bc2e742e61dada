"""What became of a fleet, as JSON or as one HTML page."""

from __future__ import annotations

from html import escape

from sgxkit.host.fleet.run import FleetResult, HostResult
from sgxkit.messages import Language, Message, msg

SCHEMA = 1


def fleet_document(result: FleetResult, *, task: str, version: str) -> dict[str, object]:
    """The result as JSON values; text is English whatever the language."""
    return {
        "schema": SCHEMA,
        "sgxkit": version,
        "task": task,
        "exit_code": result.exit_code,
        "seconds": round(result.seconds, 3),
        "cpu_seconds": round(result.cpu_seconds, 3),
        "hosts": [
            {
                "name": host.name,
                "state": host.state,
                "readiness": host.readiness,
                "message": host.message,
                "seconds": host.seconds,
                "round_trips": host.round_trips,
                "result": dict(host.document),
            }
            for host in result.hosts
        ],
    }


def verdict(host: HostResult) -> Message:
    """One word or two for a host."""
    if host.state == "not-run":
        return msg("not begun")
    if host.state == "failed":
        return msg("failed")
    if host.readiness == 0:
        return msg("done")
    return msg("not ready") if host.readiness == 1 else msg("could not tell")


def detail(host: HostResult) -> str:
    """What else there is to say in one line."""
    if host.message:
        return host.message
    missing = host.document.get("missing") or (host.document.get("doctor") or {}).get("missing") or []
    person = host.document.get("by_person") or []
    steps = host.document.get("done") or host.document.get("undone") or []
    parts = [*missing, *person] or [f"{len(steps)} steps"] if steps or missing or person else []
    plan = host.document.get("plan")
    if isinstance(plan, dict):
        parts = [str(step["id"]) for step in plan["steps"]]
    return ", ".join(map(str, parts))


def fleet_page(result: FleetResult, *, task: str, language: Language = "en") -> str:
    """One page without scripts and without anything from elsewhere."""
    rows = "".join(
        f"<tr class={host.state}>"
        + "".join(
            f"<td>{escape(cell)}</td>"
            for cell in (
                host.name,
                verdict(host).render(language),
                f"{host.seconds:.1f}",
                str(host.round_trips),
                detail(host),
            )
        )
        + "</tr>\n"
        for host in result.hosts
    )
    titles = (msg("host"), msg("state"), msg("seconds"), msg("round trips"), msg("what"))
    head = "".join(f"<th>{escape(title.render(language))}</th>" for title in titles)
    title = f"sgxkit {escape(task)}"
    return (
        f'<!DOCTYPE html>\n<html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body{font-family:sans-serif}td,th{text-align:left;padding:.2em .8em;vertical-align:top}"
        ".failed td{color:#a00}.not-run td{color:#777}</style></head>\n"
        f"<body><h1>{title}</h1>\n<table><tr>{head}</tr>\n{rows}</table>\n</body></html>\n"
    )
