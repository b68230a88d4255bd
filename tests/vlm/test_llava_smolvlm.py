"""What only LLaVA-OneVision and SmolVLM do: margins and line ends, tiles named in words.

Their own processors are the oracle of ids and pixels, put together by hand: the automatic way wants
torchvision, SmolVLM's also num2words, which it needs for videos alone.
"""

import importlib
import importlib.util
import json
import shutil
import sys
import types

import pytest
import torch
import transformers
from hugging_face import pil_processor
from model_files import edit
from safetensors.torch import load_file, save_file
from test_memory_estimate import assert_about_right, peak_of

import vlm
from vlm.families import FAMILIES as KNOWN
from vlm.pictures.tiles import THUMBNAIL
from vlm.running.backbone import VISION
from vlm.running.huggingface import HuggingFaceBackbone
from vlm.tokens.token_weights import apply_mask

pytestmark = pytest.mark.slow

FAMILIES = ("llava_onevision", "smolvlm")
LAYERS = 4
SIZES = [(90, 150), (96, 96), (700, 60), (64, 1100), (1000, 1010), (513, 512), (37, 250)]


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def model(tiny, family):
    return tiny(family, LAYERS)


@pytest.fixture
def folder(tiny_folder, family, tmp_path):
    return shutil.copytree(tiny_folder(family, LAYERS), tmp_path / family)


@pytest.fixture
def processor(tiny_folder, family, monkeypatch):
    """The family's own, PIL alone."""
    folder = tiny_folder(family, LAYERS)
    images = pil_processor(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    own = own_processor(family, monkeypatch)
    skip = {"check_argument_for_proper_class": lambda self, name, value: None}
    settings = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    del settings["processor_class"]
    template = tokenizer.chat_template
    return type(own.__name__, (own,), skip)(
        images, tokenizer, None, chat_template=template, **settings
    )


def own_processor(family, monkeypatch):
    """The class, without what its videos need."""
    if family == "llava_onevision":
        return transformers.LlavaOnevisionProcessor
    place = "transformers.models.smolvlm"
    if importlib.util.find_spec("torchvision") is None:
        # 4.57 takes three texts from there, and the file wants torchvision.
        videos = types.ModuleType(f"{place}.video_processing_smolvlm")
        for name in ("DEFAULT_VIDEO_INTRO", "DEFAULT_MEDIA_OUTTRO", "FRAME_TIMESTAMP_MESSAGE"):
            setattr(videos, name, "")
        monkeypatch.setitem(sys.modules, videos.__name__, videos)
    module = importlib.import_module(f"{place}.processing_smolvlm")
    monkeypatch.setattr(module, "num2words", str)
    return module.SmolVLMProcessor


def theirs(processor, pictures, text, system=None):
    """What the processor makes of a chat."""
    content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    if system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    rendered = processor.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    return processor(text=[rendered], images=[pictures] if pictures else None, return_tensors="pt")


def assert_same(model, processor, pictures, system=None):
    want = theirs(processor, pictures, "a red house", system)
    h = model.encode("a red house", pictures, system=system)
    assert list(h.prompt.ids) == want["input_ids"][0].tolist()
    ours = model.family.vision.forward_inputs(h.prompt.vision_inputs)
    if not pictures:
        assert not ours
        return
    assert torch.equal(ours["pixel_values"], want["pixel_values"].float())
    for name in ("image_sizes", "batch_num_images"):
        assert (name in want) == (name in ours)
        assert name not in ours or ours[name].tolist() == torch.as_tensor(want[name]).tolist()


# --- prompts and pixels


@pytest.mark.parametrize("system", [None, "You paint."])
def test_ids_of_a_text_are_its_processors(model, processor, system):
    assert_same(model, processor, [], system)


@pytest.mark.parametrize("size", SIZES)
def test_ids_and_pixels_are_its_processors(model, processor, picture, size):
    assert_same(model, processor, [picture(*size)])


def test_ids_and_pixels_of_several_pictures(model, processor, picture):
    sizes = [(90, 150), (200, 64), (70, 70)]
    assert_same(model, processor, [picture(*size, seed) for seed, size in enumerate(sizes)])


def test_smolvlm_writes_where_a_tile_is(tiny, picture):
    model = tiny("smolvlm", LAYERS)
    h = model.encode("a house", [picture(256, 512)])
    run = "<image>" * 16
    around = "<fake_token_around_image>"
    rows = (
        "".join(f"{around}<row_{row}_col_{col}>{run}" for col in range(1, 5)) + "\n"
        for row in (1, 2)
    )
    assert model.tokenizer.text_of(list(h.prompt.ids)) == (
        f"<|im_start|>User:{''.join(rows)}\n{around}<global-img>{run}{around}a house"
        "<end_of_utterance>\nAssistant:"
    )


# --- places


@pytest.mark.parametrize("family", ["llava_onevision"], indirect=True)
@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((96, 96), [[0]]),
        ((96, 192), [[0, 1]]),
        ((150, 90), [[0], [1]]),
        ((1200, 1200), [[row * 6 + col for col in range(6)] for row in range(6)]),
    ],
)
def test_a_token_is_in_the_tile_that_shows_it(model, picture, size, tiles):
    (seen,) = model.encode("a", [picture(*size)]).prompt.vision_inputs
    found = {(row, col): tile for tile, row, col in seen.places(0) if tile != THUMBNAIL}
    for (row, col), tile in found.items():
        at_row = int((row + 0.5) / seen.rows * len(tiles))
        at_col = int((col + 0.5) / seen.cols * len(tiles[0]))
        assert tile == tiles[at_row][at_col]
    assert len(found) == seen.rows * seen.cols


@pytest.mark.parametrize("at", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_token_stands_where_its_pixels_are(model, picture, at):
    """Changing a quarter of the picture changes most the vision tokens of that quarter."""
    whole = picture(384, 384)
    changed = whole.copy()
    box = tuple(192 * value for value in (at[1], at[0], at[1] + 1, at[0] + 1))
    changed.paste((255, 0, 0), box)
    states = [model.encode("a", [one]) for one in (whole, changed)]
    places, (seen,) = states[0].token_map, states[0].prompt.vision_inputs
    moved = (states[0].layer(0) - states[1].layer(0))[0].norm(dim=1)
    for thumbnail in (True, False):
        quarters = {}
        for token, role in enumerate(places["role"]):
            if role == "image" and (places["tile"][token] == THUMBNAIL) == thumbnail:
                quarters.setdefault(token, (places["row"][token], places["col"][token]))
        rows, cols = (1 + max(axis) for axis in zip(*quarters.values(), strict=True))
        sums = torch.zeros(2, 2)
        for token, (row, col) in quarters.items():
            sums[2 * row // rows, 2 * col // cols] += moved[token]
        assert divmod(int(sums.argmax()), 2) == at, (thumbnail, seen.grid)


def test_a_mask_reaches_tiles_and_thumbnail_but_no_marker(model, picture):
    h = model.encode("a", [picture(300, 500)], depth=0)
    mask = torch.zeros(h.token_map["grids"][0]["rows"], h.token_map["grids"][0]["cols"])
    dimmed, roles = apply_mask(h, mask).layer(0)[0], h.token_map["role"]
    for token, role in enumerate(roles):
        same = torch.equal(dimmed[token], h.layer(0)[0, token])
        assert same == (role != "image") and (same or not dimmed[token].any())


def test_a_muted_picture_keeps_its_tokens(model, picture):
    pictures = [picture(64, 96), picture(96, 64, 1)]
    both = model.encode("a", pictures)
    muted = model.encode("a", pictures, mute=[0])
    assert muted.prompt.ids == both.prompt.ids
    at = [number for number in both.token_map["image"]]
    own = [token for token, number in enumerate(at) if number == 0]
    other = [token for token, number in enumerate(at) if number == 1]
    assert not torch.equal(muted.layer(0)[:, own], both.layer(0)[:, own])
    assert torch.equal(muted.layer(0)[:, other], both.layer(0)[:, other])


# --- pixel bounds


@pytest.mark.parametrize("most", [None, 5 * 10**5, 10**5, 40000, 1])
def test_bounds_are_bounds_of_the_tiles_area(model, picture, most):
    whole = picture(1000, 1000)
    (seen,) = model.encode("a", [whole], max_pixels=most).prompt.vision_inputs
    tile = len(seen.pixels[0]) ** 2
    tiles = max(1, len(seen.pixels) - 1)  # without the thumbnail
    best = 36 if model.family.model_type == "llava_onevision" else 16
    sides = [n * n for n in range(1, 7) if n * n <= best and (most is None or n * n * tile <= most)]
    assert tiles == max(sides, default=1)


def test_a_picture_too_long(model, picture):
    with pytest.raises(ValueError, match="at most 200 times as long"):
        model.encode("a", [picture(2, 2000)])


def test_margins_leave_at_least_one_token(tiny, picture):
    with pytest.raises(ValueError, match="too narrow to leave one token on a side"):
        tiny("llava_onevision", LAYERS).encode("a", [picture(2, 300)])


# --- files


def test_without_files_the_published_values_hold(model, folder, picture):
    (folder / "preprocessor_config.json").unlink()
    bare = vlm.load(folder, dtype="float32")
    found, want = (each.encode("a", [picture(90, 150)]) for each in (bare, model))
    assert torch.equal(found.layer(-1), want.layer(-1))


REFUSED = {
    "llava_onevision": [
        ("config.json", {"vision_feature_layer": -2}, "vision_feature_layer = -2"),
        ("config.json", {"vision_feature_select_strategy": "default"}, "select_strategy"),
        ("config.json", {"vision_aspect_ratio": "square"}, "vision_aspect_ratio = 'square'"),
        ("config.json", {"image_grid_pinpoints": [[96, 96]]}, "contradicts itself"),
        ("preprocessor_config.json", {"resample": 1}, "resample = 1"),
        ("preprocessor_config.json", {"size": {"height": 90, "width": 96}}, "contradicts itself"),
    ],
    "smolvlm": [
        ("config.json", {"scale_factor": 3}, "contradicts itself"),
        ("preprocessor_config.json", {"max_image_size": {"longest_edge": 64}}, "contradicts"),
        ("preprocessor_config.json", {"do_resize": False}, "do_resize = False"),
        ("preprocessor_config.json", {"resample": 3}, "resample = 3"),
    ],
}


@pytest.mark.parametrize(
    ("family", "file", "change", "words"),
    [(family, *row) for family, rows in REFUSED.items() for row in rows],
    indirect=["family"],
)
def test_files_that_ask_for_something_else(folder, file, change, words):
    edit(folder / file, **change)
    with pytest.raises(ValueError, match=words):
        vlm.load(folder)


def test_a_smolvlm_that_does_not_split(tiny_folder, tmp_path, picture):
    folder = shutil.copytree(tiny_folder("smolvlm", LAYERS), tmp_path / "smolvlm")
    edit(folder / "preprocessor_config.json", do_image_splitting=False)
    (seen,) = vlm.load(folder).encode("a", [picture(300, 500)]).prompt.vision_inputs
    assert len(seen.pixels) == 1 and seen.grid == {"frames": 1, "rows": 4, "cols": 4}


def since_4_52(name):
    """As transformers has saved LLaVA-OneVision since."""
    if name == "language_model.lm_head.weight":
        return "lm_head.weight"
    return "model." + name.replace("language_model.model.", "language_model.")


@pytest.mark.parametrize("family", ["llava_onevision"], indirect=True)
@pytest.mark.parametrize("deeper", [True, False], ids=["siglip", "5"])
def test_names_of_later_versions_load(model, folder, picture, deeper):
    weights = load_file(folder / "model.safetensors")
    assert "image_newline" in weights
    assert "vision_tower.vision_model.post_layernorm.weight" in weights
    named = {since_4_52(name): tensor for name, tensor in weights.items()}
    if not deeper:
        named = {name.replace("vision_model.", ""): tensor for name, tensor in named.items()}
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    later = vlm.load(folder, dtype="float32")
    found, want = (each.encode("a", [picture(64, 64)]) for each in (later, model))
    assert torch.equal(found.layer(-1), want.layer(-1))
    assert later.rewrite("a", max_tokens=1, temperature=0).text is not None


def test_the_published_names(folder, family):
    names = set(load_file(folder / "model.safetensors"))
    if family == "smolvlm":
        want = ("model.text_model.layers.0.self_attn.q_proj.weight", "lm_head.weight",
                "model.connector.modality_projection.proj.weight",
                "model.vision_model.embeddings.patch_embedding.weight",
                "model.vision_model.encoder.layers.0.layer_norm1.weight")  # fmt: skip
    else:
        want = ("language_model.model.layers.0.self_attn.q_proj.bias", "image_newline",
                "multi_modal_projector.linear_1.bias", "language_model.lm_head.weight",
                "vision_tower.vision_model.encoder.layers.3.mlp.fc1.weight")  # fmt: skip
    assert not set(want) - names


def test_its_weights_alone_are_not_enough(folder):
    with pytest.raises(ValueError, match="but a VLM whose whole folder is needed"):
        vlm.load(folder / "model.safetensors")


def test_a_head_that_two_settings_disagree_about(tiny_folder, tmp_path, picture):
    """llava-onevision-qwen2-0.5b-ov-hf says so at the top and the opposite in text_config."""
    folder = shutil.copytree(tiny_folder("llava_onevision", LAYERS), tmp_path / "llava")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config["text_config"] | {"tie_word_embeddings": True}
    edit(folder / "config.json", text_config=text)
    with_head = vlm.load(folder, dtype="float32")
    assert with_head.backbone.lm_head is not None
    weights = load_file(folder / "model.safetensors")
    del weights["language_model.lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert vlm.load(folder, dtype="float32").backbone.lm_head is None


# --- memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(384, 384), (800, 1100)])
@torch.no_grad()
def test_the_memory_estimate_of_the_tower(family, picture, tmp_path, dtype, size):
    """The real tower's proportions at a quarter of its width, two layers deep."""
    vision = {"hidden_size": 288, "intermediate_size": 1072, "num_attention_heads": 4}
    vision |= {"num_hidden_layers": 2}
    text = {"vocab_size": 200, "num_hidden_layers": 1, "hidden_size": 224}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 128}
    if family == "smolvlm":
        vision |= {"image_size": 512, "patch_size": 16}
        own = {"text_config": text | {"model_type": "llama"}, "scale_factor": 4}
    else:
        vision |= {"image_size": 384, "patch_size": 14, "vision_use_head": False}
        own = {"text_config": text | {"model_type": "qwen2"}}
        vision |= {"model_type": "siglip_vision_model"}
    kind = getattr(transformers, KNOWN[family].architecture)
    config = kind.config_class(vision_config=vision, **own)
    model = kind._from_config(config, attn_implementation="sdpa", dtype=dtype).model
    backbone = HuggingFaceBackbone(model.eval().requires_grad_(False), KNOWN[family])
    read = KNOWN[family].vision.read_preprocessor
    preprocessor = read(tmp_path, {"vision_config": vision, **own})
    (seen,) = preprocessor.prepare_images([picture(*size)], None, None)
    patches = seen.patches()
    measured = peak_of(lambda: backbone.encode_vision(patches.pixels, patches.grid))
    assert_about_right(backbone.run_bytes(VISION, 10, seen.num_patches), measured)
