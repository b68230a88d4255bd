"""What only InternVL does: its vision tokens, tiles in the token map, what X2I feeds it."""

import pytest
import torch
import transformers
from hugging_face import pil_processor
from rounding import rounding
from safetensors.torch import save_file
from test_connector import alignnet

import vlm
from vlm.families.internvl import IMAGE
from vlm.pictures.tiles import TILE
from vlm.prompts.templates import INTERNVL_SYSTEM
from vlm.report.measures import picture_grid

pytestmark = pytest.mark.slow

LAYERS = 4
AREA = TILE**2


@pytest.fixture
def model(tiny):
    return tiny("internvl", LAYERS)


@pytest.fixture(scope="module")
def processor(tiny_folder):
    """InternVL's own, put together by hand: the automatic way wants torchvision."""
    folder = str(tiny_folder("internvl", LAYERS))
    images = pil_processor(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    skip = {"check_argument_for_proper_class": lambda self, name, value: None}
    cls = type("InternVLProcessor", (transformers.InternVLProcessor,), skip)
    return cls(images, tokenizer, None, chat_template=tokenizer.chat_template)


def written(model, h):
    """The prompt as one string, a run of picture tokens as one."""
    text = model.tokenizer.text_of(list(h.prompt.ids[: h.prompt.real]))
    return text.replace(IMAGE * 256, IMAGE)


# --- prompts


@pytest.mark.parametrize("system", [None, "You paint."])
@pytest.mark.parametrize("sizes", [[], [(64, 64)], [(90, 150), (448, 900)]])
def test_ids_and_pixels_are_its_processors(model, processor, picture, sizes, system):
    pictures = [picture(*size, seed) for seed, size in enumerate(sizes)]
    content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": "a red house"}]
    messages = [{"role": "user", "content": content}]
    if system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    given = {"images": pictures, "max_patches": 10} if pictures else {}
    want = processor(text=[text], return_tensors="pt", **given)
    h = model.encode("a red house", pictures, system=system)
    assert list(h.prompt.ids) == want["input_ids"][0].tolist()
    if pictures:
        seen = torch.cat([visual.patches().pixels for visual in h.prompt.vision_inputs])
        assert torch.equal(seen, want["pixel_values"])


def test_frames_of_a_video_are_numbered(model, picture):
    h = model.encode("a cat", [picture(64, 64)], video=[picture(64, 96)] * 3, fps=1.0)
    one = f"<img>{IMAGE}</img>"
    assert written(model, h) == (
        f"<|im_start|>user\n{one}\nFrame1: {one}\nFrame2: {one}\nFrame3: {one}\na cat<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    marks = [role for role in h.token_map["role"] if role == "vision_marker"]
    assert len(marks) == 8 and h.token_map["grids"][1]["frames"] == 3


def test_qwens_layouts_take_its_vision_tokens(model, picture):
    h = model.encode("a cat", [picture(64, 64)], template="z-image")
    assert written(model, h) == (
        f"<|im_start|>user\n<img>{IMAGE}</img>a cat<|im_end|>\n<|im_start|>assistant\n"
    )


# --- tiles in the token map


def places_of(h, wanted):
    columns = (h.token_map[name] for name in ("role", "tile", "row", "col"))
    return [
        at
        for at, (role, tile, row, col) in enumerate(zip(*columns, strict=True))
        if role == "image" and wanted(tile, row, col)
    ]


@pytest.mark.parametrize("at", [(3, 5), (20, 40), (31, 0), (0, 47)])
def test_a_token_stands_where_its_pixels_are(model, picture, at):
    """What changes there changes that token most, and its place in the thumbnail."""
    row, col = at
    before = picture(2 * TILE, 3 * TILE)
    after = before.copy()
    after.paste((0, 255, 0), (col * 28, row * 28, col * 28 + 28, row * 28 + 28))
    plain, changed = (model.encode("a", [one], max_pixels=6 * AREA) for one in (before, after))
    moved = (plain.layer(0) - changed.layer(0)).norm(dim=-1)[0]
    (there,) = places_of(plain, lambda tile, *place: tile >= 0 and place == at)
    assert moved.argmax() == there
    small = places_of(plain, lambda tile, *place: tile < 0)
    (there,) = places_of(plain, lambda tile, *place: tile < 0 and place == (row // 2, col // 3))
    assert small[moved[small].argmax()] == there


def test_a_mask_reaches_tiles_and_thumbnail(model, picture):
    h = model.encode("a", [picture(TILE, 2 * TILE)], max_pixels=2 * AREA)
    t = vlm.select_layers(h, "-1")
    mask = torch.ones(16, 32)
    mask[:, :16] = 0
    found = vlm.apply_mask(t, mask)
    left = places_of(h, lambda tile, row, col: tile == 0 or (tile < 0 and col < 8))
    rest = sorted(set(range(h.n)) - set(left))
    assert bool((found.states[:, left] == 0).all())
    assert torch.equal(found.states[:, rest], t.states[:, rest])


def test_a_muted_picture_keeps_its_tokens(model, picture):
    pictures = [picture(TILE, 2 * TILE), picture(64, 64, 1)]
    seen, muted = (model.encode("a", pictures, mute=mute) for mute in ((), (0,)))
    assert muted.token_map == seen.token_map and muted.prompt.ids == seen.prompt.ids
    columns = (seen.token_map[name] for name in ("role", "image"))
    places = list(zip(*columns, strict=True))
    first, second = ([at for at, place in enumerate(places) if place == ("image", number)]
                     for number in (0, 1))  # fmt: skip
    assert torch.equal(muted.layer(0)[:, second], seen.layer(0)[:, second])
    blank = muted.layer(0)[0, first]
    assert torch.equal(blank, blank[:1].expand_as(blank))
    assert not torch.equal(blank, seen.layer(0)[0, first])


def test_reports_show_the_tiles_and_not_the_thumbnail(model, picture):
    h = model.encode("a", [picture(TILE, 2 * TILE)], max_pixels=2 * AREA)
    grid = picture_grid(h.token_map)
    assert grid.shape == (16, 32) and grid.min() >= 0
    first = h.token_map["role"].index("image")
    assert grid[0, 0] == first and grid[0, 16] == first + 256


def test_many_frames_see_what_one_sees(model, picture, err):
    """The tower takes twelve tiles at once."""
    frames = [picture(64, 64, seed) for seed in range(14)]
    film = model.preprocessor.prepare_video(frames, 1.0, 1.0, None, None)
    alone = model.preprocessor.prepare_video(frames[13:], 1.0, 1.0, None, None)
    features, one = (model.backbone.encode_vision(each.patches().pixels, each.patches().grid)[0]
                     for each in (film, alone))  # fmt: skip
    assert features.shape == (14 * 256, 64)
    assert err(features[13 * 256 :], one) <= rounding()
    assert film.num_patches == 12 * 1024


# --- X2I


def x2is_query(text, pictures):
    """X2I's inference_internvl.py, with the conversation template internvl2_5."""
    asked = str({"Text input": text, "Instruction editing description": "no"})
    vision = ("<img>" + IMAGE * 256 + "</img>\n") * pictures
    return (
        f"<|im_start|>system\n{INTERNVL_SYSTEM}<|im_end|>\n<|im_start|>user\n{vision}{asked}"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("pictures", [0, 1])
@pytest.mark.parametrize("words", [3, 600])
def test_x2i_feeds_what_its_script_feeds(model, processor, picture, err, words, pictures):
    text = "house " * words
    images = [picture(300, 500)] * pictures
    h = model.encode(text, images, target="flux1", template="x2i-internvl")
    given = processor.tokenizer(
        x2is_query(text, pictures),
        padding="max_length",
        padding_side="right",
        max_length=512,
        truncation=True,
        return_tensors="pt",
    )
    assert given["input_ids"].shape == (1, 512)
    assert list(h.prompt.ids) == given["input_ids"][0].tolist()
    seen = {}
    if pictures:
        small = images[0].resize((128, 128)).resize((TILE, TILE))
        seen = processor.image_processor([small], crop_to_patches=False, return_tensors="pt")
        seen = {"pixel_values": seen["pixel_values"]}
        assert torch.equal(h.prompt.vision_inputs[0].patches().pixels, seen["pixel_values"])
    folder = processor.tokenizer.name_or_path
    architecture = transformers.InternVLForConditionalGeneration
    reference = architecture.from_pretrained(folder, dtype=torch.float32).eval()
    ids, mask = given["input_ids"], given["attention_mask"]
    with torch.no_grad():
        want = reference.model(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, **seen
        )
    for layer, stream in enumerate(want.hidden_states):
        assert err(h.layer(layer), stream) <= rounding(layer), layer


@pytest.mark.parametrize(("form", "layers"), [("scale", 24), ("cnn", 36)])
def test_x2is_connectors_give_context_and_pooled(tmp_path, picture, form, layers):
    """The sizes in layers of X2I's connectors for InternVL2.5 1B and 4B."""
    model = vlm.load("tiny", dtype="float32", family="internvl", layers=layers)
    h = model.encode("a boat", [picture(64, 64)], target="flux1", template="x2i-internvl")
    weights = alignnet(form, 64, layers + 1, inside=48, out=4096, pooled=768)
    save_file(weights, tmp_path / "x2i.safetensors")
    out = vlm.load_connector(tmp_path / "x2i.safetensors")(h)
    assert out.context.shape == (1, 512, 4096) and out.pooled.shape == (1, 768)
    assert bool(torch.isfinite(out.context).all())


def test_x2is_connector_of_the_1b_at_its_own_size(tmp_path):
    weights = alignnet("scale", 896, 25, inside=8, out=4096, pooled=768)
    save_file(weights, tmp_path / "internvl.safetensors")
    connector = vlm.load_connector(tmp_path / "internvl.safetensors")
    assert connector.made_for == "InternVL2.5-1B" and connector.warning == ""
    model = vlm.load("tiny", dtype="float32", family="internvl", width=896, layers=24)
    out = connector(model.encode("a boat", target="flux1", template="x2i-internvl"))
    assert out.context.shape == (1, 512, 4096) and out.pooled.shape == (1, 768)
