"""A selftest's results as JSON (docs/schema/selftest.schema.json) and as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from sgxkit.messages import Language, Message, msg
from sgxkit.selftest.part import Outcome, PartResult

SCHEMA = 1

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ccc; }
.banner { padding: .7rem 1rem; border-left: .4rem solid; background: #f6f6f6; font-weight: 600; }
.passed { border-color: #1a7f37; color: #1a7f37; } .failed { border-color: #c62828; color: #c62828; }
.not-installed { border-color: #9a6700; color: #9a6700; }
th { text-align: left; vertical-align: top; padding: .1rem .8rem .1rem 0; font-weight: 600; }
pre { font: 13px/1.45 ui-monospace, monospace; background: #f6f6f6; padding: .6rem .8rem; white-space: pre-wrap; }
"""


def document(results: Sequence[PartResult], *, lab: str | None, seconds: float) -> dict[str, Any]:
    """Return everything that is known; the texts are English whatever the language."""
    return {
        "schema": SCHEMA,
        "ok": passed(results),
        "emulated": lab is not None,
        "seconds": round(seconds, 3),
        "parts": [
            {
                "part": result.id.value,
                "outcome": result.outcome.value,
                "ran": result.ran,
                "stand_in": result.stand_in,
                "expected": str(result.expected),
                "happened": str(result.happened),
                "missing": [str(sentence) for sentence in result.missing],
                "seconds": round(result.seconds, 3),
                "output": result.output,
            }
            for result in results
        ],
    }


def passed(results: Sequence[PartResult]) -> bool:
    """Whether every part passed, be it by a stand-in."""
    return all(result.outcome is Outcome.PASSED for result in results)


def conclusion(results: Sequence[PartResult]) -> Message:
    """The result of it all in a sentence."""
    failed = [result.id.value for result in results if result.outcome is Outcome.FAILED]
    if failed:
        return msg("FAILED: {parts}", parts=", ".join(failed))
    open_ = [result.id.value for result in results if result.outcome is Outcome.NOT_INSTALLED]
    if open_:
        return msg("NOT ALL COULD RUN: {parts}", parts=", ".join(open_))
    stood_in = sum(result.stand_in for result in results)
    if stood_in:
        return msg("PASSED; {count} of {all} parts by a stand-in of sgxkit's own", count=stood_in, all=len(results))
    return msg("PASSED")


def platform_sentence(lab: str | None) -> Message:
    """On what it ran."""
    if lab is None:
        return msg("on this computer's SGX")
    return msg("on an emulated platform, which protects nothing")


OUTCOMES = {
    Outcome.PASSED: msg("passed"),
    Outcome.FAILED: msg("failed"),
    Outcome.NOT_INSTALLED: msg("not installed"),
}


def page(results: Sequence[PartResult], *, lab: str | None, language: Language) -> str:
    """Return one page without scripts that loads nothing; all text is escaped."""
    return "\n".join(_lines(results, lab, language))


def _lines(results: Sequence[PartResult], lab: str | None, language: Language) -> Iterator[str]:
    def say(message: Message) -> str:
        return escape(message.render(language))

    worst = next((one.outcome for one in results if one.outcome is not Outcome.PASSED), Outcome.PASSED)
    yield f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f"<title>sgxkit selftest</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>sgxkit selftest: {say(platform_sentence(lab))}</h1>"
    yield f'<p class="banner {worst.value}">{say(conclusion(results))}</p>'
    for result in results:
        outcome = f'<span class="{result.outcome.value}">{say(OUTCOMES[result.outcome])}</span>'
        yield f"<h2>{escape(result.id.value)}: {outcome}</h2>"
        yield "<table>"
        ran = escape(result.ran) + (f" ({say(msg('a stand-in'))})" if result.stand_in else "")
        yield f"<tr><th>{say(msg('ran'))}</th><td>{ran}, {result.seconds:.2f} s</td></tr>"
        yield f"<tr><th>{say(msg('expected'))}</th><td>{say(result.expected)}</td></tr>"
        yield f"<tr><th>{say(msg('happened'))}</th><td>{say(result.happened)}</td></tr>"
        for sentence in result.missing:
            yield f"<tr><th></th><td>{say(sentence)}</td></tr>"
        yield "</table>"
        if result.output:
            yield f"<pre>{escape(result.output)}</pre>"
    yield "</body></html>"
