"""Image and video processors: what ours are compared with, in the words of every version."""

import numpy as np
import pytest
import torch
from PIL import Image

seeing = pytest.mark.only(lambda family: family.has_vision)
HELPERS = "tests/vlm/hugging_face.py"


@seeing
@pytest.mark.relies(HELPERS, "vlm/pictures/preprocessor.py")
def test_a_folder_names_a_processor_that_works_without_torchvision(one, record_property):
    """It gives pixels, and their grid where a picture may have any size."""
    from expected import known_fault
    from hugging_face import pil_processor

    fault = known_fault(f"{one.family.model_type}.processor")
    if fault is not None:
        with pytest.raises(ModuleNotFoundError, match="torchvision"):
            pil_processor(one.folder)
        record_property("remark", fault)
        return
    noise = np.random.default_rng(3).integers(0, 256, (90, 150, 3), dtype=np.uint8)
    found = pil_processor(one.folder)(images=[Image.fromarray(noise)], return_tensors="pt")
    pixels = found["pixel_values"]
    assert pixels.dtype == torch.float32 and bool(torch.isfinite(pixels).all())
    if one.family.vision.modules == ("visual",):
        assert len(pixels) == int(found["image_grid_thw"][0].prod())
    else:
        assert pixels.ndim in (4, 5) and pixels.shape[-3] == 3  # tiles of each picture, or of all


@pytest.mark.relies(HELPERS, "vlm/pictures/images.py")
def test_sizes_come_from_a_function_of_theirs():
    from hugging_face import pil_module

    assert pil_module("qwen2_vl").smart_resize(90, 150, 28, 3136, 12845056) == (84, 140)


@pytest.mark.relies(HELPERS, "vlm/pictures/tiles.py")
def test_grids_of_tiles_come_from_a_function_of_theirs():
    from hugging_face import pil_module

    canvas = pil_module("got_ocr2").get_optimal_tiled_canvas
    assert canvas((448, 900), (448, 448), 1, 12) == (2, 1)


@pytest.mark.relies("vlm/prompts/positions.py")
@pytest.mark.only(lambda family: family.decoder.mrope)
def test_positions_come_from_a_function_of_theirs(one):
    """It takes the tokens' types where it has an argument for them."""
    from hugging_face import takes

    ids = one.tokenizer("a red house", return_tensors="pt", add_special_tokens=False)["input_ids"]
    types = {}
    base = getattr(one.whole, "model", None)
    find = getattr(base, "get_rope_index", None) or one.whole.get_rope_index
    if takes(find, "mm_token_type_ids"):
        types["mm_token_type_ids"] = torch.zeros_like(ids, dtype=torch.int32)
    positions, _ = find(ids, attention_mask=torch.ones_like(ids), **types)
    assert positions[:, 0].tolist() == [list(range(ids.shape[1]))] * 3
