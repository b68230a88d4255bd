"""What else is called by name: loading whole models, quantisation, silence."""

import pytest
import torch
import transformers
from expected import known_fault

from vlm.weights.base_model import find_base_model
from vlm.weights.folder import build_config, read_config

QUANTIZED = "vlm/weights/quantized.py"


@pytest.mark.relies(QUANTIZED)
def test_a_folder_is_loaded_with_a_config_and_a_dtype_of_ours(one):
    if known_fault(f"{one.family.model_type}.config") is not None:
        pytest.skip("transformers cannot load this family's published files")
    config = build_config(read_config(one.folder), one.family, one.folder)
    model, info = getattr(transformers, one.family.architecture).from_pretrained(
        str(one.folder), config=config, dtype="auto", attn_implementation="sdpa",
        local_files_only=True, output_loading_info=True,
    )  # fmt: skip
    assert all(isinstance(name, str) for name in info["missing_keys"])
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    base = find_base_model(model, one.family)
    assert hasattr(base, one.family.language if one.family.has_vision else "language_model")


@pytest.mark.relies(QUANTIZED)
def test_what_is_not_quantised_is_named():
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["lm_head", "visual"])
    assert config.load_in_8bit and config.llm_int8_skip_modules == ["lm_head", "visual"]


@pytest.mark.relies("vlm/cli/progress.py")
def test_it_can_be_told_to_be_silent():
    from transformers.utils import logging

    before = logging.get_verbosity()
    try:
        logging.set_verbosity_error()
        assert logging.get_verbosity() == logging.ERROR
        logging.disable_progress_bar()
        assert not logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


@pytest.mark.relies("vlm/running/fingerprint.py", "vlm/running/versions.py")
def test_it_says_its_version():
    assert transformers.__version__.split(".")[0].isdigit()
