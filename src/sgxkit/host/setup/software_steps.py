"""Steps for Intel's packages: their repository, AESM, the quote provider, the PCCS, registration."""

from __future__ import annotations

from collections.abc import Iterator

from sgxkit.host.checks.check import Verdicts
from sgxkit.host.checks.evidence import known
from sgxkit.host.checks.software import REMOVED
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts
from sgxkit.host.qcnl import lint
from sgxkit.host.remedies import quoting, software
from sgxkit.host.remedies.distribution import Distribution
from sgxkit.host.setup.actions import (
    AddAptRepository,
    AddRpmRepository,
    AddUserToGroup,
    AskPerson,
    DisableUnit,
    EnableUnit,
    InstallPackages,
    ReloadSystemd,
    RemoveFile,
    RemovePackages,
    RepositoryKey,
    RestartUnit,
    StartUnit,
    UnpackRepository,
    WriteFile,
)
from sgxkit.host.setup.observed import Observed, holds
from sgxkit.host.setup.options import Aesm, Options
from sgxkit.host.setup.step import Step
from sgxkit.messages import Message, msg

KEYRING = software.KEYRING
SOURCES = "/etc/apt/sources.list.d/intel-sgx.sources"
QCNL = "/etc/sgx_default_qcnl.conf"
LOCAL_PCCS = "https://localhost:8081/sgx/certification/v4/"
CONTAINER_UNIT = "container-aesmd.service"
_RPM_KEYRING = "/etc/pki/rpm-gpg/RPM-GPG-KEY-intel-sgx"
_INTEL_KEY = RepositoryKey(software.KEY_URL, software.KEY_FINGERPRINT)
_QUADLET = {"debian": 13, "ubuntu": 24, "fedora": 38, "rhel": 9, "centos": 9, "rocky": 9, "almalinux": 9, "sles": 16}
"""First release whose Podman is 4.4 or later."""
_WITHOUT_PODMAN = frozenset({("debian", "10"), ("ubuntu", "16.04"), ("ubuntu", "18.04"), ("ubuntu", "20.04")})


def packages_are_for(distro: Distribution, options: Options) -> bool:
    """Whether a repository with current packages is known for this system."""
    if distro.packager == "none":
        return False
    return options.repo_url is not None or distro.online or distro.archive is not None


def aesm_way(distro: Distribution, options: Options) -> Aesm:
    """How AESM comes onto this host."""
    if options.aesm is not None:
        return options.aesm
    if not options.purpose.aesm:
        return "none"
    if packages_are_for(distro, options):
        return "apt"
    return "docker" if (distro.id, distro.version) in _WITHOUT_PODMAN else "podman"


def repository_steps(distro: Distribution, verdicts: Verdicts, options: Options, prefix: str) -> Iterator[Step]:
    """A repository with Intel's packages, trusted by its own key and for itself alone."""
    if distro.packager == "none":
        return
    key = options.repo_key or _INTEL_KEY
    renews = verdicts["apt.keys"].status in (Status.UNSUPPORTED, Status.FATAL)
    why = msg("Intel's packages for SGX come from this repository.")
    unpacked = "/opt/intel/sgx_debian_local_repo" if distro.packager == "apt" else "/opt/intel/sgx_rpm_local_repo"
    uri: str
    risks: tuple[Message, ...] = (msg("The key is taken only if its fingerprint is {fingerprint}.",
                                      fingerprint=key.fingerprint),)  # fmt: skip
    if options.repo_url is not None:
        uri = options.repo_url
    elif distro.packager == "apt" and (distro.online or distro.frozen):
        uri = "https://download.01.org/intel-sgx/sgx_repo/ubuntu"
        if distro.frozen:
            risks += (msg("Intel no longer feeds this release: its packages are of 2024 and get no fixes."),)
    else:
        archive = unpacked.rsplit("/", 1)[1]
        uri = f"file://{unpacked}"
        key = options.repo_key or RepositoryKey(f"file://{unpacked}/keys/intel-sgx.key", software.KEY_FINGERPRINT)
        yield Step(
            f"{prefix}.archive",
            UnpackRepository(f"{software.DOWNLOADS}/linux-latest/distro/{distro.archive}/{archive}.tgz", unpacked),
            msg("For this system Intel publishes its repository as an archive only."),
            risks=(msg("It does not update itself: a newer release is another archive."),),
        )
    if distro.packager == "apt":
        yield Step(
            f"{prefix}.source",
            AddAptRepository(uri, distro.codename or "stable", ("main",), SOURCES, KEYRING, key),
            why,
            risks=risks,
            renews=renews,
        )
    else:
        yield Step(
            f"{prefix}.source",
            AddRpmRepository(distro.packager, "intel-sgx", uri, _RPM_KEYRING, key),
            why,
            risks=risks,
        )


def leftover_steps(facts: Facts, distro: Distribution) -> Iterator[Step]:
    """What guides of the EPID days left behind, and what stands in the way of today's packages."""
    for file in known(facts.software.apt_sources) or ():
        in_folder = file.path.startswith("/etc/apt/sources.list.d/")
        if in_folder and any(line.startswith("deb ") and "<http" in line for line in file.text.splitlines()):
            yield Step(
                f"leftover.{file.path.rsplit('/', 1)[1]}",
                RemoveFile(file.path),
                msg("An entry of apt's sources is malformed, so apt refuses all of them: {path}.", path=file.path),
            )
    old = sorted({
        package.name for package in known(facts.software.packages) or () if package.status == "installed"
    } & REMOVED)  # fmt: skip
    if old and distro.packager != "none":
        yield Step(
            "leftover.packages",
            RemovePackages(distro.packager, tuple(old)),
            msg("These packages no longer exist since PSW 2.28 and clash with today's."),
            risks=(
                msg("Programs that still ask for EPID or for launch tokens stop working."),
                msg("Taking this back needs a repository that still has these versions."),
            ),
        )


def aesm_steps(
    facts: Facts, verdicts: Verdicts, distro: Distribution, options: Options, seen: Observed
) -> Iterator[Step]:
    """AESM with quote-ex and the ECDSA plug-in, the quote provider, and its configuration."""
    way = aesm_way(distro, options)
    if way == "none":
        return
    served = verdicts["aesm"].status is Status.SUPPORTED and verdicts["aesm.plugins"].status is Status.SUPPORTED
    if options.aesm is None and served:
        yield from _provider_steps(facts, options, seen, unit="aesmd.service", after=())
        return
    if way == "apt":
        yield from _packaged(facts, verdicts, distro, options, seen)
    else:
        yield from _contained(facts, distro, options, seen, way)


def _packaged(
    facts: Facts, verdicts: Verdicts, distro: Distribution, options: Options, seen: Observed
) -> Iterator[Step]:
    if distro.packager == "none" or not (packages_are_for(distro, options) or distro.frozen):
        yield Step(
            "packages.none",
            AskPerson("packages.none"),
            msg("Intel has no packages for this system."),
            ends=True,
            todo=(msg("Choose --aesm podman or --aesm docker, or name a repository with --repo-url."),),
            link=software.GUIDE,
        )
        return
    yield from leftover_steps(facts, distro)
    names = tuple(
        dict.fromkeys((*(("libsgx-urts",) if distro.packager != "apt" else ()), *software.AESM, *software.QUOTING))
    )
    install = InstallPackages(distro.packager, names)
    if holds(install, seen) is not True or verdicts["apt.keys"].failed:
        yield from repository_steps(distro, verdicts, options, "repository")
    yield Step(
        "packages.quoting",
        install,
        msg("AESM, its quote plug-ins and the quote provider; no other package brings the provider along."),
        risks=(msg("Packages of before PSW 2.28 and of after do not mix."),),
    )
    for group, why in (
        ("sgx_prv", msg("AESM's quoting enclave needs the provision device.")),
        ("sgx", msg("AESM needs the enclave device.")),
    ):
        yield Step(f"member.aesmd.{group}", AddUserToGroup("aesmd", group), why)
    unit = known(facts.services.unit(CONTAINER_UNIT))
    if unit is not None and unit.load_state == "loaded":
        yield _disable(CONTAINER_UNIT)
    yield from _provider_steps(
        facts,
        options,
        seen,
        unit="aesmd.service",
        after=("packages.quoting", "member.aesmd.sgx_prv", "member.aesmd.sgx"),
    )
    yield Step("aesm.enable", EnableUnit("aesmd.service"), msg("AESM runs now and at every boot."))


def _disable(unit: str) -> Step:
    return Step(
        "aesm.other",
        DisableUnit(unit),
        msg("Only one AESM may run: the one that starts later takes the socket away from the other."),
    )


def _contained(facts: Facts, distro: Distribution, options: Options, seen: Observed, way: Aesm) -> Iterator[Step]:
    tools = {tool.name for tool in known(facts.software.tools) or ()}
    engine: dict[str, tuple[str, ...]] = {
        "apt": ("docker.io",) if way == "docker" else ("podman",),
        "dnf": ("moby-engine",) if way == "docker" else ("podman",),
        "zypper": ("docker",) if way == "docker" else ("podman",),
    }
    if way not in tools:
        if distro.packager == "none":
            yield Step(
                "container.engine",
                AskPerson("container.engine"),
                msg("AESM is to run in a container, and {engine} is not installed.", engine=way),
                ends=True,
                todo=(msg("Install {engine} as your system's manual says.", engine=way),),
            )
            return
        yield Step(
            "container.engine",
            InstallPackages(distro.packager, engine[distro.packager]),
            msg("AESM is to run in a container, and {engine} is not installed.", engine=way),
        )
    unit = known(facts.services.unit("aesmd.service"))
    if unit is not None and unit.load_state == "loaded" and (unit.active_state == "active"):
        yield _disable("aesmd.service")
    yield from _provider_steps(facts, options, seen, unit=None, after=())
    pinned = "@sha256:" in options.aesm_image
    risks = () if pinned else (msg("The image is named by a tag, which may change; pin it with --aesm-image."),)
    why = msg("AESM runs in a container from the image {image}, now and at every boot.", image=options.aesm_image)
    if way == "podman" and _has_quadlet(distro):
        path, text, name = "/etc/containers/systemd/aesmd.container", _quadlet(options.aesm_image), "aesmd.service"
    else:
        path, text, name = f"/etc/systemd/system/{CONTAINER_UNIT}", _unit(way, options.aesm_image), CONTAINER_UNIT
    yield Step("container.unit", WriteFile(path, text), why, risks=risks)
    yield Step("container.reload", ReloadSystemd(), msg("systemd reads the new unit."), after=("container.unit",))
    start = StartUnit(name) if path.endswith(".container") else EnableUnit(name)
    yield Step("container.enable", start, why)
    yield Step(
        "container.restart",
        RestartUnit(name),
        msg("The configuration is read once, at the start."),
        after=("provider.configuration", "container.unit"),
    )


def _has_quadlet(distro: Distribution) -> bool:
    major = distro.version.split(".")[0]
    return major.isdecimal() and len(major) < 4 and int(major) >= _QUADLET.get(distro.id, 1000)


def _quadlet(image: str) -> str:
    return (
        "[Unit]\n"
        "Description=SGX architectural enclave service manager (AESM)\n"
        "After=network-online.target\n"
        "\n"
        "[Container]\n"
        f"Image={image}\n"
        "ContainerName=aesmd\n"
        "AddDevice=/dev/sgx_enclave\n"
        "AddDevice=/dev/sgx_provision\n"
        "Volume=/run/aesmd:/var/run/aesmd:z\n"
        f"Volume={QCNL}:{QCNL}:ro,z\n"
        "\n"
        "[Service]\n"
        "RuntimeDirectory=aesmd\n"
        "RuntimeDirectoryMode=0755\n"
        "Restart=always\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def _unit(engine: str, image: str) -> str:
    label = ":z" if engine == "podman" else ""
    return (
        "[Unit]\n"
        "Description=SGX architectural enclave service manager (AESM) in a container\n"
        + (
            "After=docker.service network-online.target\nRequires=docker.service\n"
            if engine == "docker"
            else "After=network-online.target\n"
        )
        + "\n[Service]\n"
        "RuntimeDirectory=aesmd\n"
        "RuntimeDirectoryMode=0755\n"
        f"ExecStartPre=-/usr/bin/{engine} rm --force aesmd\n"
        f"ExecStart=/usr/bin/{engine} run --rm --name aesmd --device /dev/sgx_enclave --device /dev/sgx_provision "
        f"--volume /run/aesmd:/var/run/aesmd{label} --volume {QCNL}:{QCNL}:ro{',z' if label else ''} "
        f"{image.replace('%', '%%')}\n"
        f"ExecStop=/usr/bin/{engine} stop --time 10 aesmd\n"
        "Restart=always\n"
        "RestartSec=5\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def provider_text(cloud: str | None, pccs: str | None) -> str:
    """The quote provider's configuration, checked as Intel's library reads it."""
    url = LOCAL_PCCS if pccs == "local" else pccs
    members = quoting.provider_members(cloud, url, secure=pccs != "local")
    text = "{\n  " + ",\n  ".join(members) + "\n}\n"
    assert not [finding for finding in lint(text).findings if finding.severity == "error"]
    return text


def _provider_steps(
    facts: Facts, options: Options, seen: Observed, *, unit: str | None, after: tuple[str, ...]
) -> Iterator[Step]:
    if options.purpose.quote_provider:
        present = seen.files.get(QCNL)
        text = "" if present is None or present.content is None else present.content.decode("utf-8", "replace")
        configured = known(facts.quote_provider.configuration)
        if QCNL not in seen.files and configured is not None and configured.path == QCNL:
            text = configured.text
        if options.pccs is not None or not _serves(text):
            cloud = known(facts.system.cloud)
            risks: tuple[Message, ...] = ()
            if options.pccs is None and cloud == "alibaba":
                risks = (msg("Put your region into the URL: REGION stands for it."),)
            if options.pccs == "local":
                risks = (msg("The PCCS's own certificate is not checked; it is this host's."),)
            yield Step(
                "provider.configuration",
                WriteFile(QCNL, provider_text(cloud, options.pccs)),
                msg("The quote provider must know where certificates come from."),
                risks=risks,
            )
    if unit is not None:
        yield Step(
            "aesm.restart",
            RestartUnit(unit),
            msg("AESM reads its configuration, its groups and its plug-ins once, at its start."),
            after=(*after, "provider.configuration"),
        )


def _serves(text: str) -> bool:
    """Whether an existing configuration is sound and was written for somewhere, not the untouched sample."""
    if not text.strip():
        return False
    report = lint(text)
    return (
        not any(finding.severity == "error" for finding in report.findings)
        and "pccs_url" in text.lower()
        and (report.config.pccs_url != LOCAL_PCCS)
    )


def pccs_steps(
    facts: Facts, verdicts: Verdicts, distro: Distribution, options: Options, seen: Observed
) -> Iterator[Step]:
    """A PCCS of this host's own."""
    if options.profile != "pccs" and options.pccs != "local":
        return
    if distro.packager == "none" or not packages_are_for(distro, options):
        yield Step(
            "pccs.none",
            AskPerson("pccs.none"),
            msg("Intel has no packages for this system."),
            ends=True,
            todo=(msg("Choose another system for the PCCS, or name a repository with --repo-url."),),
            link=software.GUIDE,
        )
        return
    install = InstallPackages(distro.packager, ("sgx-dcap-pccs",))
    if holds(install, seen) is not True:
        yield from repository_steps(distro, verdicts, options, "pccs")
    yield Step(
        "pccs.package",
        install,
        msg("The PCCS caches certificates and collateral for this host or for many."),
        risks=(msg("It needs Node.js 22.13 or later, which most systems do not have among their packages."),),
    )
    unit = known(facts.services.unit("pccs.service"))
    if unit is None or unit.unit_file_state != "enabled":
        yield Step(
            "pccs.configure",
            AskPerson("pccs.configure"),
            msg("The PCCS needs a key of Intel's service, tokens of yours and a certificate, which only you have."),
            todo=(msg("Run its set-up, which asks for them, and start it."),),
            commands=(
                "sudo -u pccs /opt/intel/sgx-dcap-pccs/install.sh",
                "systemctl enable --now pccs",
                "curl -k https://localhost:8081/sgx/certification/v4/rootcacrl",
            ),
            link="https://api.portal.trustedservices.intel.com/",
        )


def registration_steps(verdicts: Verdicts, distro: Distribution, options: Options, seen: Observed) -> Iterator[Step]:
    """Registration of a server platform with Intel, without which its quotes have no certificate."""
    verdict = verdicts["registration"]
    if not options.purpose.quote_provider or not verdict.failed or verdict.cause is None:
        return
    if verdict.code not in ("not-registered", "not-registered-automatic-off") or distro.packager == "none":
        yield Step(
            "registration.person",
            AskPerson("registration"),
            verdict.cause,
            todo=tuple(remedy.title for remedy in verdict.remedies),
            commands=tuple(line for remedy in verdict.remedies for line in remedy.commands),
        )
        return
    if verdict.code == "not-registered-automatic-off":
        remedy = quoting.AUTO_REGISTRATION_IN_BIOS
        yield Step(
            "registration.bios",
            AskPerson("registration.bios"),
            verdict.cause,
            todo=(remedy.title,),
            commands=remedy.commands,
            link=remedy.link,
        )
    install = InstallPackages(distro.packager, ("sgx-ra-service",))
    if not packages_are_for(distro, options):
        return
    if aesm_way(distro, options) != "apt" and holds(install, seen) is not True:
        yield from repository_steps(distro, verdicts, options, "registration")
    yield Step(
        "registration.agent",
        install,
        verdict.cause,
        risks=(
            msg("The agent sends the platform's manifest to Intel, at the next boot."),
            msg("Its unit being inactive (dead) afterwards is normal; /var/log/mpa_registration.log tells."),
        ),
        reboot=True,
    )
