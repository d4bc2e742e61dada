"""Quotes: the provider library, its configuration, the service behind it, and whether a quote can be made.

The best probe that needs no enclave is AESM's initQuoteEx: it launches the quoting enclave and fetches the
platform's certificate (intel/confidential-computing.tee.dcap, QuoteGeneration).
"""

from __future__ import annotations

from sgxkit.host import qcnl
from sgxkit.host.checks.aesm import ERRORS, INIT_QUOTE_EX, answer, exchange_evidence
from sgxkit.host.checks.check import (
    Check,
    Verdict,
    Verdicts,
    blamed_on,
    conjunction,
    fatal,
    supported,
    unknown,
    unsupported,
)
from sgxkit.host.checks.devices import container_kind, provision_node
from sgxkit.host.checks.evidence import Evidence, absent, known, shown
from sgxkit.host.checks.software import MOOT_WITHOUT, installed, moot_without
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Endpoint, Facts, HttpReply, Library, Unread
from sgxkit.host.remedies import aesm as aesm_remedies
from sgxkit.host.remedies import quoting as remedies
from sgxkit.host.remedies import software
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import Message, msg

DEFAULT_PATH = "/etc/sgx_default_qcnl.conf"
_NAMES = ("libdcap_quoteprov.so.1", "libdcap_quoteprov.so")
_PARTS = (
    "provision.node",
    "provision.right",
    "quote.library",
    "quote.configuration",
    "quote.service",
    "quote.generation",
    "registration",
)


def _judge_attestation(_facts: Facts, verdicts: Verdicts) -> Verdict:
    return conjunction(verdicts, _PARTS)


def _providers(facts: Facts) -> tuple[Library, ...]:
    return tuple(library for library in known(facts.software.libraries) or () if "quoteprov" in library.path)


def _judge_library(facts: Facts, verdicts: Verdicts) -> Verdict:
    providers = _providers(facts)
    evidence = tuple(
        Evidence(
            f"software.libraries[{library.path}]",
            "a file"
            if not library.link
            else "a link to nothing"
            if library.target is None
            else f"-> {library.target}",
        )
        for library in providers
    ) or (shown("software.libraries", "no libdcap_quoteprov.so"),)
    if known(facts.software.libraries) is None:
        return unknown(
            "libraries-unread",
            msg("The library folders could not be read."),
            (shown("software.libraries", facts.software.libraries),),
        )
    named = [library for library in providers if library.path.rsplit("/", 1)[-1] in _NAMES]
    usable = [library for library in named if not library.link or library.target is not None]
    if usable:
        targets = {library.target or library.path for library in usable}
        names = {package.name for package in installed(facts) or ()}
        if "az-dcap-client" in names and "libsgx-dcap-default-qpl" in names:
            return unsupported(
                "two-providers",
                msg("Intel's and Azure's quote providers are both installed; which one is used is left to chance."),
                (*evidence, Evidence("software.packages", "az-dcap-client, libsgx-dcap-default-qpl")),
                (software.remove_packages(facts, ("az-dcap-client",)),),
            )
        return supported(evidence, detail=sorted(targets)[0].rsplit("/", 1)[-1])
    if answer(facts, INIT_QUOTE_EX) == 0:
        return supported(exchange_evidence(facts, INIT_QUOTE_EX), code="shown-by-aesm")
    if providers:
        versioned = next((library for library in providers if library not in named), None)
        return fatal(
            "provider-not-linked",
            msg("The quote provider library is there, but not under the name libdcap_quoteprov.so.1."),
            evidence,
            (
                *((remedies.link_provider(versioned.path),) if versioned else ()),
                software.install_quote_provider(facts),
            ),
        )
    if container_kind(facts) != "none":
        return unknown("in-container", msg("In a container, the quote provider is AESM's affair, outside."), evidence)
    missing = fatal(
        "no-provider",
        msg("The quote provider library is not installed, so no certificate for quotes can be fetched."),
        evidence,
        (software.install_quote_provider(facts),),
    )
    return blamed_on(missing, verdicts, *moot_without(verdicts))


def _judge_configuration(facts: Facts, verdicts: Verdicts) -> Verdict:
    file = facts.quote_provider.configuration
    cloud = known(facts.system.cloud)
    if isinstance(file, Unread):
        unread = (shown("quote_provider.configuration", file),)
        if not absent(file):
            return unknown(
                "configuration-unread", msg("The quote provider's configuration could not be read."), unread
            )
        if verdicts["quote.library"].failed:
            return blamed_on(
                fatal("no-configuration", msg("There is no configuration of the quote provider."), unread),
                verdicts,
                "quote.library",
            )
        return unsupported(
            "no-configuration",
            msg("There is no configuration of the quote provider; it then asks {url}.", url=qcnl.DEFAULT_URL),
            unread,
            (remedies.configure_provider(cloud, DEFAULT_PATH),),
        )
    report = qcnl.lint(file.text)
    evidence = (
        Evidence("quote_provider.configuration.path", file.path),
        *(
            Evidence(f"quote_provider.configuration ({finding.code})", str(finding.message))
            for finding in report.findings
        ),
        Evidence("quote_provider.configuration (pccs_url in effect)", report.config.pccs_url),
    )
    if report.errors:
        first = report.errors[0]
        return fatal(
            f"configuration-{first.code}",
            msg("{path}: {problem}.", path=file.path, problem=first.message),
            evidence,
            (remedies.correct_configuration(file.path), remedies.configure_provider(cloud, file.path)),
        )
    if report.findings:
        first = report.findings[0]
        return unsupported(
            f"configuration-{first.code}",
            msg("{path}: {problem}.", path=file.path, problem=first.message),
            evidence,
            (remedies.correct_configuration(file.path),),
        )
    return supported(evidence, detail=report.config.pccs_url)


def _endpoint_evidence(endpoint: Endpoint) -> Evidence:
    reply = endpoint.reply
    if isinstance(reply, Unread):
        return shown(f"network.endpoints[{endpoint.url}]", reply)
    trust = "" if reply.tls_error is None else f", certificate not trusted: {reply.tls_error}"
    return Evidence(f"network.endpoints[{endpoint.url}]", f"HTTP {reply.status}{trust}")


def _judge_service(facts: Facts, verdicts: Verdicts) -> Verdict:
    endpoints = facts.network.endpoints
    if isinstance(endpoints, Unread):
        return unknown(
            "network-not-tried",
            msg("Whether the PCCS answers was not tried."),
            (shown("network.endpoints", endpoints),),
        )
    evidence = tuple(_endpoint_evidence(endpoint) for endpoint in endpoints)
    file = known(facts.quote_provider.configuration)
    path = DEFAULT_PATH if file is None else file.path
    insecure = file is not None and not qcnl.lint(file.text).config.use_secure_cert
    for endpoint in endpoints:
        reply = endpoint.reply
        if isinstance(reply, HttpReply):
            if reply.tls_error is not None and not insecure:
                return fatal(
                    "pccs-untrusted",
                    msg(
                        "{url} has a certificate that this host does not trust: {reason}.",
                        url=endpoint.url,
                        reason=reply.tls_error,
                    ),
                    evidence,
                    (remedies.trust_certificate(path),),
                )
            if reply.status >= 400:
                return fatal(
                    "pccs-error",
                    msg("{url} answers with HTTP status {status}.", url=endpoint.url, status=reply.status),
                    evidence,
                    (remedies.reach_service(endpoint.url),),
                )
        elif reply.kind in ("skipped", "unrecorded"):
            return unknown("network-not-tried", msg("Whether the PCCS answers was not tried."), evidence)
        else:
            return blamed_on(
                fatal(
                    "pccs-unreachable",
                    msg("{url} does not answer: {reason}.", url=endpoint.url, reason=reply.text),
                    evidence,
                    (
                        remedies.reach_service(endpoint.url),
                        remedies.configure_provider(known(facts.system.cloud), path),
                    ),
                ),
                verdicts,
                "quote.configuration",
            )
    if not endpoints:
        return unknown("no-service", msg("No PCCS is configured that could be asked."), evidence)
    return supported(evidence)


_BY_CODE: dict[int, tuple[str, Message, tuple[str, ...]]] = {
    2: ("qe-no-device", msg("AESM finds no SGX device."), ("device.node", "provision.node")),
    12: ("pccs-not-reached-by-aesm", msg("AESM does not reach the PCCS."), ("quote.configuration", "quote.service")),
    24: ("qe-no-device", msg("AESM finds no SGX device."), ("device.node", "provision.node")),
    29: ("out-of-epc", msg("There is no free enclave memory for the quoting enclave."), ("cpu.epc",)),
    30: ("no-quote-plugin", msg("AESM lacks the plug-in for quotes, or it did not start."), ("aesm.plugins",)),
    38: (
        "no-ecdsa-provider",
        msg("AESM's ECDSA provider did not start; its quoting enclave may not have loaded."),
        ("aesm.plugins", "provision.node", "provision.right"),
    ),
    40: (
        "pce-not-loaded",
        msg("AESM could not load the provisioning certification enclave."),
        ("provision.node", "provision.right", "device.exec"),
    ),
    41: (
        "provider-not-loaded",
        msg("AESM could not load the quote provider library."),
        ("quote.library", "quote.configuration"),
    ),
    42: (
        "no-certificate",
        msg("The attestation key is not certified: no certificate for this platform could be fetched."),
        ("quote.library", "quote.configuration", "quote.service", "registration"),
    ),
    43: ("bad-certificate", msg("The PCCS sent a certificate that does not fit this platform."), ("quote.service",)),
    44: (
        "no-platform-certificate",
        msg("Neither Intel nor the PCCS has a certificate for this platform: it is not registered."),
        ("quote.configuration", "registration"),
    ),
    48: (
        "qe-not-loaded",
        msg("AESM could not load its quoting enclave."),
        ("provision.node", "provision.right", "device.exec", "cpu.epc"),
    ),
}
"""aesm_error_t of initQuoteEx: what it means, and the checks that may explain it, most fundamental first."""
_ANY_REASON = (
    "provision.node",
    "provision.right",
    "quote.library",
    "quote.configuration",
    "quote.service",
    "registration",
    "clock",
)
_SUSPECTS = ("aesm.answers", "aesm.plugins", "device.node", "device.exec", "cpu.epc", *_ANY_REASON)


def _judge_generation(facts: Facts, verdicts: Verdicts) -> Verdict:
    code = answer(facts, INIT_QUOTE_EX)
    evidence = exchange_evidence(facts, INIT_QUOTE_EX)
    if code == 0:
        return supported(evidence)
    if code is not None:
        return _judge_refusal(facts, verdicts, code, evidence)
    if verdicts["aesm.answers"].failed:
        if _in_process(facts):
            return unknown(
                "in-process-untried",
                msg("Quotes may be made inside applications, without AESM; that was not tried."),
                (Evidence("software.packages", "libsgx-dcap-ql"),),
                (remedies.CHECK_QUOTING_BY_APPLICATION,),
            )
        return Verdict(
            Status.FATAL, "no-way-to-quote", msg("Nothing on this host makes quotes."), because=("aesm.answers",)
        )
    reply = known(facts.aesm.reply(INIT_QUOTE_EX))
    if reply is not None:
        return blamed_on(
            fatal(
                "aesm-too-old",
                msg("AESM does not know how to make DCAP quotes: it is from before PSW 2.8."),
                evidence,
            ),
            verdicts,
            "aesm.plugins",
        )
    return unknown(
        "not-asked", msg("AESM was not asked for the means to quote."), evidence, (aesm_remedies.READ_LOG,)
    )


def _judge_refusal(facts: Facts, verdicts: Verdicts, code: int, evidence: tuple[Evidence, ...]) -> Verdict:
    if code in _BY_CODE:
        name, cause, suspects = _BY_CODE[code]
    else:
        name, cause, suspects = (
            "aesm-error",
            msg("AESM answers with error {code} ({name}).", code=code, name=ERRORS.get(code, "?")),
            _ANY_REASON,
        )
    verdict = fatal(name, cause, evidence, (*_own_remedies(facts, code), aesm_remedies.READ_LOG))
    guilty = [
        suspect for suspect in suspects if verdicts[suspect].failed and verdicts[suspect].status is Status.FATAL
    ]
    return blamed_on(verdict, verdicts, *(guilty or suspects))


def _own_remedies(facts: Facts, code: int) -> tuple[Remedy, ...]:
    if code in (42, 44):
        return (remedies.register_platform(facts), remedies.REGISTER_BY_HAND)
    if code == 29:
        return (aesm_remedies.FREE_EPC,)
    if code == 12:
        return (remedies.reach_service(qcnl.DEFAULT_URL),)
    return ()


def _in_process(facts: Facts) -> bool:
    names = {package.name for package in installed(facts) or ()}
    node = provision_node(facts)
    return "libsgx-dcap-ql" in names and node is not None and not isinstance(node.open_read_write, Unread)


_NEEDS_CPU = frozenset({"cpu.sgx"})

GROUP = Check("attestation", msg("Remote attestation"), _judge_attestation, uses=_PARTS)
CHECKS: tuple[Check, ...] = (
    Check(
        "quote.library",
        msg("Quote provider library"),
        _judge_library,
        parent="attestation",
        uses=MOOT_WITHOUT,
    ),
    Check(
        "quote.configuration",
        msg("Quote provider configuration"),
        _judge_configuration,
        parent="attestation",
        needs=("cpu.sgx",),
        hidden_by=_NEEDS_CPU,
        uses=("quote.library",),
    ),
    Check(
        "quote.service",
        msg("PCCS answers"),
        _judge_service,
        parent="attestation",
        needs=("cpu.sgx",),
        hidden_by=_NEEDS_CPU,
        uses=("quote.configuration",),
    ),
    Check(
        "quote.generation",
        msg("Quotes can be made"),
        _judge_generation,
        parent="attestation",
        needs=("cpu.sgx",),
        hidden_by=_NEEDS_CPU,
        uses=_SUSPECTS,
    ),
)
