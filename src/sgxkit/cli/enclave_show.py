"""An enclave image and its signature as a tree for people, and as a JSON document."""

from __future__ import annotations

from typing import Any

from sgxkit.cli.tree import Node
from sgxkit.enclave.image import EnclaveImage
from sgxkit.enclave.regions import Region
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.page import PageType
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.messages import Message, msg

_LOUD = "bold white on red"


def _region(region: Region) -> Message:
    kind = f"{region.kind} {region.name}".strip()
    if region.measured == "all":
        return msg("{kind}, {pages} pages, measured", kind=kind, pages=region.pages)
    if region.measured == "part":
        return msg("{kind}, {pages} pages, measured in part", kind=kind, pages=region.pages)
    return msg("{kind}, {pages} pages, not measured", kind=kind, pages=region.pages)


def image_tree(path: str, image: EnclaveImage, mrenclave: bytes, found: list[Region]) -> Node:
    """Make the tree of an image."""
    root = Node(msg("enclave image {path}", path=path))
    root.add("MRENCLAVE", mrenclave.hex())
    root.add(msg("size"), f"{image.size:#x}")
    root.add("SSAFRAMESIZE", str(image.ssaframesize))
    if image.attributes is not None:
        _add_attributes(root, "ATTRIBUTES", image.attributes)
    pages = sum(region.pages for region in found)
    measured = sum(region.pages for region in found if region.measured != "none")
    layout = root.add(
        msg("layout"), msg("{pages} pages, {measured} of them measured", pages=pages, measured=measured)
    )
    for region in found:
        where = f"{region.offset:#014x} - {region.end:#014x}"
        layout.add(where, _region(region))
    if image.sigstruct is not None:
        _add_sigstruct(root.add("SIGSTRUCT"), image.sigstruct)
    return root


def sigstruct_tree(path: str, sigstruct: Sigstruct) -> Node:
    """Make the tree of a SIGSTRUCT."""
    root = Node(f"SIGSTRUCT {path}")
    _add_sigstruct(root, sigstruct)
    return root


def _add_attributes(node: Node, label: str, attributes: Attributes, *, loud: bool = True) -> None:
    names = " ".join(attributes.names) or "-"
    node.add(f"{label}.FLAGS", f"{attributes.flags:#018x} ({names})", _LOUD if loud and attributes.debug else "")
    node.add(f"{label}.XFRM", f"{attributes.xfrm:#018x}")


def _add_sigstruct(node: Node, sigstruct: Sigstruct) -> None:
    good = sigstruct.signature_holds and sigstruct.quotients_hold
    verdict = msg("holds") if good else msg("does NOT hold")
    node.add("MRSIGNER", sigstruct.mrsigner.hex())
    node.add("ENCLAVEHASH", sigstruct.enclavehash.hex())
    node.add(msg("signature"), verdict, "green" if good else "red")
    node.add("DATE", sigstruct.date_text)
    node.add("VENDOR", f"{sigstruct.vendor:#x}")
    node.add("SWDEFINED", f"{sigstruct.swdefined:#x}")
    node.add("ISVPRODID", str(sigstruct.isvprodid))
    node.add("ISVSVN", str(sigstruct.isvsvn))
    _add_attributes(node, "ATTRIBUTES", sigstruct.attributes)
    mask = sigstruct.attributemask
    node.add("ATTRIBUTEMASK", f"{mask.flags:#018x} {mask.xfrm:#018x}")
    node.add("MISCSELECT", f"{sigstruct.miscselect:#x} / {sigstruct.miscmask:#x}")
    node.add("CET_ATTRIBUTES", f"{sigstruct.cet_attributes:#x} / {sigstruct.cet_attributes_mask:#x}")
    node.add("ISVEXTPRODID", sigstruct.isvextprodid.hex())
    node.add("ISVFAMILYID", sigstruct.isvfamilyid.hex())


def image_document(image: EnclaveImage, mrenclave: bytes, found: list[Region]) -> dict[str, Any]:
    """Make the JSON document of an image."""
    return {
        "mrenclave": mrenclave.hex(),
        "size": image.size,
        "ssaframesize": image.ssaframesize,
        "attributes": None if image.attributes is None else _attributes(image.attributes),
        "miscselect": image.miscselect,
        "pages": sum(region.pages for region in found),
        "regions": [
            {
                "offset": region.offset,
                "pages": region.pages,
                "secinfo": region.secinfo.word,
                "type": PageType(region.secinfo.page_type).name,
                "measured": region.measured,
                "name": region.name,
            }
            for region in found
        ],
        "sigstruct": None if image.sigstruct is None else sigstruct_document(image.sigstruct),
    }


def sigstruct_document(sigstruct: Sigstruct) -> dict[str, Any]:
    """Make the JSON document of a SIGSTRUCT."""
    return {
        "mrsigner": sigstruct.mrsigner.hex(),
        "enclavehash": sigstruct.enclavehash.hex(),
        "signature_holds": sigstruct.signature_holds and sigstruct.quotients_hold,
        "date": sigstruct.date_text,
        "vendor": sigstruct.vendor,
        "swdefined": sigstruct.swdefined,
        "isvprodid": sigstruct.isvprodid,
        "isvsvn": sigstruct.isvsvn,
        "attributes": _attributes(sigstruct.attributes),
        "attributemask": _attributes(sigstruct.attributemask),
        "miscselect": sigstruct.miscselect,
        "miscmask": sigstruct.miscmask,
        "cet_attributes": sigstruct.cet_attributes,
        "cet_attributes_mask": sigstruct.cet_attributes_mask,
        "isvextprodid": sigstruct.isvextprodid.hex(),
        "isvfamilyid": sigstruct.isvfamilyid.hex(),
    }


def _attributes(attributes: Attributes) -> dict[str, Any]:
    return {"flags": attributes.flags, "xfrm": attributes.xfrm, "names": list(attributes.names)}
