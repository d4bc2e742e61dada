"""What the commands of relying parties have in common: the options that say what is expected of a peer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sgxkit.verifier.peer import PeerVerifier


def option(name: str, help_: str, *, metavar: str | None = None) -> Any:
    """An option of the command line without a shown default."""
    return typer.Option(name, help=help_, metavar=metavar, show_default=False)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the options say; `verifier` makes of it who judges."""

    policy: Path | None
    trusted_root: Path | None
    mrenclave: list[str] | None
    mrsigner: list[str] | None
    isvprodid: int | None
    min_isvsvn: int | None
    accept: list[str] | None
    allow_debug: bool
    collateral: Path | None
    pcs: str | None
    pccs: str | None
    root_crl: str | None
    ca_file: Path | None
    offline: bool

    def verifier(self) -> PeerVerifier:
        """Return who judges peers by these options; raises InputError and FormatError."""
        from sgxkit.cli.collateral import chosen_source
        from sgxkit.dcap import Verifier
        from sgxkit.dcap.policy_file import policy_from_settings, read_policy_file
        from sgxkit.verifier.peer import PeerVerifier

        given = {
            "trust_anchor": None if self.trusted_root is None else str(self.trusted_root.absolute()),
            "accepted_statuses": ["UpToDate", *self.accept] if self.accept else None,
            "allow_debug": self.allow_debug or None,
            "mrenclave": self.mrenclave,
            "mrsigner": self.mrsigner,
            "isvprodid": self.isvprodid,
            "minimum_isvsvn": self.min_isvsvn,
        }
        base = None if self.policy is None else read_policy_file(self.policy)
        chosen = policy_from_settings({name: value for name, value in given.items() if value is not None}, base=base)
        source = chosen_source(
            bundle=self.collateral,
            pcs=self.pcs,
            pccs=self.pccs,
            root_crl=self.root_crl,
            ca_file=self.ca_file,
            insecure=False,
            offline=self.offline,
        )
        return PeerVerifier(Verifier(chosen.policy, trust_anchor=chosen.trust_anchor), source)


def with_expectations(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command, in place of its parameter `expected`, the options that `Expected` is made of."""
    signature = inspect.signature(function, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "expected"]

    @functools.wraps(function)
    def run(*args: Any, **given: Any) -> None:
        expected = Expected(**{name: given.pop(name) for name in _OPTIONS})
        function(*args, **given, expected=expected)

    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=False if name in _FLAGS else None
        )
        for name, annotation in _OPTIONS.items()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]  # read by command
    return run


_OPTIONS: dict[str, Any] = {
    "policy": Annotated[Path | None, option("--policy", "A TOML file of what is expected.")],
    "trusted_root": Annotated[
        Path | None, option("--trusted-root", "PEM certificate of the root to trust instead of Intel's.")
    ],
    "mrenclave": Annotated[list[str] | None, option("--mrenclave", "MRENCLAVE; may be repeated.")],
    "mrsigner": Annotated[list[str] | None, option("--mrsigner", "MRSIGNER; may be repeated.")],
    "isvprodid": Annotated[int | None, option("--isvprodid", "ISVPRODID.")],
    "min_isvsvn": Annotated[int | None, option("--min-isvsvn", "Lowest ISVSVN.")],
    "accept": Annotated[
        list[str] | None, option("--accept", "TCB status to accept beside UpToDate; may be repeated.")
    ],
    "allow_debug": Annotated[bool, option("--allow-debug", "Accept enclaves and TDs in debug mode.")],
    "collateral": Annotated[Path | None, option("--collateral", "A bundle file; nothing is fetched.")],
    "pcs": Annotated[str | None, option("--pcs", "Fetch from this PCS [default: Intel's].", metavar="URL")],
    "pccs": Annotated[str | None, option("--pccs", "Fetch from this PCCS.", metavar="URL")],
    "root_crl": Annotated[
        str | None, option("--root-crl", "The root CRL of a PCS that is not Intel's.", metavar="URL")
    ],
    "ca_file": Annotated[
        Path | None, option("--ca-file", "PEM certificates that the collateral service's TLS certificate may be by.")
    ],
    "offline": Annotated[bool, option("--offline", "Use a bundle or the cache only.")],
}
_FLAGS = ("allow_debug", "offline")
