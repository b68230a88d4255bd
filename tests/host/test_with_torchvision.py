"""The preprocessing against the families' torchvision-based processors, in ComfyUI's environment.

torchvision is there and not necessarily here; the tests are the library's own, run by its Python.
"""

from __future__ import annotations

import pytest
from other_python import pytest_run

pytestmark = pytest.mark.timeout(1800)  # the test runs five files of tests


def test_the_skipped_comparisons_pass_there(checkout, its_pytest):
    files = [f"tests/vlm/test_{name}.py" for name in ("images", "square", "tiles", "video", "tiny")]
    ran = pytest_run(checkout.python, *files, PYTHONPATH=str(its_pytest))
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert "skipped" not in ran.stdout.splitlines()[-1], ran.stdout[-2000:]
