"""AESM, as a client meets it: there, running, listening, answering, of today's generation, able to quote.

A request that the daemon does not know is answered by closing the connection. So the legacy requests 10 and 12 tell
the generation: closed by PSW 2.28 and later, error 30 from an older one that lacks the plug-in, 0 from one that has
it (intel/confidential-computing.sgx, psw/ae/aesm_service).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from sgxkit.host.checks.check import (
    Check,
    Verdict,
    Verdicts,
    blamed_on,
    fatal,
    not_applicable,
    supported,
    unknown,
    unsupported,
)
from sgxkit.host.checks.devices import container_kind
from sgxkit.host.checks.evidence import Evidence, absent, known, refused, shown
from sgxkit.host.checks.software import MOOT_WITHOUT, REMOVED, installed, moot_without
from sgxkit.host.facts import AesmExchange, Facts, Unread
from sgxkit.host.remedies import aesm as remedies
from sgxkit.host.remedies import software, surroundings
from sgxkit.messages import msg

UNIT = "aesmd.service"
SELECT_KEY, KEY_COUNT, INIT_QUOTE_EX, WHITE_LIST_SIZE, EXTENDED_GROUP = 19, 21, 15, 10, 12
SERVICE_UNAVAILABLE, UNSUPPORTED_KEY = 30, 38
_LAUNCH_PLUGIN, _EPID_PLUGIN = "le_launch_service", "epid_quote_service"

ERRORS: Mapping[int, str] = {
    0: "SUCCESS",
    1: "UNEXPECTED_ERROR",
    2: "NO_DEVICE_ERROR",
    3: "PARAMETER_ERROR",
    12: "NETWORK_ERROR",
    13: "NETWORK_BUSY_ERROR",
    14: "PROXY_SETTING_ASSIST",
    15: "FILE_ACCESS_ERROR",
    16: "SGX_PROVISION_FAILED",
    17: "SERVICE_STOPPED",
    18: "BUSY",
    19: "BACKEND_SERVER_BUSY",
    20: "UPDATE_AVAILABLE",
    21: "OUT_OF_MEMORY_ERROR",
    22: "MSG_ERROR",
    23: "THREAD_ERROR",
    24: "SGX_DEVICE_NOT_AVAILABLE",
    29: "OUT_OF_EPC",
    30: "SERVICE_UNAVAILABLE",
    32: "ECDSA_ID_MISMATCH",
    34: "ERROR_STORED_KEY",
    37: "ATT_KEY_BLOB_ERROR",
    38: "UNSUPPORTED_ATT_KEY_ID",
    40: "INTERFACE_UNAVAILABLE",
    41: "PLATFORM_LIB_UNAVAILABLE",
    42: "ATT_KEY_NOT_INITIALIZED",
    43: "ATT_KEY_CERT_DATA_INVALID",
    44: "NO_PLATFORM_CERT_DATA",
    46: "ENCLAVE_LOST",
    48: "ENCLAVE_LOAD_ERROR",
    49: "UNABLE_TO_GENERATE_QE_REPORT",
    50: "KEY_CERTIFICATION_ERROR",
    51: "CONFIG_UNSUPPORTED",
}
"""aesm_error_t, those that a request of ours can end with (aesm_error.h)."""


def exchanges(facts: Facts) -> tuple[AesmExchange, ...]:
    """The conversation with AESM; empty where there was none."""
    return known(facts.aesm.conversation) or ()


def answer(facts: Facts, request: int) -> int | None:
    """The error code of one request's response; None where none came."""
    reply = known(facts.aesm.reply(request))
    return None if reply is None else reply.code


def exchange_evidence(facts: Facts, *requests: int) -> tuple[Evidence, ...]:
    """How requests ended."""
    found = []
    for exchange in exchanges(facts):
        if exchange.request not in requests:
            continue
        reply = exchange.reply
        if isinstance(reply, Unread):
            text = f"{reply.kind}: {reply.text}"
        elif reply.outcome == "closed":
            text = "connection closed without an answer"
        else:
            text = f"{reply.code} {ERRORS.get(-1 if reply.code is None else reply.code, '')}".rstrip()
        found.append(Evidence(f"aesm.conversation[{exchange.request} {exchange.name}]", text))
    return tuple(found)


def _judge_aesm(facts: Facts, verdicts: Verdicts) -> Verdict:
    connected = facts.aesm.connect
    if not isinstance(connected, Unread):
        return supported((shown("aesm.connect", True),))
    if connected.kind in ("skipped", "unrecorded", "unsupported"):
        return unknown("not-tried", msg("Whether AESM listens was not tried."), (shown("aesm.connect", connected),))
    return blamed_on(
        fatal("no-aesm", msg("AESM does not listen."), (shown("aesm.connect", connected),)),
        verdicts,
        "aesm.installed",
        "aesm.running",
        "aesm.socket",
    )


def _service_evidence(facts: Facts) -> tuple[Evidence, ...]:
    unit = facts.services.unit(UNIT)
    processes = [process for process in known(facts.services.processes) or () if process.name == "aesm_service"]
    return (
        shown(f"services.units[{UNIT}]", unit)
        if isinstance(unit, Unread)
        else Evidence(
            f"services.units[{UNIT}]", f"{unit.load_state}, {unit.active_state} ({unit.sub_state}), {unit.result}"
        ),
        shown("services.processes", [f"aesm_service (pid {process.pid})" for process in processes]),
    )


def _judge_installed(facts: Facts, verdicts: Verdicts) -> Verdict:
    kind = container_kind(facts)
    connected = not isinstance(facts.aesm.connect, Unread)
    packages = installed(facts)
    package = next((entry for entry in packages or () if entry.name == "sgx-aesm-service"), None)
    unit = known(facts.services.unit(UNIT))
    processes = [process for process in known(facts.services.processes) or () if process.name == "aesm_service"]
    evidence = (
        Evidence("software.packages[sgx-aesm-service]", "not installed" if package is None else package.version),
        *_service_evidence(facts),
    )
    if package is not None or processes or (unit is not None and unit.load_state == "loaded") or connected:
        return supported(evidence, detail="" if package is None else package.version)
    if kind != "none":
        return not_applicable(msg("In a container, AESM is the host's affair."))
    if packages is None:
        return unknown("packages-unread", msg("The installed packages could not be read."), evidence)
    missing = fatal("aesm-not-installed", msg("AESM is not installed."), evidence, (software.install_aesm(facts),))
    return blamed_on(missing, verdicts, *moot_without(verdicts))


def _judge_running(facts: Facts, _verdicts: Verdicts) -> Verdict:
    connected = not isinstance(facts.aesm.connect, Unread)
    unit = known(facts.services.unit(UNIT))
    processes = [process for process in known(facts.services.processes) or () if process.name == "aesm_service"]
    evidence = _service_evidence(facts)
    if connected or processes or (unit is not None and unit.active_state == "active"):
        if len(processes) > 1:
            return unsupported(
                "two-aesm",
                msg("More than one AESM is running, and only one has the socket."),
                evidence,
                (remedies.ONLY_ONE,),
            )
        return supported(evidence)
    if container_kind(facts) != "none":
        return not_applicable(msg("In a container, AESM is the host's affair."))
    if unit is None and isinstance(facts.services.processes, Unread):
        return unknown("services-unread", msg("The running services could not be read."), evidence)
    return fatal(
        "aesm-not-running",
        msg("AESM is installed, but not running."),
        (*evidence, shown("aesm.connect", facts.aesm.connect)),
        (remedies.START, remedies.RESTART_CONTAINER),
    )


def _judge_socket(facts: Facts, verdicts: Verdicts) -> Verdict:
    connected = facts.aesm.connect
    path = known(facts.aesm.socket_path) or "/var/run/aesmd/aesm.socket"
    evidence = (
        shown("aesm.socket_path", facts.aesm.socket_path),
        shown("aesm.socket", facts.aesm.socket) if isinstance(facts.aesm.socket, Unread) else _socket_evidence(facts),
        shown("aesm.connect", connected),
    )
    if not isinstance(connected, Unread):
        return supported(evidence, detail=path)
    kind = container_kind(facts)
    if kind != "none" and (connected.errno in (errno.ENOENT, errno.ENOTDIR) or absent(connected)):
        return fatal(
            "socket-not-passed",
            msg("AESM's socket is not in this container."),
            evidence,
            (surroundings.pass_aesm_socket(kind),),
        )
    if connected.errno == errno.ECONNREFUSED:
        return blamed_on(
            fatal(
                "socket-stale",
                msg("{path} is left over: no AESM listens there any more.", path=path),
                evidence,
                (remedies.START, remedies.RESTART_CONTAINER),
            ),
            verdicts,
            "aesm.running",
        )
    if connected.errno in (errno.ENOENT, errno.ENOTDIR) or absent(connected):
        return blamed_on(
            fatal("no-socket", msg("There is no socket {path}.", path=path), evidence, (remedies.START,)),
            verdicts,
            "aesm.installed",
            "aesm.running",
        )
    if refused(connected):
        return fatal(
            "socket-refused", msg("This user may not connect to {path}.", path=path), evidence, (remedies.START,)
        )
    if connected.kind in ("skipped", "unrecorded", "unsupported"):
        return unknown("not-tried", msg("Whether AESM listens was not tried."), evidence)
    return fatal(
        "connect-failed",
        msg("Connecting to {path} failed: {reason}.", path=path, reason=connected.text),
        evidence,
        (remedies.START,),
    )


def _socket_evidence(facts: Facts) -> Evidence:
    status = known(facts.aesm.socket)
    assert status is not None
    return Evidence("aesm.socket", f"{status.type} {status.mode:04o} {status.owner}:{status.group}")


def _judge_answers(facts: Facts, _verdicts: Verdicts) -> Verdict:
    evidence = exchange_evidence(facts, SELECT_KEY, KEY_COUNT, INIT_QUOTE_EX)
    if any(not isinstance(exchange.reply, Unread) for exchange in exchanges(facts)):
        return supported(evidence)
    if not exchanges(facts):
        return unknown(
            "not-asked", msg("AESM was not asked anything."), (shown("aesm.conversation", facts.aesm.conversation),)
        )
    return fatal(
        "aesm-silent",
        msg("AESM accepts connections but answers nothing."),
        evidence,
        (remedies.START, remedies.READ_LOG),
    )


def _judge_generation(facts: Facts, verdicts: Verdicts) -> Verdict:
    replies = [known(facts.aesm.reply(request)) for request in (WHITE_LIST_SIZE, EXTENDED_GROUP)]
    bundles = known(facts.aesm.bundles) or ()
    evidence = (
        *exchange_evidence(facts, WHITE_LIST_SIZE, EXTENDED_GROUP),
        shown("aesm.bundles", facts.aesm.bundles),
    )
    if any(reply is not None and reply.outcome == "response" for reply in replies) or any(
        old in bundle for bundle in bundles for old in (_LAUNCH_PLUGIN, _EPID_PLUGIN)
    ):
        removed = [package.name for package in installed(facts) or () if package.name in REMOVED]
        return blamed_on(
            unsupported(
                "aesm-old",
                msg("This AESM is from before PSW 2.28: it still answers requests of EPID and the launch enclave."),
                evidence,
                (software.upgrade_psw(facts, removed),),
            ),
            verdicts,
            "psw.version",
        )
    if any(reply is not None and reply.outcome == "closed" for reply in replies):
        return supported(evidence, detail="PSW 2.28+")
    return unknown("generation-unread", msg("AESM's generation could not be told."), evidence)


def _judge_plugins(facts: Facts, verdicts: Verdicts) -> Verdict:
    code = answer(facts, SELECT_KEY)
    evidence = (*exchange_evidence(facts, SELECT_KEY, KEY_COUNT), shown("aesm.bundles", facts.aesm.bundles))
    if code == 0:
        return supported(evidence)
    if code == SERVICE_UNAVAILABLE:
        return blamed_on(
            fatal(
                "no-quote-plugin",
                msg("AESM lacks the plug-in quote-ex, so nothing can ask it for quotes (error 30)."),
                evidence,
                (software.install_plugins(facts), remedies.READ_LOG),
            ),
            verdicts,
            "psw.version",
        )
    if code == UNSUPPORTED_KEY:
        return blamed_on(
            fatal(
                "no-ecdsa-provider",
                msg(
                    "AESM has no ECDSA quote provider: its plug-in is missing, or its quoting enclave "
                    "did not load (error 38)."
                ),
                evidence,
                (software.install_plugins(facts), remedies.READ_LOG),
            ),
            verdicts,
            "provision.node",
            "provision.right",
        )
    if code is not None:
        return fatal(
            "aesm-error",
            msg("AESM answers with error {code} ({name}).", code=code, name=ERRORS.get(code, "?")),
            evidence,
            (remedies.READ_LOG,),
        )
    reply = known(facts.aesm.reply(SELECT_KEY))
    if reply is not None:
        return blamed_on(
            fatal(
                "aesm-too-old",
                msg("AESM does not know how to make DCAP quotes: it is from before PSW 2.8."),
                evidence,
                (software.upgrade_psw(facts, ()),),
            ),
            verdicts,
            "psw.version",
        )
    return unknown("not-asked", msg("AESM was not asked anything."), evidence)


CHECKS: tuple[Check, ...] = (
    Check(
        "aesm",
        msg("AESM service"),
        _judge_aesm,
        parent="psw",
        uses=("aesm.installed", "aesm.running", "aesm.socket"),
        folds=True,
    ),
    Check("aesm.installed", msg("Installed"), _judge_installed, parent="aesm", uses=MOOT_WITHOUT),
    Check(
        "aesm.running",
        msg("Running"),
        _judge_running,
        parent="aesm",
        needs=("aesm.installed",),
        hidden_by=frozenset({"aesm.installed"}),
    ),
    Check(
        "aesm.socket",
        msg("Socket accepts connections"),
        _judge_socket,
        parent="aesm",
        needs=("aesm.installed",),
        hidden_by=frozenset({"aesm.installed"}),
        uses=("aesm.installed", "aesm.running"),
    ),
    Check(
        "aesm.answers",
        msg("Answers requests"),
        _judge_answers,
        parent="aesm",
        needs=("aesm.socket",),
        hidden_by=frozenset({"aesm.socket"}),
    ),
    Check(
        "aesm.generation",
        msg("Generation"),
        _judge_generation,
        parent="aesm",
        needs=("aesm.answers",),
        hidden_by=frozenset({"aesm.answers"}),
        uses=("psw.version",),
    ),
    Check(
        "aesm.plugins",
        msg("Quote plug-ins"),
        _judge_plugins,
        parent="aesm",
        needs=("aesm.answers",),
        hidden_by=frozenset({"aesm.answers"}),
        uses=("psw.version", "provision.node", "provision.right"),
    ),
)
