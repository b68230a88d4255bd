"""The built-in tiny models: complete, the same everywhere, and alive over all their layers."""

import hashlib
import importlib.util
import json
import unicodedata

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm.families import FAMILIES as KNOWN
from vlm.tiny.folder import is_tiny, write_tiny
from vlm.tiny.qwen_tokenizer import (
    ORDINARY,
    SPECIAL,
    byte_letters,
    learn_merges,
    make_tokenizer,
)

HASHES = {
    "qwen2_vl": "b491fe343b2c2ba04d8400997740385fe16a6c8cb9706fb3c4942994e369b66a",
    "qwen2_5_vl": "6aa64d4e48ae11e1bae5ce6fe4de0f32e7398b8f638f837f9a1a6d80ddb345bd",
    "qwen3_vl": "e6528e4e81de27c09e811477cd3a3921db480e6c44150fd742045a57c36106f4",
}
FAMILIES = tuple(HASHES)  # the others are drawn the same way: tests/vlm/test_every_family.py
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
TOKENIZER_HASH = "dcc7e84caba1dbf8fe44e3be34dc229421d951ed5b1cd7fb280eab44c8a9493e"
# What enters decoder layers 1, 9 and 36 at the last token, dimension 0; float32 on a CPU
STREAM = {
    "qwen2_vl": [0.17669, 1.79709, 5.21013],
    "qwen2_5_vl": [0.17669, 0.48246, 3.35536],
    "qwen3_vl": [-0.53832, -0.47628, -0.04531],
}
TEXTS = [
    "A red house on a green hill.", "", " ", "\n\n\t  x", "12345 3.14", "\r\n\r\nline", "x" * 500,
    "一只红色的猫坐在窗台上。", "赤い家と猫、こんにちは！", "빨간 집과 고양이",
    "🙂🎨 👨\u200d👩\u200d👧 👍🏽 🇩🇪", "Ünïcödé naïve café", "e\u0301 cafe\u0301",
    "مرحبا بالعالم", "שלום", "\u200b\u00ad\ufeff", "\U0001f9d9\U00010348", "it's I'M we'LL",
    "\x00\x7f",
]  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("tiny")
    return {name: write_tiny(place / name, name) for name in FAMILIES}


@pytest.fixture(scope="module")
def tokenizer(folders):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folders["qwen3_vl"])


def load(folder):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)


def state_hash(state):
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()


# --- the folder


@pytest.mark.slow
def test_it_is_complete_and_small(folders, family):
    folder = folders[family]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    assert is_tiny(folder)


def test_the_same_bits_on_every_version(folders, family):
    state = load_file(folders[family] / "model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert state_hash(state) == HASHES[family]


def test_every_parameter_belongs_to_the_model(folders, family):
    model, info = load(folders[family])
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[problem], problem
    assert type(model).__name__ == f"{_class(family)}ForConditionalGeneration"
    assert model.dtype == torch.float32


def _class(family):
    return {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[family]


@pytest.mark.slow
def test_fewer_layers_are_the_first_of_more(folders, family, tmp_path):
    deep = load_file(folders[family] / "model.safetensors")
    short = load_file(write_tiny(tmp_path / "short", family, layers=4) / "model.safetensors")
    assert set(short) < set(deep)
    assert all(torch.equal(short[name], deep[name]) for name in short)


@pytest.mark.parametrize(
    ("family", "width", "layers"),
    [("qwen3_vl", 16, 1), ("qwen3_vl", 128, 3), ("qwen3_vl", 2560, 2), ("qwen3_vl", 4096, 1),
     ("qwen2_vl", 128, 2), ("qwen2_5_vl", 48, 2), ("qwen2_5_vl", 1280, 1)],
)  # fmt: skip
@pytest.mark.slow
def test_other_sizes(family, width, layers, tmp_path):
    folder = write_tiny(tmp_path / "model", family, width, layers)
    model, info = load(folder)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    states = stream(model, folder)
    assert len(states) == layers and states[0].shape[-1] == width
    assert all(torch.isfinite(state).all() for state in states)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("qwen9",),
            "no tiny model of the family 'qwen9'.*qwen2_vl, qwen2_5_vl, qwen2_5_omni, qwen3_vl",
        ),
        (("qwen3_vl", 100), "cannot be 100 wide.*multiple of 16. Try 96"),
        (("qwen3_vl", 0), "cannot be 0 wide.*Try 16"),
        (("qwen2_vl", 1040), "cannot be 1040 wide.*multiple of 128. Try 1024"),
        (("qwen3_vl", 64, 0), "at least 1 decoder layer"),
    ],
)
def test_impossible_models(arguments, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        write_tiny(tmp_path / "x", *arguments)
    assert not (tmp_path / "x").exists()


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not a built-in tiny model.*nothing was written"):
        write_tiny(tmp_path)
    with pytest.raises(ValueError, match="nothing was written"):
        write_tiny(tmp_path / "notes.txt")
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="nothing was written"):
        write_tiny(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    assert not is_tiny(tmp_path) and not is_tiny(tmp_path / "none")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "notes.txt"]


def test_a_tiny_model_is_written_over(tmp_path):
    write_tiny(tmp_path, layers=2)
    write_tiny(tmp_path, "qwen2_vl", layers=1)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen2_vl"


# --- what runs through it


def stream(model, folder):
    """What enters each decoder layer for a picture of 24 patches and a few words: [N, D] each."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "<|vision_start|>" + "<|image_pad|>" * 6 + "<|vision_end|>A red house on a green hill"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    is_image = ids == model.config.image_token_id
    patch = model.config.vision_config.patch_size
    pixels = torch.linspace(-1.5, 1.5, 24 * 6 * patch**2).sin().reshape(24, -1)
    seen = []

    def hook(module, args, kwargs):
        seen.append((args[0] if args else kwargs["hidden_states"])[0].clone())

    hooks = [
        layer.register_forward_pre_hook(hook, with_kwargs=True)
        for layer in model.model.language_model.layers
    ]
    with torch.no_grad():
        model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixels,
            image_grid_thw=torch.tensor([[1, 4, 6]]),
            mm_token_type_ids=is_image.int(),
        )
    for handle in hooks:
        handle.remove()
    return seen


@pytest.mark.slow
def test_the_stream_lives_through_all_layers(folders, family):
    states = stream(load(folders[family])[0], folders[family])
    assert len(states) == 36 and all(torch.isfinite(state).all() for state in states)
    image, text = slice(1, 7), slice(8, None)
    sizes = [float(state.std()) for state in states]
    assert 0.2 < sizes[0] < 2 and 3 < sizes[-1] / sizes[0] < 30
    for state in states[1:]:
        for tokens in (state[image], state[text]):  # no two tokens become the same
            assert (tokens - tokens.mean(0)).std() > 0.3 * tokens.std()
    for a, b in zip(states, states[1:], strict=False):
        assert 0.2 < torch.cosine_similarity(a, b, dim=-1).mean() < 0.995
    means = [states[0][part].mean(0) for part in (image, text)]
    assert (means[0] - means[1]).norm() > 0.5 * means[1].norm()


def test_the_stream_is_the_same_on_every_version(folders, family):
    states = stream(load(folders[family])[0], folders[family])
    found = [float(states[layer][-1, 0]) for layer in (0, 8, 35)]
    assert found == pytest.approx(STREAM[family], rel=1e-3, abs=1e-3)


# --- the tokenizer


def test_the_vocabulary(folders, tokenizer, family):
    config = json.loads((folders[family] / "config.json").read_text())
    rows = config.get("text_config", config)["vocab_size"]
    assert len(tokenizer) <= rows <= 2000
    for name, token in (("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>"),
                        ("vision_start_token_id", "<|vision_start|>"),
                        ("vision_end_token_id", "<|vision_end|>")):  # fmt: skip
        assert config[name] == tokenizer.convert_tokens_to_ids(token)


def test_the_merges_are_the_same_on_every_version():
    text = json.dumps(make_tokenizer(), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == TOKENIZER_HASH
    assert sorted(set(byte_letters())) == sorted(byte_letters())
    assert learn_merges("ab ab abc", 3) == [("a", "b"), ("Ġ", "ab"), ("Ġab", "c")]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert back == unicodedata.normalize("NFC", text)
    assert max(ids, default=0) < len(tokenizer) - len(SPECIAL) - len(ORDINARY)


def test_words_are_merged(tokenizer):
    assert len(tokenizer("A red house on a green hill")["input_ids"]) <= 8
    assert len(tokenizer("Describe this image.")["input_ids"]) <= 5
    assert len(tokenizer("猫")["input_ids"]) < 3


@pytest.mark.parametrize("token", SPECIAL + ORDINARY)
def test_added_tokens_are_single_ids(tokenizer, token):
    (one,) = tokenizer(token)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(one) == token
    assert tokenizer(f"a{token}b")["input_ids"][1] == one
    assert (one in tokenizer.all_special_ids) == (token in SPECIAL)


def test_added_tokens_are_in_order(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(list(SPECIAL + ORDINARY))
    assert ids == list(range(ids[0], ids[0] + 26))
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"


def test_the_same_tokenizer_for_all_families(folders):
    texts = {(folder / "tokenizer.json").read_text(encoding="utf-8") for folder in folders.values()}
    assert len(texts) == 1


# --- chat template and processors

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
FILM = "<|vision_start|><|video_pad|><|vision_end|>"


def render(folder, messages, **options):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def opening(family):
    if family == "qwen3_vl":
        return ""
    return "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


def test_chat_template(folders, family):
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Hi  {{x}}\n"}]
    messages = [{"role": "user", "content": content}]
    expected = f"{opening(family)}<|im_start|>user\n{PICTURE}{PICTURE}Hi  {{{{x}}}}\n<|im_end|>\n"
    assert render(folders[family], messages) == expected
    prompt = render(folders[family], messages, add_generation_prompt=True)
    assert prompt == expected + "<|im_start|>assistant\n"


def test_chat_template_numbers_pictures(folders, family):
    content = [
        {"type": "image"},
        {"type": "video"},
        {"type": "image"},
        {"type": "text", "text": "x"},
    ]
    told = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": content[:1]},
    ]
    text = render(folders[family], told, add_vision_id=True)
    assert text == (
        f"{opening(family)}<|im_start|>user\nPicture 1: {PICTURE}Video 1: {FILM}"
        f"Picture 2: {PICTURE}x<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
        f"<|im_start|>user\nPicture 3: {PICTURE}<|im_end|>\n"
    )


def test_chat_template_with_a_system_turn(folders, family):
    for system in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        told = [{"role": "system", "content": system}, {"role": "user", "content": "Hi"}]
        assert render(folders[family], told) == (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        )


def test_both_places_of_the_template_agree(folders, family):
    place = folders[family]
    for name in ("tokenizer_config.json", "chat_template.json"):
        content = json.loads((place / name).read_text(encoding="utf-8"))
        assert content["chat_template"] == KNOWN[family].chat_template


def test_image_processor(folders, family):
    from PIL import Image
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folders[family])
    out = processor(images=[Image.new("RGB", (300, 260))], return_tensors="pt")
    patch = 16 if family == "qwen3_vl" else 14
    assert out["pixel_values"].shape[1] == 6 * patch**2


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="the families' processors need torchvision, which is not installed",
)
def test_processor(folders, family):
    from PIL import Image
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folders[family])
    assert type(processor).__name__ == f"{_class(family)}Processor"
    content = [{"type": "image", "image": Image.new("RGB", (300, 200))}]
    out = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids = json.loads((folders[family] / "config.json").read_text())
    slots = int((out["input_ids"] == ids["image_token_id"]).sum())
    assert slots == int(out["image_grid_thw"].prod()) // 4
