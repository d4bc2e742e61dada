"""sgx-detect's ``--export`` as facts.

The export is YAML, printed after a banner line. Each key holds ``Ok: VALUE`` or ``Err: TEXT`` (newer serialisers
write the tags ``!Ok`` and ``!Err``). It has decoded fields, not registers: the registers are rebuilt from them,
bits that the export does not mention are 0. What sgx-detect does not record is `Unread` of kind ``unrecorded``.
Source: fortanix/rust-sgx, intel-sgx/sgxs-tools 0.9 (`SgxSupport`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sgxkit.errors import FormatError
from sgxkit.host.facts import (
    CpuFacts,
    CpuidLeaf,
    CpuidOfCpu,
    EfiContent,
    EfiVariable,
    Facts,
    Msr,
    MsrsOfCpu,
    Reading,
    ServiceFacts,
    Source,
    Unit,
    Unread,
    UnreadKind,
    unread_facts,
)
from sgxkit.messages import msg

MAX_EXPORT = 64 * 1024
"""Largest export in bytes; real ones have 1 to 2 KiB."""

MAX_NESTING = 16

UNRECORDED = Unread("unrecorded", "not in an sgx-detect export")

_BANNER = "Detecting SGX"
_KEYS = frozenset(
    {
        "cpuid_7h",
        "cpuid_12h_0",
        "cpuid_12h_1",
        "cpuid_12h_epc",
        "msr_3ah",
        "efi_epcbios",
        "efi_epcsw",
        "efi_softwareguardstatus",
    }
)
_EPC_PROTECTION = {
    "Invalid": 0,
    "ConfidentialityIntegrityProtected": 1,
    "ConfidentialityProtectedOnly": 2,
    "Unknown": 0xF,
}
_STATUS = {"Disabled": 0, "Enabled": 1, "SoftwareControlled": 2, "Unknown": 3}
_UNIT_STATES = {
    "Running": ("loaded", "active"),
    "Installed": ("loaded", "inactive"),
    "Absent": ("not-found", "inactive"),
}

_Tree = Mapping[str, Node]
_T = TypeVar("_T")


class _Loader(yaml.SafeLoader):
    """Composes nodes without aliases: an export has none, and they can make a small file large."""

    depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(AliasEvent):
            raise FormatError("$", msg("has a YAML alias"))
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise FormatError("$", msg("is nested more than {limit} deep", limit=MAX_NESTING))
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def is_sgx_detect_export(text: str) -> bool:
    """Tell whether `text` looks like an export: its banner, or one of its keys at the beginning of a line."""
    return text.startswith(_BANNER) or any(line.split(":", 1)[0] in _KEYS for line in text.splitlines()[:200])


def parse_sgx_detect_export(text: str) -> Facts:
    """Turn an export into facts; raises FormatError whose field is the path of the key that is wrong."""
    if len(text) > MAX_EXPORT:
        raise FormatError("$", msg("is larger than {limit} bytes", limit=MAX_EXPORT))
    if text.startswith(_BANNER):
        text = text.partition("\n")[2]
    try:
        root = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FormatError("$", msg("is not YAML: {reason}", reason=" ".join(str(error).split())[:200])) from error
    tree = _mapping(root, "$")
    if not _KEYS & tree.keys():
        raise FormatError("$", msg("has none of the keys of an sgx-detect export"))
    notes: list[str] = []

    def entry(key: str, read: Callable[[Node, str], _T]) -> Reading[_T]:
        if key not in tree:
            return UNRECORDED
        content = _result(tree[key], f"$.{key}")
        if isinstance(content, str):
            notes.append(f"{key}: {content}"[:500])
            return Unread(_kind(content), content[:500])
        return read(content, f"$.{key}.Ok")

    facts = unread_facts(Source("sgx-detect", "", None, None, None, "/", False, (), ()), UNRECORDED)
    cpu = _cpu(
        facts.cpu,
        entry("cpuid_7h", _leaf_7),
        entry("cpuid_12h_0", _leaf_12_0),
        entry("cpuid_12h_1", _leaf_12_1),
        entry("cpuid_12h_epc", _epc),
    )
    feature_control = entry("msr_3ah", _feature_control)
    variables = (
        EfiVariable("EPCBIOS", "c60aa7f6-e8d6-4956-8ba1-fe26298f5e87", entry("efi_epcbios", _epcbios)),
        EfiVariable("EPCSW", "d69a279b-58eb-45d1-a148-771bb9eb5251", entry("efi_epcsw", _epcsw)),
        EfiVariable(
            "SOFTWAREGUARDSTATUS",
            "9cb2e73f-7325-40f4-a484-659bb344c3cd",
            entry("efi_softwareguardstatus", _softwareguardstatus),
        ),
    )
    return replace(
        facts,
        source=replace(facts.source, notes=tuple(notes)),
        cpu=replace(cpu, msrs=(MsrsOfCpu(0, (Msr(0x3A, feature_control),)),)),
        firmware=replace(
            facts.firmware,
            variables=variables,
            boot_mode=UNRECORDED if all(isinstance(item.content, Unread) for item in variables) else "uefi",
        ),
        services=_services(facts.services, tree),
    )


def _cpu(cpu: CpuFacts, *readings: Reading[tuple[CpuidLeaf, ...]]) -> CpuFacts:
    leaves = tuple(leaf for reading in readings if not isinstance(reading, Unread) for leaf in reading)
    failures = [reading for reading in readings if isinstance(reading, Unread)]
    return replace(cpu, cpuid=(CpuidOfCpu(0, "export", leaves or failures[0]),))


def _leaf(leaf: int, subleaf: int, *, eax: int = 0, ebx: int = 0, ecx: int = 0, edx: int = 0) -> CpuidLeaf:
    return CpuidLeaf(leaf, subleaf, eax, ebx, ecx, edx)


def _leaf_7(node: Node, path: str) -> tuple[CpuidLeaf, ...]:
    tree = _mapping(node, path)
    return (_leaf(7, 0, ebx=_bool(tree, "sgx", path) << 2, ecx=_bool(tree, "sgx_lc", path) << 30),)


def _leaf_12_0(node: Node, path: str) -> tuple[CpuidLeaf, ...]:
    tree = _mapping(node, path)
    eax = (
        _bool(tree, "sgx1", path)
        | _bool(tree, "sgx2", path) << 1
        | _bool(tree, "enclv", path) << 5
        | _bool(tree, "oversub", path) << 6
    )
    edx = _log2(tree, "max_enclave_size_32", path) | _log2(tree, "max_enclave_size_64", path) << 8
    return (_leaf(0x12, 0, eax=eax, ebx=_number(tree, "miscselect_valid", path, 32), edx=edx),)


def _leaf_12_1(node: Node, path: str) -> tuple[CpuidLeaf, ...]:
    tree = _mapping(node, path)
    flags = _number(tree, "attributes_flags_valid", path, 64)
    xfrm = _number(tree, "attributes_xfrm_valid", path, 64)
    low = 0xFFFF_FFFF
    return (_leaf(0x12, 1, eax=flags & low, ebx=flags >> 32, ecx=xfrm & low, edx=xfrm >> 32),)


def _epc(node: Node, path: str) -> tuple[CpuidLeaf, ...]:
    if not isinstance(node, SequenceNode):
        raise FormatError(path, msg("is not a list"))
    if len(node.value) > 256:
        raise FormatError(path, msg("has more than {limit} entries", limit=256))
    leaves = [_epc_section(entry, subleaf, f"{path}[{subleaf - 2}]") for subleaf, entry in enumerate(node.value, 2)]
    return (*leaves, _leaf(0x12, 2 + len(leaves)))


def _epc_section(node: Node, subleaf: int, path: str) -> CpuidLeaf:
    if isinstance(node, ScalarNode):
        if node.value not in ("Unknown", "Invalid"):
            raise FormatError(path, msg("is none of {allowed}", allowed="Epc, Unknown, Invalid"))
        return _leaf(0x12, subleaf, eax=0xF if node.value == "Unknown" else 0)
    if node.tag != "!Epc":
        tree = _mapping(node, path)
        if "Epc" not in tree:
            raise FormatError(f"{path}.Epc", msg("is missing"))
        node, path = tree["Epc"], f"{path}.Epc"
    tree = _mapping(node, path)
    base, size = (_number(tree, key, path, 52) for key in ("phys_base", "phys_size"))
    protection = _choice(tree, "ty", path, _EPC_PROTECTION)
    return _leaf(
        0x12,
        subleaf,
        eax=base & 0xFFFF_F000 | 1,
        ebx=base >> 32,
        ecx=size & 0xFFFF_F000 | protection,
        edx=size >> 32,
    )


def _feature_control(node: Node, path: str) -> int:
    tree = _mapping(node, path)
    return _bool(tree, "locked", path) | _bool(tree, "sgx_lc", path) << 17 | _bool(tree, "sgx", path) << 18


def _epcbios(node: Node, path: str) -> EfiContent:
    tree = _mapping(node, path)
    epc_map = _field(tree, "epc_map", path)
    if not isinstance(epc_map, SequenceNode) or len(epc_map.value) != 32:
        raise FormatError(f"{path}.epc_map", msg("is not a list of {count} numbers", count=32))
    words = [_number(tree, key, path, 32) for key in ("prm_bins", "max_epc_size", "current_epc_size")]
    words += [_integer(entry, f"{path}.epc_map[{index}]", 32) for index, entry in enumerate(epc_map.value)]
    return _efi_content(struct.pack("<35I", *words))


def _epcsw(node: Node, path: str) -> EfiContent:
    return _efi_content(struct.pack("<I", _number(_mapping(node, path), "epc_size", path, 32)))


def _softwareguardstatus(node: Node, path: str) -> EfiContent:
    return _efi_content(bytes([_choice(_mapping(node, path), "status", path, _STATUS)]))


def _efi_content(data: bytes) -> EfiContent:
    return EfiContent(attributes=0, size=len(data), data=data.hex())


def _services(services: ServiceFacts, tree: _Tree) -> ServiceFacts:
    node = tree.get("aesm_status")
    if node is None or (isinstance(node, ScalarNode) and node.value in ("", "~", "null")):
        return services
    load_state, active_state = _UNIT_STATES[_named(node, "$.aesm_status", _UNIT_STATES)]
    return replace(services, units=(Unit("aesmd.service", load_state, active_state, "", "", ""),))


def _kind(text: str) -> UnreadKind:
    if "Permission denied" in text or "Operation not permitted" in text:
        return "permission"
    if "No such file" in text or "not found" in text:
        return "absent"
    return "error"


def _result(node: Node, path: str) -> Node | str:
    """Return the node under ``Ok``, or the text under ``Err``."""
    if node.tag == "!Ok":
        return node
    if node.tag == "!Err":
        return _text(node, path)
    tree = _mapping(node, path)
    if len(tree) == 1 and "Ok" in tree:
        return tree["Ok"]
    if len(tree) == 1 and "Err" in tree:
        return _text(tree["Err"], f"{path}.Err")
    raise FormatError(path, msg('is neither "Ok" nor "Err"'))


def _mapping(node: Node | None, path: str) -> _Tree:
    if not isinstance(node, MappingNode):
        raise FormatError(path, msg("is not an object"))
    result: dict[str, Node] = {}
    for key, value in node.value:
        name = _text(key, path)
        if name in result:
            raise FormatError(path, msg('has the key "{name}" twice', name=name[:100]))
        result[name] = value
    return result


def _text(node: Node, path: str) -> str:
    if not isinstance(node, ScalarNode):
        raise FormatError(path, msg("is not text"))
    text: str = node.value
    return text


def _field(tree: _Tree, key: str, path: str) -> Node:
    if key not in tree:
        raise FormatError(f"{path}.{key}", msg("is missing"))
    return tree[key]


def _bool(tree: _Tree, key: str, path: str) -> int:
    text = _text(_field(tree, key, path), f"{path}.{key}")
    if text not in ("true", "false"):
        raise FormatError(f"{path}.{key}", msg("is not true or false"))
    return int(text == "true")


def _number(tree: _Tree, key: str, path: str, bits: int) -> int:
    return _integer(_field(tree, key, path), f"{path}.{key}", bits)


def _integer(node: Node, path: str, bits: int) -> int:
    text = _text(node, path)
    digits = text[2:] if text.startswith("0x") else text
    allowed = set("0123456789abcdefABCDEF") if text.startswith("0x") else set("0123456789")
    if not digits or len(digits) > 20 or not set(digits) <= allowed:
        raise FormatError(path, msg("is not an integer"))
    value = int(digits, 16 if text.startswith("0x") else 10)
    if value >> bits:
        raise FormatError(path, msg("does not fit {bits} bits", bits=bits))
    return value


def _log2(tree: _Tree, key: str, path: str) -> int:
    value = _number(tree, key, path, 64)
    if value & (value - 1):
        raise FormatError(f"{path}.{key}", msg("is not a power of two"))
    return max(0, value.bit_length() - 1)


def _choice(tree: _Tree, key: str, path: str, values: Mapping[str, int]) -> int:
    return values[_named(_field(tree, key, path), f"{path}.{key}", values)]


def _named(node: Node, path: str, values: Mapping[str, object]) -> str:
    text = _text(node, path)
    if text not in values:
        raise FormatError(path, msg("is none of {allowed}", allowed=", ".join(values)))
    return text
