"""Intel's packages: their generation, those that no longer exist, their repository and its keys.

PSW 2.28 removed EPID, the launch enclave and out-of-tree drivers; packages of before and after do not mix (README of
intel/confidential-computing.sgx 2.29).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache

from sgxkit.host.checks.check import (
    Check,
    Outcome,
    Verdict,
    Verdicts,
    blamed_on,
    fatal,
    supported,
    unknown,
    unsupported,
)
from sgxkit.host.checks.evidence import Evidence, known, shown
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import AptKey, Facts, Package, Unread
from sgxkit.host.remedies import software as remedies
from sgxkit.messages import msg

FIRST_WITHOUT_EPID = (2, 28)
REMOVED = frozenset(
    {
        "libsgx-aesm-launch-plugin",
        "libsgx-aesm-epid-plugin",
        "libsgx-launch",
        "libsgx-epid",
        "libsgx-ae-le",
        "libsgx-ae-epid",
        "libsgx-aesm-pse-plugin",
        "libsgx-ae-pse",
    }
)
_PSW = frozenset(
    {
        "sgx-aesm-service",
        "libsgx-enclave-common",
        "libsgx-urts",
        "libsgx-quote-ex",
        "libsgx-uae-service",
        "libsgx-aesm-quote-ex-plugin",
        "libsgx-aesm-ecdsa-plugin",
        "libsgx-aesm-pce-plugin",
    }
)
"""Packages that carry the PSW's own version; those of DCAP count from 1.0."""
KEY_WARNING = 60 * 24 * 3600


@cache
def _version(text: str) -> tuple[int, ...]:
    upstream = text.split("-", maxsplit=1)[0].rsplit(":", maxsplit=1)[-1]
    return tuple(int(part) for part in re.findall(r"\d{1,9}", upstream)[:3])


def installed(facts: Facts) -> tuple[Package, ...] | None:
    """Packages that are installed now; None where that was not read."""
    packages = known(facts.software.packages)
    return None if packages is None else tuple(package for package in packages if package.status == "installed")


def psw_version(facts: Facts) -> tuple[int, ...] | None:
    """The newest version among the PSW's packages; None where there is none or that was not read."""
    versions = [_version(package.version) for package in installed(facts) or () if package.name in _PSW]
    return max(versions, default=None)


def _package_evidence(packages: tuple[Package, ...]) -> tuple[Evidence, ...]:
    return tuple(Evidence(f"software.packages[{package.name}]", package.version) for package in packages)


def _judge_psw(facts: Facts, verdicts: Verdicts) -> Verdict:
    packages = installed(facts)
    if packages is None:
        return unknown(
            "packages-unread",
            msg("The installed packages could not be read."),
            (shown("software.packages", facts.software.packages),),
        )
    own = tuple(package for package in packages if package.name in _PSW)
    if not own:
        missing = unsupported(
            "no-psw",
            msg("None of Intel's platform software is installed."),
            (Evidence("software.packages", "no PSW package"),),
            (remedies.install_quoting(facts),),
        )
        return blamed_on(missing, verdicts, "cpu.sgx", "flc.cpu")
    newest = max(own, key=lambda package: _version(package.version))
    gone = tuple(package for package in packages if package.name in REMOVED)
    evidence = _package_evidence((*own, *gone))
    detail = newest.version
    if _version(newest.version) < FIRST_WITHOUT_EPID:
        return Verdict(
            Status.UNSUPPORTED,
            "psw-old",
            msg(
                "The platform software is {version}, from before 2.28: made for EPID, whose service has ended.",
                version=newest.version,
            ),
            evidence,
            (remedies.upgrade_psw(facts, (package.name for package in gone)),),
            detail=detail,
        )
    old = tuple(package for package in own if _version(package.version) < FIRST_WITHOUT_EPID)
    if old:
        return Verdict(
            Status.UNSUPPORTED,
            "psw-mixed",
            msg("Packages from before and after PSW 2.28 are installed together."),
            evidence,
            (remedies.upgrade_psw(facts, (package.name for package in gone)),),
            detail=detail,
        )
    return supported(evidence, detail=detail)


MOOT_WITHOUT = ("cpu.sgx", "flc.cpu", "psw.version")


def moot_without(verdicts: Verdicts) -> tuple[str, ...]:
    """What makes it moot to ask for one package: hardware that current software cannot use, or none of it there."""
    return MOOT_WITHOUT if verdicts["psw.version"].code == "no-psw" else MOOT_WITHOUT[:2]


def _judge_removed(facts: Facts, verdicts: Verdicts) -> Verdict:
    packages = installed(facts)
    if packages is None:
        return unknown(
            "packages-unread",
            msg("The installed packages could not be read."),
            (shown("software.packages", facts.software.packages),),
        )
    gone = tuple(package for package in packages if package.name in REMOVED)
    if not gone:
        return supported()
    because = ("psw.version",) if verdicts["psw.version"].failed else ()
    return Verdict(
        Status.UNSUPPORTED,
        "removed-packages",
        msg("Packages are installed that PSW 2.28 has removed; they serve EPID and launch tokens only."),
        _package_evidence(gone),
        (remedies.remove_packages(facts, (package.name for package in gone)),),
        because=because,
    )


def _judge_library(facts: Facts, _verdicts: Verdicts) -> Verdict:
    libraries = known(facts.software.libraries)
    if libraries is None:
        return unknown(
            "libraries-unread",
            msg("The library folders could not be read."),
            (shown("software.libraries", facts.software.libraries),),
        )
    found = [library for library in libraries if library.path.endswith("/libsgx_enclave_common.so.1")]
    if found:
        return supported(tuple(Evidence("software.libraries", library.path) for library in found))
    return fatal(
        "no-enclave-common",
        msg("libsgx_enclave_common is not installed; only programs of Intel's SDK need it."),
        (Evidence("software.libraries", "no libsgx_enclave_common.so.1"),),
        (remedies.install_quoting(facts),),
    )


_SGX_REPOSITORIES = (
    "download.01.org/intel-sgx",
    "fortanix",
    "gramine",
    "sgx_debian_local_repo",
    "packages.microsoft.com",
)
_BORROWED = {"bookworm": {"jammy"}, "trixie": {"noble", "jammy"}, "bullseye": {"focal"}}
"""Debian releases on which Ubuntu's packages of the same age work (Gramine's documentation)."""


def _judge_repository(facts: Facts, _verdicts: Verdicts) -> Verdict:
    files = known(facts.software.apt_sources)
    release = known(facts.system.os_release)
    if files is None:
        return _without_apt("software.apt_sources", facts.software.apt_sources)
    lines = [
        (file.path, line.strip())
        for file in files
        for line in file.text.splitlines()
        if line.startswith("deb ") and any(name in line for name in _SGX_REPOSITORIES)
    ]
    for path, line in lines:
        evidence = (Evidence(f"software.apt_sources[{path}]", line),)
        if "<http" in line or "\\" in line:
            return unsupported(
                "malformed-source",
                msg("An entry of apt's sources is malformed, so apt refuses all of them: {path}.", path=path),
                evidence,
                (remedies.correct_repository(facts, path),),
            )
        suite = _suite(line)
        if release is not None and release.version_codename and suite in _SUITES:
            fitting = {release.version_codename, *_BORROWED.get(release.version_codename, ())}
            if suite not in fitting:
                return unsupported(
                    "wrong-codename",
                    msg(
                        "The repository is for {suite}, but this is {codename}; packages will not install.",
                        suite=suite,
                        codename=release.version_codename,
                    ),
                    evidence,
                    (remedies.correct_repository(facts, path),),
                )
    return supported(tuple(Evidence(f"software.apt_sources[{path}]", line) for path, line in lines))


_SUITES = frozenset(
    {"xenial", "bionic", "focal", "jammy", "noble", "resolute", "buster", "bullseye", "bookworm", "trixie"}
)


def _suite(line: str) -> str:
    words = re.sub(r"\[[^]]*\]", "", line).split()
    return words[2] if len(words) > 2 else ""


def _without_apt(fact: str, reading: object) -> Verdict:
    nowhere = isinstance(reading, Unread) and reading.kind in ("absent", "unsupported")
    return Verdict(
        Status.UNKNOWN,
        "apt-unread",
        msg("There is no apt here, or it could not be read."),
        (shown(fact, reading),),
        outcome=Outcome.NOT_APPLICABLE if nowhere else Outcome.JUDGED,
    )


def _judge_keys(facts: Facts, _verdicts: Verdicts) -> Verdict:
    keys = known(facts.software.apt_keys)
    now = facts.source.time
    if keys is None:
        return _without_apt("software.apt_keys", facts.software.apt_keys)
    ours = [key for key in keys if _signs_sgx(key)]
    evidence = tuple(
        Evidence(f"software.apt_keys[{key.path}]", f"{key.fingerprint} {key.user_id}, expires {_day(key.expires)}")
        for key in ours
    )
    if now is None:
        return unknown("time-unrecorded", msg("When the facts were read is not recorded."), evidence)
    # A renewed key beside its expired copy is enough: apt accepts any that verifies.
    newest: dict[str, AptKey] = {}
    for key in ours:
        kept = newest.get(key.user_id)
        if kept is None or (key.expires or 1 << 62) > (kept.expires or 1 << 62):
            newest[key.user_id] = key
    for key in newest.values():
        if key.expires is not None and key.expires <= now:
            return unsupported(
                "key-expired",
                msg(
                    "The signing key of {owner} expired on {day}; apt refuses its packages.",
                    owner=key.user_id,
                    day=_day(key.expires),
                ),
                evidence,
                (remedies.renew_key(key.path),),
            )
        if key.expires is not None and key.expires <= now + KEY_WARNING:
            return unsupported(
                "key-expires-soon",
                msg("The signing key of {owner} expires on {day}.", owner=key.user_id, day=_day(key.expires)),
                evidence,
                (remedies.renew_key(key.path),),
            )
    return supported(evidence)


def _signs_sgx(key: AptKey) -> bool:
    text = f"{key.user_id} {key.path}".lower()
    return key.fingerprint == remedies.KEY_FINGERPRINT or any(
        name in text for name in ("intel", "sgx", "fortanix", "gramine", "microsoft")
    )


def _day(time: int | None) -> str:
    if time is None:
        return "never"
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return str(time)


def _judge_packages(_facts: Facts, verdicts: Verdicts) -> Verdict:
    parts = ("psw.version", "psw.removed")
    detail = verdicts["psw.version"].detail
    lacking = next((name for name in parts if verdicts[name].status is not Status.SUPPORTED), None)
    if lacking is None:
        return supported(detail=detail)
    return Verdict(verdicts[lacking].status, "members", because=(lacking,), detail=detail)


CHECKS: tuple[Check, ...] = (
    Check("psw.library", msg("libsgx_enclave_common"), _judge_library, parent="psw"),
    Check(
        "psw.packages",
        msg("Platform software packages"),
        _judge_packages,
        parent="psw",
        uses=("psw.version", "psw.removed"),
        folds=True,
    ),
    Check("psw.version", msg("PSW version"), _judge_psw, parent="psw.packages", uses=("cpu.sgx", "flc.cpu")),
    Check(
        "psw.removed",
        msg("No packages that PSW 2.28 removed"),
        _judge_removed,
        parent="psw.packages",
        uses=("psw.version",),
    ),
)
HOST_CHECKS: tuple[Check, ...] = (
    Check("apt.repository", msg("Repository fits this release"), _judge_repository, parent="host"),
    Check("apt.keys", msg("Signing keys of repositories"), _judge_keys, parent="host"),
)
