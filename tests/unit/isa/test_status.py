from __future__ import annotations

import pytest

from sgxkit.isa.leaf import Encls, Enclu
from sgxkit.isa.status import SgxError, Status, require_success


def test_an_error_names_the_leaf_and_the_status() -> None:
    error = SgxError(Encls.EINIT, Status.SGX_INVALID_MEASUREMENT)
    assert str(error) == "EINIT failed with SGX_INVALID_MEASUREMENT (4)"
    assert (error.code, error.leaf, error.status) == ("sgx", Encls.EINIT, Status.SGX_INVALID_MEASUREMENT)


def test_success_passes() -> None:
    require_success(Enclu.EACCEPT, Status.SGX_SUCCESS)


@pytest.mark.parametrize("status", [status for status in Status if status])
def test_everything_else_is_raised(status: Status) -> None:
    with pytest.raises(SgxError, match=status.name):
        require_success(Enclu.EGETKEY, status)
