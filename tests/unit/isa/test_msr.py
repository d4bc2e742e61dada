from __future__ import annotations

import pytest

from sgxkit.isa.msr import (
    INTEL_LAUNCH_KEY_HASH,
    FeatureControl,
    MicrocodeRevision,
    decode_bios_sign_id,
    decode_feature_control,
    is_preproduction,
    launch_key_hash,
)


@pytest.mark.parametrize(
    ("value", "sgx_usable", "launch_control_usable"),
    [
        (0x0000_0000, False, False),
        (0x0000_0005, False, False),
        (0x0004_0000, False, False),
        (0x0004_0005, True, False),
        (0x0002_0001, False, False),
        (0x0006_0000, False, False),
        (0x0006_0005, True, True),
        (0xFFFF_FFFF_FFFF_FFFF, True, True),
    ],
)
def test_features_work_only_when_locked(value: int, sgx_usable: bool, launch_control_usable: bool) -> None:
    control = decode_feature_control(value)
    assert (control.sgx_usable, control.launch_control_usable) == (sgx_usable, launch_control_usable)


def test_feature_control_bits() -> None:
    assert decode_feature_control(1 << 0) == FeatureControl(True, False, False, False)
    assert decode_feature_control(1 << 2) == FeatureControl(False, True, False, False)
    assert decode_feature_control(1 << 17) == FeatureControl(False, False, True, False)
    assert decode_feature_control(1 << 18) == FeatureControl(False, False, False, True)
    assert decode_feature_control((1 << 64) - 1 ^ (1 | 1 << 2 | 3 << 17)) == FeatureControl(
        False, False, False, False
    )


def test_launch_key_hash_is_the_words_little_endian() -> None:
    words = (0xA6053E051270B7AC, 0x6CFBE8BA8B3B413D, 0xC4916D99F2B3735D, 0xD4F8C05909F9BB3B)
    assert launch_key_hash(words) == INTEL_LAUNCH_KEY_HASH


def test_triage_bits() -> None:
    assert is_preproduction(1 << 27)
    assert not is_preproduction((1 << 64) - 1 ^ 1 << 27)
    assert decode_bios_sign_id(0x2B00_0590_0000_0000) == MicrocodeRevision(0x2B00_0590, False)
    assert decode_bios_sign_id(0x8000_0001_FFFF_FFFF) == MicrocodeRevision(0x8000_0001, True)
