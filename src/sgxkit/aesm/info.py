"""What an AESM daemon says of itself, without making or changing a key."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sgxkit.aesm.client import AesmClient
from sgxkit.aesm.codes import AesmCode, AesmError
from sgxkit.aesm.key_id import AttestationKeyId

# TARGETINFO (Intel SDM Vol. 3D, table TARGETINFO): MEASUREMENT 32, ATTRIBUTES 16, and more that is not shown.
_TARGET = struct.Struct("<32s16s")


@dataclass(frozen=True, slots=True)
class AesmInfo:
    """The keys it can quote with; for the one that it prefers, whom reports must be made for and how long quotes are.

    `quote_size` is None where the key is not initialised yet: a quote, or `AesmClient.initialise`, does that.
    """

    keys: tuple[AttestationKeyId, ...]
    selected: AttestationKeyId
    target_info: bytes
    qe_mrenclave: bytes
    quote_size: int | None


def read_info(client: AesmClient) -> AesmInfo:
    """Ask the daemon; raises AesmError and AesmConnectionError.

    The selection comes first: it makes the daemon load its plug-ins, which the count does not.
    """
    selected = client.select_key()
    keys = client.keys()
    target, _ = client.target_info(selected)
    try:
        size = client.quote_size(selected)
    except AesmError as error:
        if error.status != AesmCode.ATT_KEY_NOT_INITIALIZED:
            raise
        size = None
    mrenclave, _ = _TARGET.unpack_from(target)
    return AesmInfo(
        keys=tuple(AttestationKeyId.from_bytes(key) for key in keys),
        selected=AttestationKeyId.from_bytes(selected),
        target_info=target,
        qe_mrenclave=mrenclave,
        quote_size=size,
    )
