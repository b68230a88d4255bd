"""Committed values of the families' toy models, and what transformers is known to do wrong.

The values were written where ours were equal to transformers' own, and hold on every version:
`VLMC_WRITE_EXPECTED=1 python -m pytest tests/vlm/test_every_family.py tests/vlm/test_rewrite.py`
writes those that are not there yet, and nothing where the two differ.
"""

import os
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from rounding import rounding
from safetensors.torch import load_file, save_file

FILE = Path(__file__).parents[1] / "golden" / "families.safetensors"
WRITES = os.environ.get("VLMC_WRITE_EXPECTED") == "1"
TOKENS = 4  # of each case, spread from the first to the last
OPEN = "transformers differs from the committed values and no fault of it is known"
GONE = "transformers gives the committed values, so it no longer does what is listed in expected.py"


@dataclass(frozen=True)
class Fault:
    """What some versions of transformers do wrong with the same weights.

    Attributes:
        versions: Minor releases, as "5.3".
        cases: Beginnings of the cases' names.
        says: For the table of versions.
    """

    versions: tuple[str, ...]
    cases: tuple[str, ...]
    says: str


FAULTS: tuple[Fault, ...] = (
    Fault(
        ("4.57",),
        ("smolvlm.pictures",),
        "its own SmolVLM puts patches one place too early",
    ),
    Fault(
        ("5.3", "5.4"),
        tuple(f"qwen2_5_vl.pictures.{count}" for count in (1, 2, 3)),
        "its own Qwen2.5-VL multiplies the time of a picture's tokens by the tokens per second",
    ),
    Fault(
        ("5.3", "5.4", "5.5"),
        ("qwen2_vl.video", "qwen2_5_vl.video"),
        "its own Qwen2-VL and Qwen2.5-VL give all frames of a video one time",
    ),
    Fault(
        ("5.0", "5.1"),
        ("qwen3_vl_moe.config",),
        "its own Qwen3-VL-MoE cannot load the published files",
    ),
    Fault(
        ("5.4",),
        ("llava_onevision.processor",),
        "its own LLaVA-OneVision cannot read a picture without torchvision",
    ),
    Fault(
        ("5.3",),
        ("qwen3_vl.video", "qwen3_vl_moe.video", "qwen3_5.video"),
        "its own Qwen3-VL, Qwen3-VL-MoE and Qwen3.5 raise StopIteration at a video",
    ),
)


def known_fault(case: str) -> str | None:
    """What the installed transformers is known to do wrong in a case; None = nothing."""
    minor = ".".join(version("transformers").split(".")[:2])
    found = (one.says for one in FAULTS if minor in one.versions and case.startswith(one.cases))
    return next(found, None)


def sample(states) -> torch.Tensor:
    """Some tokens of every layer: [L, TOKENS, D]."""
    places = torch.linspace(0, states.n - 1, TOKENS).round().long()
    layers = [states.layer(layer)[0, places] for layer in range(states.num_layers)]
    return torch.stack(layers).float().contiguous()


@cache
def _values() -> dict[str, torch.Tensor]:
    return load_file(FILE) if FILE.is_file() else {}


def check_states(case: str, states) -> None:
    """Every layer of ours is the committed one."""
    found, want = sample(states), _of(case)
    if want is None:
        return
    assert found.shape == want.shape
    for layer, (a, b) in enumerate(zip(found, want, strict=True)):
        difference = ((a - b).abs().max() / b.abs().max()).item()
        assert difference <= rounding(layer), f"{case}, layer {layer}: {difference:.1e}"


def check_ids(case: str, ids: list[int]) -> None:
    """What ours wrote is what is committed."""
    want = _of(case)
    assert want is None or ids == want.tolist(), case


def _of(case: str) -> torch.Tensor | None:
    """A case's values; None only where they are to be written."""
    values = _values()
    assert case in values or WRITES, f"{FILE.name} has no {case}: see the head of expected.py"
    return values.get(case)


def settle(case: str, same: bool, value: torch.Tensor, record_property) -> None:
    """Compares the outcome with what is known of the installed transformers.

    Args:
        case: Its name.
        same: Whether transformers' own is equal to ours.
        value: Ours, which is the committed one where there is one.
        record_property: pytest's; takes the remark for the table of versions.
    """
    fault = known_fault(case)
    if fault is not None:
        assert not same, f"{case}: {GONE}"
        record_property("remark", fault)
        return
    assert same, f"{case}: {OPEN}"
    if WRITES and case not in _values():
        _values()[case] = value
        save_file(_values(), FILE)
