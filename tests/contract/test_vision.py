"""Vision towers: the modules that see, their first layer, and the forms their features come in."""

import pytest
import torch

from vlm.families import FAMILIES

pytestmark = pytest.mark.only(lambda family: family.has_vision)

QWEN, GEMMA, INTERNVL = (
    f"vlm/families/{name}.py" for name in ("qwen_vision", "gemma3", "internvl")
)
EMBED = "vlm/pictures/patch_embed.py"
BACKBONE = "vlm/running/huggingface.py"


@torch.no_grad()
def features(one, frames=1):
    pixels, grid = one.pixels(frames)
    return one.family.vision.features(one.model, pixels, grid)


def expected(one, frames=1):
    """Tokens of the picture that is shown."""
    pixels, (_, rows, columns) = one.pixels(frames)
    config = one.model.config
    if hasattr(config.vision_config, "spatial_merge_size"):
        return len(pixels) // config.vision_config.spatial_merge_size**2
    if hasattr(config, "downsample_ratio"):
        return round(rows * columns * config.downsample_ratio**2)
    return config.mm_tokens_per_image


@pytest.mark.relies(BACKBONE, "vlm/weights/tensor_names.py")
def test_the_modules_that_see_have_their_names(one):
    known = dict(one.model.named_children())
    assert set(one.family.vision.modules) <= set(known), sorted(known)
    assert known.keys() - set(one.family.vision.modules) == {"language_model"}


@pytest.mark.relies(QWEN, GEMMA, INTERNVL)
def test_features_are_a_row_for_each_token(one):
    found, levels = features(one)
    assert found.shape == (expected(one), one.text.config.hidden_size)
    assert bool(torch.isfinite(found).all())
    assert all(level.shape == found.shape for level in levels)


@pytest.mark.relies(QWEN, BACKBONE)
def test_as_many_deepstack_levels_as_the_tower_names(one):
    names = getattr(getattr(one.model, "visual", None), "deepstack_visual_indexes", ())
    assert len(names) == (3 if one.family.model_type in ("qwen3_vl", "qwen3_vl_moe") else 0)
    _, levels = features(one)
    assert len(levels) == len(names)
    for number, level in enumerate(levels):
        assert not any(torch.equal(level, other) for other in levels[:number])


@pytest.mark.only(lambda family: family.has_vision and family.vision.modules == ("visual",))
@pytest.mark.relies(QWEN)
def test_frames_of_a_video_go_through_the_same_function(one):
    found, levels = features(one, frames=2)
    assert found.shape == (expected(one, frames=2), one.text.config.hidden_size)
    assert all(level.shape == found.shape for level in levels)


@pytest.mark.only(lambda family: family.has_vision and family.model_type != "gemma3")
@pytest.mark.relies(EMBED, QWEN, INTERNVL)
def test_our_patch_embedding_takes_the_place_of_theirs(one, err):
    want, levels = features(one)
    name = "vision_tower.embeddings.patch_embeddings.projection"
    if hasattr(one.model, "visual"):
        name = "visual.patch_embed"
    place = one.model.get_submodule(name.rpartition(".")[0])
    theirs = one.model.get_submodule(name)
    convolution = getattr(theirs, "proj", theirs)
    assert convolution.stride == convolution.kernel_size
    one.family.vision.prepare(one.model)
    try:
        assert one.model.get_submodule(name) is not theirs
        found, ours = features(one)
    finally:
        setattr(place, name.rpartition(".")[2], theirs)
    assert err(found, want) <= 1e-5
    assert all(err(a, b) <= 1e-5 for a, b in zip(ours, levels, strict=True))


@pytest.mark.relies(BACKBONE)
def test_what_it_sees_depends_on_the_picture_alone(one):
    """One picture at a time, and the same one gives the same features."""
    first, _ = features(one)
    features(one, frames=2 if one.family.vision.modules == ("visual",) else 1)
    again, _ = features(one)
    assert torch.equal(first, again)
    pixels, grid = one.pixels()
    with torch.no_grad():
        other, _ = one.family.vision.features(one.model, pixels.flip(0) + 0.5, grid)
    assert not torch.equal(other, first)


@pytest.mark.relies("vlm/families/qwen2_5_vl.py")
def test_the_time_between_frames_is_in_the_config(one):
    if one.family.model_type == "qwen2_5_vl":
        assert one.model.config.vision_config.tokens_per_second == 2
    step = one.family.vision.video_time_step(1.5, one.model.config.vision_config)
    assert step == (3.0 if one.family.model_type == "qwen2_5_vl" else 1.0)


@pytest.mark.relies("vlm/pictures/preprocessor.py", "vlm/load.py")
def test_the_vision_config_is_a_part_of_the_config(one):
    assert one.model.config.vision_config is not None
    assert one.family.model_type in FAMILIES
