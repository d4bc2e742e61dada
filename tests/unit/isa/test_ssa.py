from __future__ import annotations

import pytest

from sgxkit.isa.ssa import SsaFrame, least_frame_pages, ssa_frame, xsave_size


@pytest.mark.parametrize(
    ("xfrm", "size"),
    [(0x3, 576), (0x7, 832), (0x1B, 1088), (0xE7, 2688), (0x2E7, 2696), (0x602E7, 11008)],
)
def test_the_xsave_area_ends_with_its_last_component(xfrm: int, size: int) -> None:
    assert xsave_size(xfrm) == size


@pytest.mark.parametrize(
    ("xfrm", "miscselect", "pages"), [(0x3, 0, 1), (0x2E7, 1, 1), (0x602E7, 0, 3), (0x602E7, 1, 3)]
)
def test_the_fewest_pages_of_a_frame(xfrm: int, miscselect: int, pages: int) -> None:
    assert least_frame_pages(xfrm, miscselect) == pages


def test_gprsgx_ends_a_frame_and_misc_lies_before_it() -> None:
    assert ssa_frame(1, 0x3, 0) == SsaFrame(xsave_size=576, misc=3912, misc_size=0, gprsgx=3912, size=4096)
    assert ssa_frame(2, 0x7, 1) == SsaFrame(xsave_size=832, misc=7992, misc_size=16, gprsgx=8008, size=8192)
