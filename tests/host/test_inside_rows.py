"""The targets' rows in inside/ against ComfyUI's own encoders, run by ComfyUI's own Python."""

from __future__ import annotations

import pytest
from test_inside import INSIDE, ROWS, run_inside

pytestmark = pytest.mark.timeout(1800)  # the test runs three files of tests


def test_the_targets_rows_pass(checkout, its_pytest):
    run_inside(checkout, its_pytest, *(INSIDE / name for name in ROWS))
