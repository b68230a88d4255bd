"""Every preset, word for word: the targets' as in ComfyUI's encoders, X2I's as published."""

import re

import pytest

import vlm
from vlm.prompts.templates import TEMPLATES, find_template, split_special

# Copied from ComfyUI's comfy/text_encoders/ (z_image.py, flux.py, krea2.py, qwen_image.py).
Z_IMAGE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
KLEIN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
KREA2 = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity,"
    " text, spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}"
    "<|im_end|>\n<|im_start|>assistant\n"
)
QWEN_IMAGE_EDIT = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture,"
    " objects, background), then explain how the user's text instruction should alter or modify the"
    " image. Generate a new image that meets the user's requirements while maintaining consistency"
    " with the original input where appropriate.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
)
QWEN_IMAGE_21 = (
    "<|im_start|>system\nComprehend and analyze the provided prompt.<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
BY_TARGET = {
    "z-image": Z_IMAGE,
    "flux2-klein-4b": KLEIN,
    "flux2-klein-9b": KLEIN,
    "krea2": KREA2,
    "qwen-image": KREA2,
    "qwen-image-2.1": QWEN_IMAGE_21,
    "qwen-image-edit-plus": QWEN_IMAGE_EDIT.replace(
        "<|vision_start|><|image_pad|><|vision_end|>", ""
    ),
    "hunyuan-image": KREA2.removesuffix("\n<|im_start|>assistant\n"),
    "minimax-h3": "{}",
    "mage-flow": KREA2,
    "joyimage": KREA2.replace("system\n", "system\n \\n"),
    "ideogram4": Z_IMAGE,
    "flux3-klein": Z_IMAGE,
}
# What a model's own node puts where there are no words.
NO_WORDS = {"qwen-image-2.1": " ", "minimax-h3": "<|endoftext|>"}
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
# Two chat templates there are: with a system turn of its own, and without.
TWO = pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_vl"], indirect=True)
PROMPTS = [
    "a red house",
    "",
    'it\'s a "quoted" {house} \\ with %s and 你好 🎨',
    "two\nlines\tand \x07 odd ones \u200b",
]


def written(model, h):
    """The prompt as one string, each picture as a single image token, padding left out."""
    text = model.tokenizer.text_of(list(h.prompt.ids[: h.prompt.real]))
    return re.sub(r"(<\|(image|video)_pad\|>)+", r"\1", text)


@pytest.fixture
def small(tiny, family):
    return tiny(family, 2)


# ---- the targets


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("target", BY_TARGET)
@TWO
def test_a_targets_template_is_comfyuis(small, hf, target, prompt):
    if target not in vlm.TARGETS:
        h = small.encode(prompt, template=target)
    else:
        h = small.encode(prompt, target=target)
    words = prompt or NO_WORDS.get(target, "")
    want = BY_TARGET[target].replace("{}", words)
    assert written(small, h) == want
    assert list(h.prompt.ids[: h.prompt.real]) == hf.tokenizer(want)["input_ids"]


def test_templates_with_pictures(small, picture):
    images = [picture(64, 64, 0), picture(64, 96, 1)]
    prompts = {
        "z-image": Z_IMAGE.replace("{}", VISION * 2 + "a house"),
        "flux2-klein": KLEIN.replace("{}", VISION * 2 + "a house"),
        "krea2": KREA2.replace("{}", VISION * 2 + "a house"),
        "qwen-image": QWEN_IMAGE_EDIT.replace(VISION, VISION * 2).replace("{}", "a house"),
        "qwen-image-2.1": QWEN_IMAGE_21.replace("{}", f"<image1>{VISION} <image2>{VISION}a house"),
        "qwen-image-edit-plus": BY_TARGET["qwen-image-edit-plus"].replace(
            "{}", f"Picture 1: {VISION}Picture 2: {VISION}a house"
        ),
        "minimax-h3": f"<Picture 1>: {VISION}<Picture 2>: {VISION}a house",
        "mage-flow": BY_TARGET["qwen-image-edit-plus"].replace(
            "{}", f"Image 1: {VISION}Image 2: {VISION}a house"
        ),
        "joyimage": BY_TARGET["joyimage"].replace("{}", VISION * 2 + "a house"),
        "raw": VISION * 2 + "a house",
    }
    for name, want in prompts.items():
        assert written(small, small.encode("a house", images, template=name)) == want
    one = small.encode("a house", images[:1], target="qwen-image")
    assert written(small, one) == QWEN_IMAGE_EDIT.replace("{}", "a house")


def test_a_system_prompt_takes_the_place_of_the_templates(small):
    assert written(small, small.encode("a", target="krea2", system="Be brief.")) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n" + Z_IMAGE.replace("{}", "a")
    )
    none = small.encode("a", target="krea2", system="")
    assert written(small, none) == Z_IMAGE.replace("{}", "a")
    for name in ("z-image", "raw"):
        with_system = written(small, small.encode("a", template=name, system="Be brief."))
        assert with_system == "<|im_start|>system\nBe brief.<|im_end|>\n" + written(
            small, small.encode("a", template=name)
        )


def test_the_familys_own_template_without_a_system_prompt(small):
    default = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    h = small.encode("a")
    if small.family.model_type == "qwen3_vl":
        default = ""
    assert written(small, h) == default + Z_IMAGE.replace("{}", "a")


# ---- X2I

X2I = {
    "x2i": lambda text, edit, image, video: {
        "Text input": text,
        "Instruction editing description": edit or "",
        "image input": "yes" if image or video else "no",
    },
    "x2i-train": lambda text, edit, image, video: {
        "Text input": text,
        "Instruction editing description": edit or "no",
        "image input": "yes" if image or video else "no",
    },
    "x2i-paper": lambda text, edit, image, video: {
        "text prompt": text,
        "editing prompt": edit or "",
        "image prompt": "yes" if image else "no",
        "video prompt": "yes" if video else "no",
        "audio prompt": "no",
    },
    "x2i-internvl": lambda text, edit, image, video: {
        "Text input": text,
        "Instruction editing description": edit or "no",
    },
}
STYLE = "Style Information Only from Reference Image"


@pytest.mark.parametrize("edit", [None, STYLE, 'it\'s "odd"\n'])
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", X2I)
@TWO
def test_x2i_is_pythons_str_of_a_dict(small, hf, name, prompt, edit):
    h = small.encode(prompt, template=name, edit=edit)
    asked = str(X2I[name](prompt, edit, False, False))
    system = TEMPLATES[name].system or None
    assert list(h.prompt.ids) == hf.inputs(asked, system=system)["input_ids"][0].tolist()
    assert asked in written(small, h)


@pytest.mark.parametrize("name", X2I)
def test_x2i_says_whether_there_are_pictures_or_a_video(small, picture, name):
    image = [picture(64, 64)]
    for pictures, video in [(1, 0), (0, 1), (1, 1), (0, 0)]:
        kwargs = {"images": image} if pictures else {}
        kwargs |= {"video": image * 4, "fps": 4.0} if video else {}
        h = small.encode("it's", template=name, **kwargs)
        assert str(X2I[name]("it's", None, pictures, video)) in written(small, h)


def test_x2i_numbers_its_pictures(small, picture):
    h = small.encode("a", [picture(64, 64, 0), picture(64, 64, 1)], template="x2i")
    assert f"user\nPicture 1: {VISION}Picture 2: {VISION}{{'Text input'" in written(small, h)
    h = small.encode("a", [picture(64, 64)], template="x2i-train")
    assert "Picture 1" not in written(small, h)


def test_x2i_internvl_has_its_system_message(small):
    text = written(small, small.encode("a", template="x2i-internvl"))
    assert text.startswith("<|im_start|>system\n你是书生·万象，英文名是InternVL，")
    text = written(small, small.encode("a", template="x2i-internvl", system="Other."))
    assert text.startswith("<|im_start|>system\nOther.<|im_end|>\n<|im_start|>user\n{'Text")


@TWO
def test_x2is_bare_words_are_the_chat_templates(small, hf):
    h = small.encode("two boats", template="x2i-bare", padding="auto", target="flux1")
    want = hf.inputs("two boats")["input_ids"][0].tolist()
    assert h.n == 512 and list(h.prompt.ids[h.prompt.left :]) == want


def test_x2is_internvl_was_trained_without_turns(small):
    h = small.encode("two boats", template="x2i-internvl-train", target="flux1")
    asked = str(X2I["x2i-train"]("two boats", None, False, False))
    real = small.tokenizer.text_of(list(h.prompt.ids[: h.prompt.real]))
    assert real == "".join(small.tokenizer.begin) + asked
    assert h.n == 512 and h.token_map["role"][-1] == "pad"


def test_x2i_wraps_the_words_of_every_turn(small, picture):
    """As infer/inference_multi_turn.py: messages of wrapped words, a picture with each."""
    c = vlm.Conversation().user("a dog", [picture(64, 64)]).assistant("It runs.")
    h = small.encode("a cat", conversation=c, template="x2i")
    first, second = (str(X2I["x2i"](text, None, True, False)) for text in ("a dog", "a cat"))
    text = written(small, h)
    assert first in text and second in text and text.index(first) < text.index("It runs.")


def test_x2is_budgets_are_defaults(small, picture):
    def area(h):
        return [
            v.rows * v.cols * (v.rules.patch * v.rules.merge) ** 2 for v in h.prompt.vision_inputs
        ]

    big = picture(700, 500)
    assert area(small.encode("a", [big], template="x2i"))[0] <= 224 * 224
    assert area(small.encode("a", [big], template="x2i-paper"))[0] <= 224 * 224
    assert area(small.encode("a", [big], template="x2i-bare"))[0] <= 140 * 140
    assert area(small.encode("a", [big], template="x2i-internvl"))[0] <= 128 * 128
    assert area(small.encode("a", [big], template="x2i", max_pixels=10**6))[0] > 10**5


def test_x2is_video_is_small_and_slow(small, picture):
    frames = [picture(300, 400)] * 16
    visual = small.encode("a", video=frames, fps=4.0, template="x2i").prompt.vision_inputs[0]
    side = visual.rules.patch * visual.rules.merge
    assert visual.frames == 2  # 4 seconds at 1 frame per second, two frames a step
    assert visual.rows * visual.cols * side**2 <= 128 * 128


# ---- presets in general


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_preset_renders_for_every_family(small, picture, name):
    image = picture(64, 64)
    cases = [
        {"text": "a house"},
        {"text": "a house", "images": [image, image], "system": "Look.", "edit": "b"},
        {"text": "a house", "video": [image] * 4, "fps": 2.0},
        {"text": "", "images": [image], "video": [image] * 4, "fps": 2.0},
    ]
    for case in cases:
        h = small.encode(template=name, **case)
        assert len(h.token_map["grids"]) == len(case.get("images", [])) + ("video" in case)
        assert case["text"] in written(small, h)
        assert case.get("system", "") in written(small, h)


def test_what_a_preset_says_of_itself():
    for name, template in TEMPLATES.items():
        assert template.name == name
        assert template.source
    for target in vlm.TARGETS.values():
        assert target.template in TEMPLATES
    assert set(X2I) | set(BY_TARGET) - set(vlm.TARGETS) <= set(TEMPLATES)


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ValueError, match="no template 'poem'.*chat, raw, z-image"):
        find_template("poem")


def test_split_special_takes_the_longest_token():
    specials = frozenset({"<a>", "<a><b>", "<b>"})
    pieces = split_special("x<a><b>y<b>", "template", specials)
    assert [(piece.text, piece.special) for piece in pieces] == [
        ("x", False), ("<a><b>", True), ("y", False), ("<b>", True),
    ]  # fmt: skip
    assert split_special("", "template", specials) == []
    assert [piece.text for piece in split_special("<a>", "template", frozenset())] == ["<a>"]


def test_boogus_system_texts(small, picture):
    """One for words, another for pictures, which also goes with no words at all."""
    seen = {
        "a house": "You are a helpful assistant that generates high-quality images",
        "": "Describe the key features of the input image",
        " \n": "Describe the key features of the input image",
    }
    for words, system in seen.items():
        text = written(small, small.encode(words, target="boogu"))
        assert text.startswith(f"<|im_start|>system\n{system}")
        assert text.endswith(f"<|im_start|>user\n{words}<|im_end|>\n")
    text = written(small, small.encode("a house", [picture(64, 64)], target="boogu"))
    assert text.startswith("<|im_start|>system\nDescribe the key features of the input image")
    assert text.endswith(f"<|im_start|>user\n{VISION}a house<|im_end|>\n")


def test_mage_flow_puts_a_blank_beside_pictures_without_words(small, picture):
    text = written(small, small.encode("", [picture(64, 64)], target="mage-flow"))
    assert text.endswith(f"Image 1: {VISION} <|im_end|>\n<|im_start|>assistant\n")
