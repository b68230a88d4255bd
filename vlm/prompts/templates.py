"""How a prompt is laid out around its text and pictures: presets as data, rendered to pieces.

A rendered template is a list of pieces. Text that a person typed is a piece of its own from the
start, so nothing in it can ever be read as a special token of the template.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..quoted import told
from .padding import RIGHT, Padding
from .wordings import Shown, describe, x2i_internvl, x2i_node, x2i_paper, x2i_train

CHAT = "chat"  # the model's own chat template

IM_SYSTEM = "<|im_start|>system\n"
IM_USER = "<|im_start|>user\n"
IM_END = "<|im_end|>\n<|im_start|>assistant\n"
NO_THINKING = "<think>\n\n</think>\n\n"

DESCRIBE = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:"
)
DESCRIBE_AND_EDIT = (
    "Describe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. "
    "Generate a new image that meets the user's requirements while maintaining consistency with "
    "the original input where appropriate."
)
BOOGU_SYSTEM = (
    "You are a helpful assistant that generates high-quality images based on user instructions. "
    "The instructions are as follows."
)
INTERNVL_SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的"
    "多模态大语言模型。"
)


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt that keeps one role.

    Attributes:
        text: The characters.
        role: Role of their tokens (`DESIGN` of the token map: system, template, text, ...).
        special: True where `text` is one special token, never where a person typed it.
        header: It begins the user's turn.
        turn: Number of its turn of a conversation, origin 0.
        apart: Ordinary text that is not split into tokens together with what stands before it.
        weight: What the states of its tokens are multiplied by.
        vectors: Embeddings [n, D] that stand here in place of `text`; None = the text stands.
    """

    text: str
    role: str
    special: bool = False
    header: bool = False
    turn: int = 0
    apart: bool = False
    weight: float = 1.0
    vectors: torch.Tensor | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Template:
    """A layout.

    Attributes:
        name: What the `template` widget shows.
        source: Where the layout was published.
        body: The user's turn and what follows, with `{said}`: pictures and words; None = the chat
            template that the model's own tokenizer carries.
        system: The system turn's text; "" = no system turn (with `body` None: the tokenizer's own).
        system_with_pictures: The same when there are pictures; None = as `system`.
        system_of_nothing: The same when there are neither words nor pictures; None = as `system`.
        picture: What stands for each picture: `{vision}` and, where used, `{number}` from 1.
        between: What stands between two pictures.
        no_words: What stands for words that are "" in a prompt without pictures; its special tokens
            are such.
        no_words_with_pictures: The same beside pictures.
        wording: Wraps the typed text and the editing text into what the model is asked, as
            (text before the typed text, typed text as written there, text after); None = as typed.
        number_pictures: The chat template writes "Picture 1: " before each picture.
        max_pixels: Most pixels of a picture that go with the template; None = the target's.
        video_max_pixels: Most pixels of a video's frame; None = the family's.
        sample_fps: Video frames per second that the template was made for; None = the family's.
        padding: How the prompt is padded; None = not at all.
        words_apart: Its encoder reads `embedding:name` in each stretch of text between pictures by
            itself, so that a name may be the first word.
        writes_markers: It writes `<image1>` before each picture itself, so that in the words this
            is always a name and never stands for the picture.
    """

    name: str
    source: str
    body: str | None = None
    system: str = ""
    system_with_pictures: str | None = None
    system_of_nothing: str | None = None
    picture: str = "{vision}"
    between: str = ""
    no_words: str = ""
    no_words_with_pictures: str = ""
    wording: Callable[[str, str | None, Shown], tuple[str, str, str]] | None = None
    number_pictures: bool = False
    max_pixels: int | None = None
    video_max_pixels: int | None = None
    sample_fps: float | None = None
    padding: Padding | None = None
    words_apart: bool = False
    writes_markers: bool = False

    def system_for(self, pictures: int, text: str) -> str:
        """The default system text for a prompt of those words with that many pictures."""
        special = self.system_with_pictures if pictures else None
        if not pictures and not text.strip():
            special = self.system_of_nothing
        return self.system if special is None else special


_WORDS = IM_USER + "{said}"
_USER = _WORDS + IM_END

TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template(CHAT, "the tokenizer's own chat template"),
        Template("raw", "no turns: pictures, then the text as it is", body="{said}"),
        Template("z-image", "ComfyUI comfy/text_encoders/z_image.py", body=_USER),
        Template(
            "flux2-klein",
            "ComfyUI comfy/text_encoders/flux.py (KleinTokenizer)",
            body=_USER + NO_THINKING,
        ),
        Template("krea2", "ComfyUI comfy/text_encoders/krea2.py", body=_USER, system=DESCRIBE),
        Template(
            "qwen-image",
            "ComfyUI comfy/text_encoders/qwen_image.py",
            body=_USER,
            system=DESCRIBE,
            system_with_pictures=DESCRIBE_AND_EDIT,
        ),
        Template(
            "qwen-image-edit-plus",
            "ComfyUI's TextEncodeQwenImageEditPlus",
            body=_USER,
            system=DESCRIBE_AND_EDIT,
            picture="Picture {number}: {vision}",
        ),
        Template(
            "qwen-image-2.1",
            "ComfyUI comfy/text_encoders/qwen_image21.py and its TextEncodeQwenImage21",
            body=_USER,
            system="Comprehend and analyze the provided prompt.",
            picture="<image{number}>{vision}",
            between=" ",
            no_words=" ",
            no_words_with_pictures=" ",
            writes_markers=True,
        ),
        Template(
            "hunyuan-image",
            "ComfyUI comfy/text_encoders/hunyuan_image.py",
            body=_WORDS + "<|im_end|>",
            system=DESCRIBE,
        ),
        Template(
            "minimax-h3",
            "ComfyUI comfy/text_encoders/minimax.py: no turns",
            body="{said}",
            picture="<Picture {number}>: {vision}",
            no_words="<|endoftext|>",
            words_apart=True,
        ),
        Template(
            "mage-flow",
            "ComfyUI comfy/text_encoders/mage_flow.py and its TextEncodeMageFlowEdit",
            body=_USER,
            system=DESCRIBE,
            system_with_pictures=DESCRIBE_AND_EDIT,
            picture="Image {number}: {vision}",
            no_words_with_pictures=" ",
        ),
        Template(
            "boogu",
            "ComfyUI comfy/text_encoders/boogu.py",
            body=_WORDS + "<|im_end|>\n",
            system=BOOGU_SYSTEM,
            system_with_pictures=DESCRIBE_AND_EDIT,
            system_of_nothing=DESCRIBE_AND_EDIT,
        ),
        Template(
            "joyimage",
            "ComfyUI comfy/text_encoders/joyimage.py",
            body=_USER,
            system=f" \\n{DESCRIBE}",  # a backslash and an n, as it was trained
        ),
        Template("qwen2vl-flux", "Qwen2VL-Flux's model.py", wording=describe),
        Template(
            "x2i",
            "X2I's released ComfyUI node",
            wording=x2i_node,
            number_pictures=True,
            max_pixels=224 * 224,
            video_max_pixels=128 * 128,
            sample_fps=1.0,
            padding=Padding(512, factor=1.3),
        ),
        Template(
            "x2i-train",
            "X2I's training script",
            wording=x2i_train,
            sample_fps=1.0,
            padding=Padding(512, cut=True),
        ),
        Template(
            "x2i-paper",
            "X2I paper, section 13",
            wording=x2i_paper,
            max_pixels=224 * 224,  # the paper names none; those of the node
            video_max_pixels=128 * 128,
            sample_fps=1.0,
            padding=Padding(512, factor=1.3),
        ),
        Template(
            "x2i-bare",
            "X2I's infer/inference_qwenvl.py: the words as they are",
            # 128 x 128, which the VLM's processor brings to whole tokens of 28 x 28.
            max_pixels=140 * 140,
            video_max_pixels=128 * 128,
            sample_fps=1.0,
            padding=Padding(512, cut=True),
        ),
        Template(
            "x2i-internvl",
            "X2I's InternVL script",
            system=INTERNVL_SYSTEM,
            wording=x2i_internvl,
            max_pixels=128 * 128,
            # The script leaves the side to the tokenizer; Qwen2's pads on the right unless told.
            padding=Padding(512, cut=True, side=RIGHT),
        ),
        Template(
            "x2i-internvl-train",
            "X2I's utils/datamodule_internvl.py: no turns",
            body="{said}",
            wording=x2i_train,
            max_pixels=128 * 128,
            padding=Padding(512, cut=True, side=RIGHT),
        ),
    )
}


def find_template(name: str) -> Template:
    """The preset of that name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    if name not in TEMPLATES:
        raise ValueError(
            f"There is no template {told(name)}. Choose one of: {', '.join(TEMPLATES)}."
        )
    return TEMPLATES[name]


def split_special(text: str, role: str, specials: frozenset[str]) -> list[Piece]:
    """Cuts a template's own text at its special tokens.

    Args:
        text: Template text, never anything typed.
        role: Role of what is not special.
        specials: The tokenizer's added tokens.
    """
    if not specials:
        return [Piece(text, role)] if text else []
    longest_first = sorted(specials, key=len, reverse=True)
    parts = re.split("(" + "|".join(re.escape(token) for token in longest_first) + ")", text)
    return [Piece(part, role, part in specials) for part in parts if part]
