"""Vision towers: the modules that see, their first layer, and the forms their features come in."""

import pytest
import torch

pytestmark = pytest.mark.only(lambda family: family.has_vision)
ADAPTERS = tuple(
    f"vlm/families/{name}.py"
    for name in ("qwen_vision", "qwen2_5_omni", "gemma3", "internvl", "llava_onevision", "smolvlm")
)
QWEN, BACKBONE = ADAPTERS[0], "vlm/running/huggingface.py"


def count_tokens(one, picture):
    """Image tokens of a picture or video, those that stand between its rows among them."""
    vision = one.family.vision
    frames = 1 if picture.is_video and not vision.frames_apart else picture.frames
    laid = [each for frame in range(frames) for each in vision.layout(picture, frame)]
    return sum(not isinstance(each, str) or each == vision.image_token for each in laid)


@pytest.mark.relies(BACKBONE, "vlm/weights/tensor_names.py")
def test_the_modules_that_see_have_their_names(one):
    known = dict(one.seeing.named_children())
    assert set(known) == {*one.family.towers, one.family.language}


@pytest.mark.relies(*ADAPTERS)
def test_features_are_a_row_for_each_token(one):
    picture = one.picture()
    found, levels = one.features(picture)
    assert found.shape == (count_tokens(one, picture), one.text.config.hidden_size)
    assert bool(torch.isfinite(found).all())
    assert all(level.shape == found.shape for level in levels)


@pytest.mark.relies(QWEN, BACKBONE)
def test_as_many_deepstack_levels_as_the_tower_names(one):
    names = getattr(getattr(one.model, "visual", None), "deepstack_visual_indexes", ())
    assert len(names) == (3 if one.family.model_type in ("qwen3_vl", "qwen3_vl_moe") else 0)
    _, levels = one.features(one.picture())
    assert len(levels) == len(names)
    for number, level in enumerate(levels):
        assert not any(torch.equal(level, other) for other in levels[:number])


@pytest.mark.only(lambda family: family.has_vision and family.vision.video)
@pytest.mark.relies(QWEN, "vlm/families/internvl.py")
def test_frames_of_a_video_go_through_the_same_function(one):
    video = one.picture(video=True)
    found, levels = one.features(video)
    tokens = video.frames * video.rows * video.cols
    assert video.is_video and found.shape == (tokens, one.text.config.hidden_size)
    assert all(level.shape == found.shape for level in levels)


# LLaVA-OneVision's features need the line end where ours puts it, and SmolVLM's places are ours.
OWN_WAY = ("llava_onevision", "smolvlm")


@pytest.mark.only(lambda family: family.has_vision and family.model_type not in OWN_WAY)
@pytest.mark.relies("vlm/pictures/patch_embed.py", *ADAPTERS)
def test_our_patch_embedding_takes_the_place_of_theirs(one, err):
    picture = one.picture()
    want, levels = one.features(picture, one.model)
    found, ours = one.features(picture)
    assert err(found, want) <= 1e-5
    assert all(err(a, b) <= 1e-5 for a, b in zip(ours, levels, strict=True))


@pytest.mark.only(lambda family: family.model_type == "smolvlm")
@pytest.mark.relies("vlm/families/smolvlm.py", "vlm/pictures/patch_embed.py")
def test_patches_of_a_whole_tile_have_the_places_of_their_numbers(one):
    """Or all but the first of a row the place before, as 4.57 has them: ours do not ask."""
    theirs, ours = one.model.vision_model.embeddings, one.seeing.vision_model.embeddings
    places = ours.position_embedding.weight
    side = round(len(places) ** 0.5)
    pixels = torch.rand(1, 3, side * theirs.patch_size, side * theirs.patch_size)
    bare = theirs.patch_embedding(pixels).flatten(2).transpose(1, 2)
    found = theirs(pixels, torch.ones(1, side, side, dtype=torch.bool)) - bare
    assert torch.allclose(ours(pixels) - bare, places[None], atol=1e-5)
    right = torch.allclose(found[0], places, atol=1e-5)
    assert right or torch.allclose(found[0, 1], places[0], atol=1e-5)


@pytest.mark.only(lambda family: family.model_type == "llava_onevision")
@pytest.mark.relies("vlm/families/llava_onevision.py")
def test_a_trained_line_end_is_a_parameter_of_the_base_model(one):
    assert one.model.image_newline.shape == (one.text.config.hidden_size,)
    assert torch.equal(one.seeing.line_end.weight, one.model.image_newline)


@pytest.mark.relies(BACKBONE)
def test_what_it_sees_depends_on_the_picture_alone(one):
    """The same one gives the same features, whatever was seen before."""
    first, _ = one.features(one.picture())
    other, _ = one.features(one.picture(seed=1))
    again, _ = one.features(one.picture())
    assert torch.equal(first, again) and not torch.equal(other, first)


@pytest.mark.only(lambda family: family.model_type == "qwen2_5_vl")
@pytest.mark.relies("vlm/families/qwen2_5_vl.py", BACKBONE)
def test_the_time_between_frames_is_in_the_config(one):
    assert one.model.config.vision_config.tokens_per_second == 2
