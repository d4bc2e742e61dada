"""What AESM answers with: ``aesm_error_t`` of Intel's aesm_error.h, and the error that carries it."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from sgxkit.errors import SgxkitError
from sgxkit.messages import Message, msg


class AesmCode(IntEnum):
    """Error codes by Intel's names, without the prefix AESM_."""

    SUCCESS = 0
    UNEXPECTED_ERROR = 1
    NO_DEVICE_ERROR = 2
    PARAMETER_ERROR = 3
    EPIDBLOB_ERROR = 4
    EPID_REVOKED_ERROR = 5
    GET_LICENSETOKEN_ERROR = 6
    SESSION_INVALID = 7
    MAX_NUM_SESSION_REACHED = 8
    PSDA_UNAVAILABLE = 9
    EPH_SESSION_FAILED = 10
    LONG_TERM_PAIRING_FAILED = 11
    NETWORK_ERROR = 12
    NETWORK_BUSY_ERROR = 13
    PROXY_SETTING_ASSIST = 14
    FILE_ACCESS_ERROR = 15
    SGX_PROVISION_FAILED = 16
    SERVICE_STOPPED = 17
    BUSY = 18
    BACKEND_SERVER_BUSY = 19
    UPDATE_AVAILABLE = 20
    OUT_OF_MEMORY_ERROR = 21
    MSG_ERROR = 22
    THREAD_ERROR = 23
    SGX_DEVICE_NOT_AVAILABLE = 24
    ENABLE_SGX_DEVICE_FAILED = 25
    PLATFORM_INFO_BLOB_INVALID_SIG = 26
    SERVICE_NOT_AVAILABLE = 27
    KDF_MISMATCH = 28
    OUT_OF_EPC = 29
    SERVICE_UNAVAILABLE = 30
    UNRECOGNIZED_PLATFORM = 31
    ECDSA_ID_MISMATCH = 32
    PATHNAME_BUFFER_OVERFLOW_ERROR = 33
    ERROR_STORED_KEY = 34
    PUB_KEY_ID_MISMATCH = 35
    INVALID_PCE_SIG_SCHEME = 36
    ATT_KEY_BLOB_ERROR = 37
    UNSUPPORTED_ATT_KEY_ID = 38
    UNSUPPORTED_LOADING_POLICY = 39
    INTERFACE_UNAVAILABLE = 40
    PLATFORM_LIB_UNAVAILABLE = 41
    ATT_KEY_NOT_INITIALIZED = 42
    ATT_KEY_CERT_DATA_INVALID = 43
    NO_PLATFORM_CERT_DATA = 44
    ERROR_REPORT = 45
    ENCLAVE_LOST = 46
    INVALID_REPORT = 47
    ENCLAVE_LOAD_ERROR = 48
    UNABLE_TO_GENERATE_QE_REPORT = 49
    KEY_CERTIFICATION_ERROR = 50
    CONFIG_UNSUPPORTED = 51


_HINTS = {
    AesmCode.UNEXPECTED_ERROR: msg("the daemon's log says why: `journalctl -u aesmd`"),
    AesmCode.NETWORK_ERROR: msg("the daemon fetches the platform's certificate: look at /etc/sgx_default_qcnl.conf"),
    AesmCode.SERVICE_UNAVAILABLE: msg("a plug-in is missing or did not start: libsgx-aesm-quote-ex-plugin"),
    AesmCode.UNSUPPORTED_ATT_KEY_ID: msg("libsgx-aesm-ecdsa-plugin is missing, or its quoting enclave did not load"),
    AesmCode.PLATFORM_LIB_UNAVAILABLE: msg("a quote provider is missing: libsgx-dcap-default-qpl"),
    AesmCode.ATT_KEY_NOT_INITIALIZED: msg("initialise the attestation key first, then ask again"),
    AesmCode.NO_PLATFORM_CERT_DATA: msg("the platform is not registered, or the PCCS does not have its certificate"),
    AesmCode.INVALID_REPORT: msg("the report was not made on this platform for this quoting enclave"),
}


def code_name(code: int) -> str:
    """The name of an error code; one that Intel's header does not have is called by its number."""
    return AesmCode(code).name if code in set(AesmCode) else f"AESM error {code}"


class AesmError(SgxkitError):
    """The daemon answered, and not with success: `status` is its code, `name` Intel's word for that."""

    code: ClassVar[str] = "aesm"
    exit_code: ClassVar[int] = 1

    def __init__(self, status: int, *, hint: Message | None = None) -> None:
        self.status = status
        self.name = code_name(status)
        hint = hint or (_HINTS.get(AesmCode(status)) if status in set(AesmCode) else None)
        super().__init__(msg("AESM answered {code}: {name}", code=status, name=self.name), hint=hint)


class AesmConnectionError(SgxkitError):
    """There is no daemon, or it did not answer in time, or what it answered is no response."""

    code: ClassVar[str] = "aesm-connection"
    exit_code: ClassVar[int] = 2
