"""Leaf functions of ENCLS and ENCLU: EAX at the instruction (Intel SDM Vol. 3D, chapter 38)."""

from __future__ import annotations

from enum import IntEnum


class Encls(IntEnum):
    """Leaf functions for supervisor software."""

    ECREATE = 0x00
    EADD = 0x01
    EINIT = 0x02
    EREMOVE = 0x03
    EDBGRD = 0x04
    EDBGWR = 0x05
    EEXTEND = 0x06
    ELDB = 0x07
    ELDU = 0x08
    EBLOCK = 0x09
    EPA = 0x0A
    EWB = 0x0B
    ETRACK = 0x0C
    EAUG = 0x0D
    EMODPR = 0x0E
    EMODT = 0x0F
    ERDINFO = 0x10
    ETRACKC = 0x11
    ELDBC = 0x12
    ELDUC = 0x13
    EUPDATESVN = 0x18


class Enclu(IntEnum):
    """Leaf functions for user software."""

    EREPORT = 0x00
    EGETKEY = 0x01
    EENTER = 0x02
    ERESUME = 0x03
    EEXIT = 0x04
    EACCEPT = 0x05
    EMODPE = 0x06
    EACCEPTCOPY = 0x07
    EVERIFYREPORT2 = 0x08
    EDECCSSA = 0x09
