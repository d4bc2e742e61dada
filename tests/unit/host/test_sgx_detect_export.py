from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.errors import FormatError, InputError
from sgxkit.host.collect import load_facts
from sgxkit.host.facts import EfiContent, Facts, Unit, Unread
from sgxkit.host.sgx_detect_export import MAX_EXPORT, UNRECORDED, parse_sgx_detect_export
from sgxkit.isa.cpuid import CpuidRegisters, EpcSection, SgxCapabilities, SgxEnumeration, decode_sgx
from sgxkit.isa.msr import decode_feature_control

BANNER = "Detecting SGX, this may take a minute...\n"
NO_FILE = 'Err: "Failed to read EFI variable: No such file or directory (os error 2)"'
DENIED = 'Err: "Failed to read EFI variable: Permission denied (os error 13)"'


def export(
    *,
    flc: bool = True,
    on: bool = True,
    sgx2: bool = True,
    epc: str = "ConfidentialityIntegrityProtected",
    msr: str = "Ok: {locked: true, sgx: true, sgx_lc: true}",
    epcbios: str = NO_FILE,
    epcsw: str = NO_FILE,
    status: str = "Ok: {status: Enabled}",
    aesm: str = "Running",
) -> str:
    """Compose an export of a machine, in sgx-detect's format."""
    lower = {True: "true", False: "false"}
    sections = f"\n    - Epc: {{ty: {epc}, phys_base: 0x70200000, phys_size: 0x5d80000}}" if on else " []"
    return f"""\
cpuid_7h:
  Ok:
    sgx: true
    sgx_lc: {lower[flc]}
cpuid_12h_0:
  Ok:
    sgx1: {lower[on]}
    sgx2: {lower[on and sgx2]}
    enclv: false
    oversub: false
    miscselect_valid: {int(on and sgx2)}
    max_enclave_size_32: {0x80000000 if on else 1}
    max_enclave_size_64: {0x1000000000 if on else 1}
cpuid_12h_1:
  Ok:
    attributes_flags_valid: {0x36 if on else 0}
    attributes_xfrm_valid: {0x1F if on else 0}
cpuid_12h_epc:
  Ok:{sections}
msr_3ah:
  {msr}
efi_epcbios:
  {epcbios}
efi_epcsw:
  {epcsw}
efi_softwareguardstatus:
  {status}
aesm_status: {aesm}
enclaveos_dev:
  Err: No such file or directory (os error 2)
node_agent:
  Err: "connection refused"
env_config: Generic
"""


def decoded(facts: Facts) -> SgxEnumeration:
    assert not isinstance(facts.cpu.cpuid, Unread)
    (cpu,) = facts.cpu.cpuid
    assert cpu.via == "export"
    assert not isinstance(cpu.leaves, Unread)
    return decode_sgx(
        {(leaf.leaf, leaf.subleaf): CpuidRegisters(leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) for leaf in cpu.leaves}
    )


def feature_control(facts: Facts) -> int | Unread:
    assert not isinstance(facts.cpu.msrs, Unread)
    return facts.cpu.msrs[0].value(0x3A)


@pytest.mark.parametrize("banner", ["", BANNER])
def test_a_healthy_machine(banner: str) -> None:
    facts = load_facts((banner + export()).encode())
    sgx = decoded(facts)
    assert sgx.features is not None
    assert (sgx.features.sgx, sgx.features.sgx_lc) == (True, True)
    assert sgx.capability is not None
    assert sgx.capability.capabilities == SgxCapabilities.SGX1 | SgxCapabilities.SGX2
    assert (sgx.capability.max_enclave_bytes_not64, sgx.capability.max_enclave_bytes_64) == (2**31, 2**36)
    assert sgx.attributes is not None
    assert (sgx.attributes.flags, sgx.attributes.xfrm) == (0x36, 0x1F)
    assert sgx.epc == (EpcSection(2, 1, 0x70200000, 0x5D80000, 1),)
    control = feature_control(facts)
    assert isinstance(control, int)
    assert decode_feature_control(control).launch_control_usable
    assert facts.firmware.variable("SOFTWAREGUARDSTATUS") == EfiContent(0, 1, "01")
    assert facts.firmware.boot_mode == "uefi"
    assert facts.services.unit("aesmd.service") == Unit("aesmd.service", "loaded", "active", "", "", "")
    assert facts.source.producer == "sgx-detect"
    assert any(note.startswith("efi_epcbios: ") for note in facts.source.notes)


def test_what_it_does_not_record_is_neither_absent_nor_known() -> None:
    facts = parse_sgx_detect_export(export())
    assert facts.devices.nodes == UNRECORDED
    assert facts.devices.node("/dev/sgx_enclave").status == UNRECORDED
    assert facts.kernel.release == UNRECORDED
    assert facts.launch.debug == UNRECORDED
    assert facts.aesm.reply(19) == UNRECORDED
    assert UNRECORDED.kind == "unrecorded"


def test_sgx1_without_launch_control_as_a_user() -> None:
    facts = parse_sgx_detect_export(
        export(flc=False, sgx2=False, msr='Err: "Failed to open MSR device: Permission denied (os error 13)"')
    )
    sgx = decoded(facts)
    assert sgx.features is not None
    assert not sgx.features.sgx_lc
    assert sgx.capability is not None
    assert sgx.capability.capabilities == SgxCapabilities.SGX1
    control = feature_control(facts)
    assert isinstance(control, Unread)
    assert control.kind == "permission"


def test_firmware_off() -> None:
    facts = parse_sgx_detect_export(
        export(
            on=False,
            msr="Ok: {locked: true, sgx: false, sgx_lc: false}",
            status="Ok: {status: Disabled}",
            aesm="Absent",
        )
    )
    sgx = decoded(facts)
    assert sgx.capability is not None
    assert (sgx.capability.sgx1, sgx.capability.max_enclave_bytes_64, sgx.epc) == (False, 0, ())
    assert feature_control(facts) == 1
    assert facts.firmware.variable("SOFTWAREGUARDSTATUS") == EfiContent(0, 1, "00")
    assert facts.services.unit("aesmd.service") == Unit("aesmd.service", "not-found", "inactive", "", "", "")


def test_software_control_pending() -> None:
    sizes = ["0"] * 5 + ["0x15d0000", "0x2da0000", "0x5d40000"] + ["0"] * 24
    epcbios = f"Ok: {{prm_bins: 0xe0, max_epc_size: 0x5d40000, current_epc_size: 0, epc_map: [{', '.join(sizes)}]}}"
    facts = parse_sgx_detect_export(
        export(
            on=False, epcbios=epcbios, epcsw="Ok: {epc_size: 0x5d40000}", status="Ok: {status: SoftwareControlled}"
        )
    )
    content = facts.firmware.variable("EPCBIOS")
    assert isinstance(content, EfiContent)
    assert content.size == 140
    assert content.data is not None
    assert content.data.startswith("e0000000" + "0000d405" + "00000000" + "00" * 20 + "00005d01" + "0000da02")
    assert facts.firmware.variable("EPCSW") == EfiContent(0, 4, "0000d405")
    assert facts.firmware.variable("SOFTWAREGUARDSTATUS") == EfiContent(0, 1, "02")


def test_refused_efi_variables_are_not_absent() -> None:
    facts = parse_sgx_detect_export(export(epcbios=DENIED, epcsw=DENIED, status=NO_FILE))
    kinds = {
        name: content.kind
        for name in ("EPCBIOS", "EPCSW", "SOFTWAREGUARDSTATUS")
        if isinstance(content := facts.firmware.variable(name), Unread)
    }
    assert kinds == {"EPCBIOS": "permission", "EPCSW": "permission", "SOFTWAREGUARDSTATUS": "absent"}
    assert facts.firmware.boot_mode == UNRECORDED


@pytest.mark.parametrize(
    ("name", "protection"), [("ConfidentialityProtectedOnly", 2), ("Unknown", 0xF), ("Invalid", 0)]
)
def test_protections_of_the_epc(name: str, protection: int) -> None:
    (section,) = decoded(parse_sgx_detect_export(export(epc=name))).epc
    assert (section.protection, section.usable) == (protection, True)


def test_unknown_sections_and_tags() -> None:
    text = (
        "cpuid_12h_epc: !Ok\n- Unknown\n- !Epc {ty: Unknown, phys_base: 0, phys_size: 4096}\nmsr_3ah: !Err 'no msr'\n"
    )
    facts = parse_sgx_detect_export(text)
    first, second = decoded(facts).epc
    assert (first.type, first.usable) == (0xF, False)
    assert (second.size, second.usable) == (4096, True)
    control = feature_control(facts)
    assert isinstance(control, Unread)
    assert control.text == "no msr"


def test_no_cpuid_at_all() -> None:
    facts = parse_sgx_detect_export("cpuid_7h: {Err: CPUID leaf 7h is not valid}\n")
    assert not isinstance(facts.cpu.cpuid, Unread)
    reason = facts.cpu.cpuid[0].leaves
    assert isinstance(reason, Unread)
    assert reason.text == "CPUID leaf 7h is not valid"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("sgx_lc: true\ncpuid", "sgx_lc: yes\ncpuid", "$.cpuid_7h.Ok.sgx_lc"),
        ("    sgx: true\n", "", "$.cpuid_7h.Ok.sgx"),
        ("max_enclave_size_32: 2147483648", "max_enclave_size_32: 3", "$.cpuid_12h_0.Ok.max_enclave_size_32"),
        ("attributes_xfrm_valid: 31", "attributes_xfrm_valid: -1", "$.cpuid_12h_1.Ok.attributes_xfrm_valid"),
        ("miscselect_valid: 1", "miscselect_valid: 0x100000000", "$.cpuid_12h_0.Ok.miscselect_valid"),
        ("phys_size: 0x5d80000", "phys_size: []", "$.cpuid_12h_epc.Ok[0].Epc.phys_size"),
        ("phys_base: 0x70200000", "phys_base: 1" + "0" * 30, "$.cpuid_12h_epc.Ok[0].Epc.phys_base"),
        ("ConfidentialityIntegrityProtected", "Strong", "$.cpuid_12h_epc.Ok[0].Epc.ty"),
        ("- Epc", "- Pce", "$.cpuid_12h_epc.Ok[0].Epc"),
        ("status: Enabled", "status: On", "$.efi_softwareguardstatus.Ok.status"),
        ("aesm_status: Running", "aesm_status: Walking", "$.aesm_status"),
        ("cpuid_7h:\n  Ok:", "cpuid_7h:\n  Yes:", "$.cpuid_7h"),
        ("cpuid_12h_1:\n", "cpuid_7h:\n", "$"),
        ("sgx: true", "sgx: &a true", ""),
    ],
)
def test_errors_name_the_key(old: str, new: str, field: str) -> None:
    text = export()
    assert text.count(old) >= 1
    changed = text.replace(old, new, 1)
    if not field:
        assert decoded(parse_sgx_detect_export(changed)) == decoded(parse_sgx_detect_export(text))
        return
    with pytest.raises(FormatError) as caught:
        parse_sgx_detect_export(changed)
    assert caught.value.field == field


HOSTILE = [
    "",
    "just words",
    "cpuid_7h: [",
    "cpuid_7h: &x {Ok: *x}",
    "a: &a [1]\ncpuid_7h: *a",
    "cpuid_7h: " + "[" * 1000,
    "cpuid_7h: " + "- " * 1000,
    "cpuid_7h: {? {a: b} : c}",
    "%YAML 9.9\n---\ncpuid_7h: {Ok: 1}",
    "cpuid_7h: {Ok: 1}\n---\nmsr_3ah: {Ok: 1}",
    "cpuid_7h: \x00",
    "cpuid_7h: " + "x" * MAX_EXPORT,
    "unrelated: 1",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:20].encode("unicode_escape").decode())
def test_hostile_exports_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_sgx_detect_export(text)
    with pytest.raises(FormatError):
        load_facts(text.encode())


@given(st.text(max_size=200) | st.text("cpuid_7h:{}[]&*! Ok\n-", max_size=60).map(lambda text: "cpuid_7h: " + text))
def test_arbitrary_text_raises_only_format_errors(text: str) -> None:
    try:
        facts = parse_sgx_detect_export(text)
    except FormatError:
        return
    assert facts.source.producer == "sgx-detect"


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_only_format_errors(data: bytes) -> None:
    with pytest.raises(FormatError):
        load_facts(data)


def test_files_of_both_kinds_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "export.yaml").write_text(BANNER + export())
    facts = load_facts(tmp_path / "export.yaml")
    (tmp_path / "facts.json").write_bytes(b"\xef\xbb\xbf\n " + json.dumps(facts.to_json()).encode())
    assert load_facts(str(tmp_path / "facts.json")) == facts
    with pytest.raises(InputError, match="No such file"):
        load_facts(tmp_path / "none")
    with pytest.raises(InputError, match="Is a directory"):
        load_facts(tmp_path)
