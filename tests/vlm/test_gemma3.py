"""What only Gemma 3 does: windows, blank space as tokens, turns without a system turn."""

import json
import re
import shutil

import pytest
import torch
import transformers
from hugging_face import pil_processor
from model_files import edit
from PIL import Image
from reference import Reference
from rounding import rounding
from safetensors.torch import load_file, save_file

import vlm
from vlm.running.sampling import Sampling
from vlm.tiny.gemma3 import BLANKS, TAGS, WINDOW
from vlm.weights.tensor_names import our_name

pytestmark = pytest.mark.slow

LAYERS = 6  # the sixth is the first that sees everything
LONG = "A red house by the river, and a cat on its roof.\n" * 30
BLANK_TEXT = " a\n\n\nred   house\t\n \n    by the\n"


@pytest.fixture
def gemma(tiny):
    return tiny("gemma3", LAYERS)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("gemma3", LAYERS), tmp_path / "gemma3")


@pytest.fixture(scope="module")
def reference(tiny_folder):
    from vlm.families import FAMILIES

    return Reference(tiny_folder("gemma3", LAYERS), FAMILIES["gemma3"])


@pytest.fixture(scope="module")
def processor(tiny_folder):
    """Its own, put together by hand: AutoProcessor insists on torchvision."""
    place = str(tiny_folder("gemma3", LAYERS))
    images = pil_processor(place)
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    skip = {"check_argument_for_proper_class": lambda self, name, value: None}
    cls = type("Gemma3Processor", (transformers.Gemma3Processor,), skip)
    return cls(images, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=256)


def said(model, states, role):
    columns = zip(states.prompt.ids, states.token_map["role"], strict=True)
    return model.tokenizer.text_of([number for number, one in columns if one == role])


# --- prompt


def test_videos_are_refused(gemma, picture):
    with pytest.raises(ValueError, match=r"\(Gemma 3\) takes pictures, not videos"):
        gemma.encode("a", video=[picture(64, 64)] * 2)


def test_every_picture_is_256_tokens_whatever_the_budget(gemma, picture):
    h = gemma.encode("a", [picture(90, 150), picture(2000, 30)], max_pixels=64 * 64, min_pixels=1)
    assert [(grid["rows"], grid["cols"]) for grid in h.token_map["grids"]] == [(16, 16)] * 2
    assert h.token_map["role"].count("image") == 2 * 256
    free = gemma.encode("a", [picture(90, 150), picture(2000, 30)])
    assert torch.equal(h.layer(-1), free.layer(-1))


@pytest.mark.parametrize("system", [None, "You paint."])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_ids_are_those_of_its_processor(gemma, processor, picture, system, count):
    images = [picture(64, 64, seed) for seed in range(count)]
    text = "Two cats\n\nand   一只红色的猫, 🎨"
    content = [{"type": "image"}] * count + [{"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    rendered = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    given = {"images": [images]} if images else {}
    want = processor(text=[rendered], add_special_tokens=False, **given)
    h = gemma.encode(text, images, system=system)
    assert list(h.prompt.ids) == list(want["input_ids"][0])
    if images:
        seen = [int(role == "image") for role in h.token_map["role"]]
        assert seen == list(want["token_type_ids"][0])


def test_the_prompt_as_the_model_reads_it(gemma, picture):
    h = gemma.encode("a house", [picture(64, 64)], system="You paint.")
    read = gemma.tokenizer.text_of(list(h.prompt.ids))
    assert read.replace("<image_soft_token>" * 256, "[picture]") == (
        "<bos><start_of_turn>user\nYou paint.\n\n"
        "\n\n<start_of_image>[picture]<end_of_image>\n\na house<end_of_turn>\n"
        "<start_of_turn>model\n"
    )
    assert said(gemma, h, "system").strip() == "You paint."
    assert said(gemma, h, "text") == "a house"
    assert said(gemma, h, "vision_marker") == "<start_of_image><end_of_image>"


def test_blank_space_is_read_as_its_tokens(gemma, reference):
    ids, spans = gemma.tokenizer.split(BLANK_TEXT)
    assert ids == reference.tokenizer(BLANK_TEXT, add_special_tokens=False)["input_ids"]
    vocabulary = reference.tokenizer.get_vocab()
    assert vocabulary["\n\n\n"] in ids and vocabulary["▁▁"] in ids
    assert spans[0][0] == 0 and spans[-1][1] == len(BLANK_TEXT)
    for number, (start, end) in zip(ids, spans, strict=True):
        assert gemma.tokenizer.text_of([number]) == BLANK_TEXT[start:end]
    assert not gemma.tokenizer.specials.intersection(BLANKS)


@pytest.mark.parametrize("text", ["\n\na house\n", " a house", "a house \t\n", "\n", " "])
@pytest.mark.parametrize("system", [None, " You paint.\n"])
def test_blank_ends_are_what_its_template_leaves(gemma, processor, text, system):
    """It trims the words, and not what a system message says."""
    messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    rendered = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    want = processor.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    h = gemma.encode(text, system=system)
    assert list(h.prompt.ids) == want
    assert said(gemma, h, "text") == text.strip()


def test_lines_of_the_text_next_to_lines_of_the_template(folder, picture):
    """A token that both share counts as typed; the picture's marker is not touched by it."""
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    file = "chat_template.json" if "chat_template" not in settings else "tokenizer_config.json"
    template = json.loads((folder / file).read_text())["chat_template"]
    assert " | trim" in template
    edit(folder / file, chat_template=template.replace(" | trim", ""))
    gemma = vlm.load(folder, dtype="float32")
    h = gemma.encode("\n\na house\n", [picture(64, 64)])
    roles, ids = h.token_map["role"], list(h.prompt.ids)
    assert gemma.tokenizer.text_of(ids).endswith(
        "<end_of_image>\n\n\n\na house\n<end_of_turn>\n<start_of_turn>model\n"
    )
    end = ids.index(gemma.tokenizer.id_of("<end_of_image>"))
    assert roles[end : end + 2] == ["vision_marker", "text"] and h.prompt.prefix == end + 1


def test_tags_in_a_text_are_text(gemma):
    """They are added tokens of its tokenizer, and stay as unreadable as its other ones."""
    tag = gemma.tokenizer.id_of("<table>")
    assert set(TAGS) <= gemma.tokenizer.specials
    h = gemma.encode("a <table> of wood")
    assert tag not in h.prompt.ids and said(gemma, h, "text") == "a <table> of wood"


def test_the_prefix_ends_behind_whole_pictures(gemma, picture):
    for text in ("a house", ""):
        h = gemma.encode(text, [picture(64, 64), picture(64, 64, 1)])
        roles = h.token_map["role"]
        last = max(place for place, role in enumerate(roles) if role == "image")
        assert h.prompt.prefix > last and "text" not in roles[: h.prompt.prefix]


def test_a_template_of_qwens_turns_is_refused(gemma):
    with pytest.raises(ValueError, match=r"Gemma 3 has no <\|im_start\|>. Set template to chat"):
        gemma.encode("a house", target="z-image")
    assert gemma.encode("a house", target="z-image", template="chat").layer(-2).isfinite().all()


def test_raw_needs_no_turns(gemma, reference):
    """The tokenizer's first token, then the text as it is; a system text is a paragraph of it."""
    h = gemma.encode(" a house\n", template="raw")
    assert list(h.prompt.ids) == reference.tokenizer(" a house\n")["input_ids"]
    assert h.token_map["role"][0] == "template" and said(gemma, h, "text") == " a house\n"
    h = gemma.encode("a house", template="raw", system="You paint.")
    assert list(h.prompt.ids) == reference.tokenizer("You paint.\n\na house")["input_ids"]
    assert said(gemma, h, "system") == "You paint."


# --- windows


def test_layers_of_a_text_longer_than_the_window(gemma, reference, err):
    h = gemma.encode(LONG)
    assert len(h.prompt.ids) > 1.5 * WINDOW
    for layer, want in enumerate(reference.streams(h)):
        assert err(h.layer(layer), want) <= rounding(layer), layer


def test_what_lies_outside_the_window_is_not_seen(gemma, err):
    """By a sliding layer; the sixth layer sees all."""
    words = LONG.split(" ")
    h, other = gemma.encode(LONG), gemma.encode(" ".join(["B", *words[1:]]))
    columns = enumerate(zip(h.prompt.ids, other.prompt.ids, strict=True))
    reach = max(place for place, (one, two) in columns if one != two) + WINDOW
    assert not torch.equal(h.layer(1)[:, reach - 1], other.layer(1)[:, reach - 1])
    assert torch.equal(h.layer(1)[:, reach:], other.layer(1)[:, reach:])
    assert not torch.equal(h.layer(6)[:, -1], other.layer(6)[:, -1])


def test_it_writes_beyond_the_window_what_generate_writes(gemma, reference):
    text = LONG[: LONG.index("\n") * 12]
    prompt = gemma.encode(text, system="")
    assert len(prompt.prompt.ids) < WINDOW  # which it passes while it writes
    with torch.no_grad():
        out = reference.model.generate(
            **reference.inputs(prompt), max_new_tokens=24, do_sample=False
        )
    found = gemma.rewrite(text, system="", max_tokens=24, temperature=0)
    assert len(found.states.prompt.ids) > WINDOW + 2
    want = out[0].tolist()
    stops = gemma.tokenizer.find(*gemma.family.stop_tokens)
    assert list(found.states.prompt.ids) == (want[:-1] if want[-1] in stops else want)


def test_a_new_text_behind_pictures_longer_than_the_window(gemma, watch, err, picture):
    pictures = [picture(64, 96), picture(96, 64, 1)]
    gemma.encode("A cat", pictures, depth=-1)
    count = watch(gemma)
    h = gemma.encode("Two dogs", pictures, depth=-1)
    assert count.pictures == 0 and h.reused_tokens > 2 * WINDOW
    gemma.prefix_cache.clear()
    fresh = gemma.encode("Two dogs", pictures)
    for layer in range(h.num_layers):
        assert err(h.layer(layer), fresh.layer(layer)) <= rounding(layer)


def test_models_that_look_ahead_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"] | {"use_bidirectional_attention": True}
    edit(folder / "config.json", text_config=text)
    model = vlm.load(folder, dtype="float32")
    with pytest.raises(ValueError, match="made to compare texts.*Choose a Gemma 3 that writes"):
        model.encode("a house").layer(1)


# --- writing


@pytest.mark.parametrize("stop", ["<end_of_turn>", "<eos>"])
def test_each_stop_token_ends_an_answer(gemma, monkeypatch, stop):
    words = "a red   house\n\nand 一只红色的猫 🎨"
    numbers = iter([*gemma.tokenizer.split(words)[0], gemma.tokenizer.id_of(stop)])
    monkeypatch.setattr(Sampling, "choose", lambda self, logits, generator: next(numbers))
    found = gemma.rewrite("a house", max_tokens=80)
    assert found.finished and found.text == words


# --- files


def _saved_since_4_52(name):
    return re.sub(r"^language_model\.model\.", "language_model.", name).join(["model.", ""])


LAYOUTS = {
    "published": lambda name: name,
    "transformers 4.52": _saved_since_4_52,
    "transformers 5's modules": our_name,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("head", [False, True])
def test_names_that_are_about(gemma, folder, picture, layout, head):
    weights = load_file(folder / "model.safetensors")
    assert "vision_tower.vision_model.post_layernorm.weight" in weights
    assert "language_model.model.norm.weight" in weights
    named = {LAYOUTS[layout](name): tensor for name, tensor in weights.items()}
    assert len(named) == len(weights)
    if head:
        named["lm_head.weight"] = weights["language_model.model.embed_tokens.weight"].clone()
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    edit(folder / "config.json", tie_word_embeddings=None)  # as published
    model = vlm.load(folder, dtype="float32")
    images = [picture(64, 96)]
    assert torch.equal(model.encode("a", images).layer(-1), gemma.encode("a", images).layer(-1))
    answers = [
        one.rewrite("a house", system="", max_tokens=4, temperature=0).states.prompt.ids
        for one in (model, gemma)
    ]
    assert answers[0] == answers[1]


def test_an_fp8_table_keeps_the_embeddings_scale(gemma, folder, tmp_path):
    name = "language_model.model.embed_tokens.weight"
    weights = load_file(folder / "model.safetensors")
    table = weights[name].to(torch.float8_e4m3fn)
    plain = shutil.copytree(folder, tmp_path / "plain")
    for place, tensor in ((folder, table), (plain, table.float())):
        save_file(weights | {name: tensor}, place / "model.safetensors", {"format": "pt"})
    models = [vlm.load(place, dtype="float32") for place in (folder, plain)]
    states = [model.encode("a red house").layers([0, 3, -1]) for model in models]
    assert torch.equal(*states)
    assert torch.allclose(states[0][:, 0], gemma.encode("a red house").layer(0), atol=0.2, rtol=0.1)


def test_a_missing_projector_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["multi_modal_projector.mm_input_projection_weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lack 1 tensors of Gemma 3, .* is multi_modal_projector"):
        vlm.load(folder)


def test_the_text_only_models_tokenizer_knows_a_token_more(tiny, tiny_folder, tmp_path):
    """That of a picture, which 1B has no row for; any other token too many is refused."""
    model = tiny("gemma3_text", 3)
    assert model.tokenizer.size() == model.backbone.vocabulary + 1
    assert model.encode("a house").layer(-1).isfinite().all()
    copy = shutil.copytree(tiny_folder("gemma3_text", 3), tmp_path / "text")
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["zz"] = max(vocabulary.values()) + 1
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="belong to different models"):
        vlm.load(copy)


def test_pictures_need_eyes(tiny):
    with pytest.raises(ValueError, match="reads text only"):
        tiny("gemma3_text", 3).encode("a", [Image.new("RGB", (8, 8))])
