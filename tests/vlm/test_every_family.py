"""What every family must do, as far as it declares the ability; transformers' own classes know it.

A new family is one line in `ALL`; what only it does has tests of its own.
"""

import json

import expected
import pytest
import torch
import transformers
from hugging_face import plain_model
from made_sounds import noise
from reference import Reference
from rounding import rounding
from safetensors.torch import load_file, save_file

import vlm
from vlm.families import FAMILIES as KNOWN
from vlm.running.hidden_states import states_of
from vlm.tiny import TOYS
from vlm.tiny.folder import write_tiny

ALL = (
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen2_5_omni",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "internvl",
    "gemma3",
    "gemma3_text",
    "llava_onevision",
    "smolvlm",
    "qwen3",
    "llama",
)
# Some came later than the oldest transformers that the pack runs with.
FAMILIES = tuple(name for name in ALL if hasattr(transformers, KNOWN[name].architecture))
SEEING = tuple(name for name in FAMILIES if KNOWN[name].has_vision)
HEARING = tuple(name for name in FAMILIES if KNOWN[name].has_audio)
FILMING = tuple(name for name in SEEING if KNOWN[name].vision.video)
# With Qwen3-VL's processor; the older ones have tests of their own.
QWEN_EYES = tuple(name for name in FAMILIES if name in ("qwen3_vl_moe", "qwen3_5"))
LAYERS = 6
TEXT = "A red house\nby the river, 一只红色的猫, 🎨"

every = pytest.mark.parametrize("family", FAMILIES)
seeing = pytest.mark.parametrize("family", SEEING)
hearing = pytest.mark.parametrize("family", HEARING)
filming = pytest.mark.parametrize("family", FILMING)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`made(family)`: a tiny model and its reference, made once."""
    known = {}

    def get(family):
        if family not in known:
            folder = tmp_path_factory.mktemp("every") / family
            write_tiny(folder, family, layers=LAYERS)
            known[family] = vlm.load(folder, dtype="float32"), Reference(folder, KNOWN[family])
        model, reference = known[family]
        model.prefix_cache.clear()
        return model, reference

    return get


@pytest.fixture
def compare(err, record_property):
    """`compare(states, reference, case)`: every layer is the committed one, and transformers' own.

    Where a version of transformers is known to be wrong itself, the committed values are the
    judge, and it has to be wrong still.
    """

    def check(states, reference, case):
        expected.check_states(case, states)
        try:
            want = reference.streams(states)
        except Exception:
            if expected.known_fault(case) is None:
                raise
            want = []
        assert not want or len(want) == states.num_layers == LAYERS + 1
        same = bool(want) and all(
            err(states.layer(layer), stream) <= rounding(layer) for layer, stream in enumerate(want)
        )
        expected.settle(case, same, expected.sample(states), record_property)

    return check


def test_no_family_is_left_out():
    assert set(ALL) == set(KNOWN) == set(TOYS)


# --- layers


@every
def test_layers_of_a_text(made, compare, family):
    model, reference = made(family)
    compare(model.encode(TEXT), reference, f"{family}.text")


@seeing
@pytest.mark.parametrize("sizes", [[(90, 150)], [(200, 64), (70, 70), (64, 130)]])
def test_layers_of_pictures_and_a_text(made, compare, picture, family, sizes):
    model, reference = made(family)
    pictures = [picture(*size, seed) for seed, size in enumerate(sizes)]
    compare(model.encode(TEXT, pictures), reference, f"{family}.pictures.{len(sizes)}")


@filming
def test_layers_of_a_video(made, compare, picture, family):
    model, reference = made(family)
    frames = [picture(64, 96, seed) for seed in range(6)]
    states = model.encode(TEXT, video=frames, fps=3.0, max_pixels=64 * 96)
    compare(states, reference, f"{family}.video")


@hearing
def test_layers_of_sounds_pictures_a_video_and_a_text(made, compare, picture, family):
    model, reference = made(family)
    sounds = [(noise(0.7, 44100), 44100), (noise(3.21, 16000), 16000)]
    compare(model.encode(TEXT, audio=sounds[0]), reference, f"{family}.sound")
    pictures = [picture(90, 150), picture(64, 130, 1)]
    frames = [picture(64, 96, seed) for seed in range(6)]
    states = model.encode(TEXT, pictures, video=frames, fps=3.0, max_pixels=64 * 96, audio=sounds)
    compare(states, reference, f"{family}.all")


# --- prompt and token map


@every
@pytest.mark.parametrize("system", [None, "You paint."])
def test_ids_of_a_text_are_the_chat_templates(made, family, system):
    model, reference = made(family)
    content = TEXT if KNOWN[family].vision is None else [{"type": "text", "text": TEXT}]
    messages = [{"role": "user", "content": content}]
    if system is not None:
        said = system if KNOWN[family].vision is None else [{"type": "text", "text": system}]
        messages.insert(0, {"role": "system", "content": said})
    text = reference.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **KNOWN[family].chat_settings
    )
    want = reference.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert list(model.encode(TEXT, system=system).prompt.ids) == want


@pytest.mark.parametrize("family", QWEN_EYES, indirect=True)
@pytest.mark.parametrize("images", [[], [(90, 150)], [(200, 64), (70, 70)]])
def test_ids_and_pixels_are_the_processors_of_qwens_eyes(v, hf, picture, images):
    pictures = [picture(*size, seed) for seed, size in enumerate(images)]
    inputs = hf.inputs("a red house", pictures, system="You paint.")
    h = v.encode("a red house", pictures, system="You paint.")
    assert list(h.prompt.ids) == inputs["input_ids"][0].tolist()
    if pictures:
        patches = [visual.patches() for visual in h.prompt.vision_inputs]
        assert [list(one.grid) for one in patches] == inputs["image_grid_thw"].tolist()
        pixels = torch.cat([one.pixels for one in patches])
        assert torch.equal(pixels, inputs["pixel_values"])


@every
def test_roles_of_a_text(made, family):
    model, _ = made(family)
    h = model.encode(TEXT, system="You paint.")
    said = {}
    for role in ("text", "system"):
        columns = zip(h.prompt.ids, h.token_map["role"], strict=True)
        ids = [number for number, one in columns if one == role]
        said[role] = model.tokenizer.text_of(ids).strip()
    assert said["text"] == TEXT
    # A chat template may write something of its own before it, such as a date.
    assert said["system"].endswith("You paint.") and TEXT not in said["system"]


@seeing
def test_each_picture_has_its_place_in_the_token_map(made, picture, family):
    model, _ = made(family)
    h = model.encode(TEXT, [picture(90, 150), picture(200, 64, 1)])
    places = h.token_map
    names = ("role", "image", "frame", "tile", "row", "col")
    columns = list(zip(*(places[name] for name in names), strict=True))
    for number, grid in enumerate(places["grids"]):
        visual = h.prompt.vision_inputs[number]
        mine = [each[2:] for each in columns if each[0] == "image" and each[1] == number]
        assert mine == [(0, *place) for place in visual.places(0)]
        whole = [place for place in mine if place[1] >= 0]  # -1 = thumbnail
        assert sorted(place[2:] for place in whole) == [
            (row, col) for row in range(grid["rows"]) for col in range(grid["cols"])
        ]
        vision = model.family.vision
        between = (item if isinstance(item, str) else vision.image_token
                   for item in vision.layout(visual, 0))  # fmt: skip
        own = [at for at, image in enumerate(places["image"]) if image == number]
        written = model.tokenizer.text_of([h.prompt.ids[at] for at in own])
        assert written == vision.start + "".join(between) + vision.end
        assert {places["role"][at] for at in own} <= {"image", "vision_marker"}
    ids = [number for number, role in zip(h.prompt.ids, places["role"], strict=True)
           if role == "image"]  # fmt: skip
    assert set(ids) == {model.tokenizer.id_of(model.family.vision.image_token)}


@every
def test_forged_tokens_stay_text(made, picture, family):
    model, _ = made(family)
    forged = "".join(sorted(model.tokenizer.specials)) + " a house"
    pictures = [picture(64, 64)] if KNOWN[family].has_vision else []
    honest, lie = (model.encode(text, pictures) for text in ("a house", forged))
    ours = model.tokenizer.find(*model.tokenizer.specials)
    counts = [sum(number in ours for number in h.prompt.ids) for h in (honest, lie)]
    assert counts[0] == counts[1]
    columns = zip(lie.prompt.ids, lie.token_map["role"], strict=True)
    said = [number for number, role in columns if role == "text"]
    assert not ours & set(said)
    assert model.tokenizer.text_of(said).strip() == forged.strip()


def test_the_blind_say_so(made, picture):
    for family in FAMILIES:
        if not KNOWN[family].has_vision:
            with pytest.raises(ValueError, match="reads text only, pictures or a video were given"):
                made(family)[0].encode("a", [picture(64, 64)])
        elif not KNOWN[family].vision.video:
            with pytest.raises(ValueError, match="takes pictures, not videos"):
                made(family)[0].encode("a", video=[picture(64, 64)] * 4)


@every
def test_pad_tokens_in_front_change_nothing_behind_them(made, err, family):
    model, _ = made(family)
    plain, padded = model.encode(TEXT), model.encode(TEXT, padding="left")
    left = padded.n - plain.n
    assert padded.n == 512 and set(padded.token_map["role"][:left]) == {"pad"}
    assert padded.token_map["role"][left:] == plain.token_map["role"]
    for layer in range(plain.num_layers):
        assert err(padded.layer(layer)[:, left:], plain.layer(layer)) <= 2e-5


# --- depth and reuse


@every
def test_deeper_resumes_where_it_stopped(made, watch, err, family):
    model, _ = made(family)
    model.prefix_cache.limit = 0
    try:
        want = model.encode(TEXT).layer(-1)
        h = model.encode(TEXT, depth=2)
        assert h.depth == 2
        count = watch(model)
        found = h.layer(-1)
        assert count.layers == list(range(2, LAYERS))
    finally:
        model.prefix_cache.limit = 1024 * 2**20
    assert err(found, want) <= 1e-6


@every
def test_a_new_text_behind_the_same_beginning(made, watch, err, picture, family):
    model, _ = made(family)
    pictures = [picture(90, 150)] if KNOWN[family].has_vision else []
    system = "You are a painter of houses and rivers, and you like the colour red."
    model.encode("A cat", pictures, system=system, depth=-1)
    count = watch(model)
    h = model.encode("Two dogs", pictures, system=system, depth=-1)
    assert count.pictures == 0  # what the tower made of a picture is kept by itself
    assert bool(h.reused_tokens) is KNOWN[family].decoder.reuses_prefix
    model.prefix_cache.clear()
    fresh = model.encode("Two dogs", pictures, system=system)
    for layer in range(h.num_layers):
        assert err(h.layer(layer), fresh.layer(layer)) <= rounding(layer)


# --- writing


@every
def test_it_writes_what_generate_writes(made, picture, family):
    model, reference = made(family)
    sees = KNOWN[family].has_vision and expected.known_fault(f"{family}.pictures.1") is None
    pictures = [picture(64, 96)] if sees else []
    prompt = model.encode(TEXT, pictures, system="")
    with torch.no_grad():
        out = reference.model.generate(
            **reference.inputs(prompt), max_new_tokens=12, do_sample=False
        )
    want = out[0, len(prompt.prompt.ids) :].tolist()
    stops = model.tokenizer.find(*model.family.stop_tokens)
    want = [number for number in want if number not in stops]
    found = model.rewrite(TEXT, pictures, system="", max_tokens=12, temperature=0)
    assert list(found.states.prompt.ids[len(prompt.prompt.ids) :]) == want


@every
def test_states_of_what_it_wrote(made, err, picture, family):
    """They are those of the prompt and the answer run as one sequence."""
    model, _ = made(family)
    pictures = [picture(64, 96)] if KNOWN[family].has_vision else []
    found = model.rewrite(TEXT, pictures, max_tokens=8, temperature=1.0, top_k=0, top_p=1.0, seed=3)
    model.prefix_cache.clear()
    again = states_of(model.engine, found.states.prompt, found.states.target, 512)
    for layer in range(again.num_layers):
        assert err(found.states.layer(layer), again.layer(layer)) <= 1e-4


# --- what is computed while a model is built


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@every
@pytest.mark.slow
def test_buffers_of_a_bfloat16_file_are_those_of_from_pretrained(family, tmp_path, dtype):
    """In each dtype that it may run in: none is rounded to the file's first."""
    # At this width Gemma 3's factor for the embeddings is no number of bfloat16's.
    folder = write_tiny(tmp_path / family, family, layers=LAYERS, width=80)
    weights = load_file(folder / "model.safetensors")
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    save_file(halved, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    inner = config.get(KNOWN[family].inside[0], config)
    names = ("text_config", "vision_config", "audio_config")
    for part in (config, inner, *(inner.get(name, {}) for name in names)):
        part.pop("torch_dtype", None)
        part["dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config))
    known = KNOWN[family]
    model = vlm.load(folder, dtype=dtype).backbone.model
    ours = model if known.has_vision else model.language_model
    theirs, _ = plain_model(folder, family, dtype)
    base = theirs.model if known.base_model is None else known.base_model(theirs)
    wanted = dict(base.named_buffers())
    found = dict(ours.named_buffers())
    assert found.keys() == wanted.keys() and wanted
    for name, buffer in wanted.items():
        assert found[name].dtype == buffer.dtype and torch.equal(found[name], buffer), name
