"""The GPU of these tests; without one they are skipped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

# Helpers lie beside the tests and are imported by their names.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """The GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU and a CUDA build of torch: python -m pytest tests/gpu -s")
    return torch.device("cuda", torch.cuda.current_device())
