"""The diagnosis as one HTML page to attach to a ticket: no scripts, nothing loaded from elsewhere, good to print.

All text goes through html.escape: a reader's browser must not trust what a host says of itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape

from sgxkit.host.checks.check import Check, Verdict
from sgxkit.host.checks.evidence import Evidence
from sgxkit.host.checks.readings import size
from sgxkit.host.checks.registry import children
from sgxkit.host.facts import facts_to_json
from sgxkit.host.profiles import Readiness
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.host.report import Diagnosis, Finding, Kind, requirement
from sgxkit.host.tree import mark
from sgxkit.host.wording import HEADINGS, MARKS, REMEDY_TRAITS, conclusion
from sgxkit.messages import Language, Message, msg

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #ccc; }
.banner { padding: .7rem 1rem; border-left: .4rem solid; background: #f6f6f6; font-weight: 600; }
.ready { border-color: #1a7f37; } .not-ready { border-color: #c62828; } .unknown-banner { border-color: #8e24aa; }
table { border-collapse: collapse; } td, th { text-align: left; vertical-align: top; padding: .1rem .8rem .1rem 0; }
code, pre { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: #f6f6f6; padding: .6rem .8rem; white-space: pre-wrap; }
ul.tree, ul.tree ul { list-style: none; padding-left: 1.4rem; } ul.tree { padding-left: 0; }
.supported { color: #1a7f37; } .unsupported { color: #9a6700; }
.fatal { color: #c62828; } .unknown { color: #8e24aa; }
.not-reached, .not-applicable, .quiet { color: #6a6a6a; }
.badge { font-size: .8rem; border: 1px solid #999; border-radius: .3rem; padding: 0 .3rem; }
summary { cursor: pointer; } .facts { font-size: .85rem; }
@media print { body { margin: 0; max-width: none; } pre, li, tr { break-inside: avoid; } }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(diagnosis: Diagnosis, *, version: str, language: Language = "en") -> str:
    """Return the whole page in `language`."""
    return "\n".join(_Page(diagnosis, language).lines(version))


class _Page:
    def __init__(self, diagnosis: Diagnosis, language: Language) -> None:
        self.diagnosis = diagnosis
        self.language = language

    def say(self, message: Message) -> str:
        return escape(message.render(self.language))

    def detail(self, detail: Message | str) -> str:
        return self.say(detail) if isinstance(detail, Message) else escape(detail)

    def lines(self, version: str) -> Iterator[str]:
        diagnosis = self.diagnosis
        host = diagnosis.summary.host or msg("a host without a name")
        title = self.say(msg("SGX diagnosis of {host}", host=host))
        yield f'<!doctype html><html lang="{self.language}"><head><meta charset="utf-8">'
        yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        yield f"<h1>{title}</h1>"
        banner = {Readiness.READY: "ready", Readiness.NOT_READY: "not-ready", Readiness.UNKNOWN: "unknown-banner"}
        yield f'<p class="banner {banner[diagnosis.readiness]}">{self.say(conclusion(diagnosis))}</p>'
        yield from self.summary(version)
        for kind in Kind:
            findings = diagnosis.of_kind(kind)
            if findings:
                yield f"<h2>{self.say(HEADINGS[kind])}</h2><ol>"
                for finding in findings:
                    yield from self.finding(finding)
                yield "</ol>"
        yield f"<h2>{self.say(msg('All checks'))}</h2><ul class='tree'>"
        for check in children(None):
            yield from self.check(check)
        yield "</ul>"
        facts = json.dumps(facts_to_json(diagnosis.facts), indent=1, ensure_ascii=False)
        yield f"<details class='facts'><summary>{self.say(msg('Facts, as read'))}</summary>"
        yield f"<pre>{escape(facts)}</pre></details></body></html>"

    def summary(self, version: str) -> Iterator[str]:
        summary = self.diagnosis.summary
        rows: tuple[tuple[Message, object], ...] = (
            (msg("Host"), summary.host),
            (msg("Operating system"), summary.operating_system),
            (msg("Kernel"), summary.kernel),
            (msg("Processor"), summary.processor),
            (msg("Enclave memory"), None if summary.epc_bytes is None else size(summary.epc_bytes)),
            (msg("SGX features"), ", ".join(summary.features) or None),
            (msg("Facts read"), None if summary.captured is None else summary.captured.isoformat(" ", "seconds")),
            (msg("Judged by"), f"sgxkit {version}"),
            (msg("Profile"), self.diagnosis.profile.id),
        )
        yield "<table>"
        for title, value in rows:
            if value is not None:
                yield f"<tr><th>{self.say(title)}</th><td>{escape(str(value))}</td></tr>"
        yield "</table>"

    def finding(self, finding: Finding) -> Iterator[str]:
        cause = finding.verdict.cause
        yield f"<li><p><strong>{'' if cause is None else self.say(cause)}</strong>"
        yield f' <span class="quiet">{escape(finding.check.id)} · {escape(finding.verdict.code)}</span></p>'
        yield self.evidence(finding.verdict.evidence)
        for remedy in finding.verdict.remedies:
            yield from self.remedy(remedy)
        yield "</li>"

    def remedy(self, remedy: Remedy) -> Iterator[str]:
        traits = [REMEDY_TRAITS[name] for name in REMEDY_TRAITS if getattr(remedy, name)]
        badges = " ".join(f'<span class="badge">{self.say(trait)}</span>' for trait in traits)
        yield f"<p>→ {self.say(remedy.title)} {badges}"
        if remedy.link is not None:
            yield f'<br><a href="{escape(remedy.link)}">{escape(remedy.link)}</a>'
        yield "</p>"
        if remedy.commands:
            yield f"<pre>{escape(chr(10).join(remedy.commands))}</pre>"

    def evidence(self, evidence: Iterable[Evidence]) -> str:
        rows = "".join(
            f"<tr><td><code>{escape(entry.fact)}</code></td><td><code>{escape(entry.value)}</code></td></tr>"
            for entry in evidence
        )
        return f"<table>{rows}</table>" if rows else ""

    def check(self, check: Check) -> Iterator[str]:
        verdict = self.diagnosis.verdicts[check.id]
        name = mark(verdict)
        needed = requirement(self.diagnosis.profile, check.id) == "required"
        badge = f' <span class="badge">{self.say(msg("required"))}</span>' if needed else ""
        detail = f" ({self.detail(verdict.detail)})" if verdict.detail else ""
        yield f'<li><span class="{name}">{self.say(MARKS[name])}</span> {self.say(check.title)}{detail}{badge}'
        yield from self.grounds(verdict)
        below = children(check.id)
        if below:
            yield "<ul>"
            for part in below:
                yield from self.check(part)
            yield "</ul>"
        yield "</li>"

    def grounds(self, verdict: Verdict) -> Iterator[str]:
        if verdict.cause is not None:
            yield f'<br><span class="quiet">{self.say(verdict.cause)}</span>'
        if verdict.evidence:
            yield f"<details><summary class='quiet'>{self.say(msg('evidence'))}</summary>"
            yield f"{self.evidence(verdict.evidence)}</details>"
