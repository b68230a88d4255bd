"""API prompts through the pack's nodes; see graphs.py for the native ones."""

from __future__ import annotations

from typing import Any

from graphs import Prompt, node, z_image
from PIL import Image

# Folders as VLM Loader lists them: the tiny model that the library makes, whose small vocabulary
# loads at once, and the one with the text weights and tokenizer of the native tiny encoder.
TINY = "VLM/tiny"
LIKE_NATIVE = "LLM/Qwen-VL/tiny-qwen3-vl-64"


def loader(model: str = TINY, dtype: str = "float32", **more: Any) -> dict[str, Any]:
    """VLM Loader."""
    return node("VLMCLoader", model=model, dtype=dtype, device="auto", **more)


def picture(color: int = 0x3366AA, width: int = 96, height: int = 64, batch: int = 1) -> dict:
    """A picture of one colour; a small one becomes 66 tokens or so."""
    return node("EmptyImage", width=width, height=height, batch_size=batch, color=color)


def plain(color: int, width: int = 96, height: int = 64) -> Image.Image:
    """What `picture` gives, for the library."""
    return Image.new("RGB", (width, height), tuple(color.to_bytes(3, "big")))


def seen(
    text: str, *pictures: dict[str, Any], model: str = TINY, target: str = "z-image", **more: Any
) -> Prompt:
    """VLM Loader → VLM Encode → Hidden Layer Select → dump, with pictures on inputs of their own.

    Ids: vlm, picture0, picture1, ..., encode, layer, dump. Without pictures in the call there is
    one of a plain colour; `seen(text, None)` has none.
    """
    pictures = (picture(),) if not pictures else () if pictures == (None,) else pictures
    images = {f"images__image{i}": [f"picture{i}", 0] for i in range(len(pictures))}
    return {
        "vlm": loader(model),
        **{f"picture{i}": one for i, one in enumerate(pictures)},
        "encode": node(
            "VLMCEncode", model=["vlm", 0], prompt=text, target=target, **images, **more
        ),
        "layer": node(
            "VLMCHiddenLayerSelect", hidden_states=["encode", 0], layers="auto", combine="auto"
        ),
        "dump": dump("layer"),
    }  # fmt: skip


def dump(source: str) -> dict[str, Any]:
    """Writes a node's CONDITIONING to a file, for `Result.dump`."""
    return node("TestTensorDump", conditioning=[source, 0])


def through_filter(source: str) -> dict[str, Any]:
    """Token Filter that keeps all; the API lets its output into any input."""
    return node("VLMCTokenFilter", tokens=[source, 0], keep="all")


def conditioning(name: str = "text", width: int = 64, tokens: int = 12) -> dict[str, Any]:
    """Text CONDITIONING that needs no text encoder: same name, same numbers."""
    return node("TestTinyConditioning", width=width, tokens=tokens, pooled=0, name=name)


def sampled(prompt: Prompt, positive: str, **sampler: Any) -> Prompt:
    """A prompt with a tiny Z-Image behind the CONDITIONING of the node `positive`; `save` shows."""
    native = {k: v for k, v in z_image().items() if k not in ("clip", "text", "dump")}
    native["negative"] = node("ConditioningZeroOut", conditioning=[positive, 0])
    native["sampler"]["inputs"] |= {"positive": [positive, 0], **sampler}
    return native | prompt


def blended(
    text: str,
    *,
    layers: str = "auto",
    keep: str = "text",
    mode: str = "auto",
    strength: float = 1.0,
    alpha: float = 0.3,
    pictures: tuple[dict[str, Any], ...] = (),
    **more: Any,
) -> Prompt:
    """The whole row of token nodes behind `seen`: filter, normal, blend; `dump` is the last.

    The text side is `words`, CONDITIONING without a text encoder.
    """
    prompt = seen(text, *pictures, **more) | {
        "words": conditioning(),
        "filter": node("VLMCTokenFilter", tokens=["layer", 0], keep=keep),
        "normal": node(
            "VLMCPerDimNormalize", conditioning=["filter", 0], mode=mode, strength=strength,
            reference=["words", 0],
        ),
        "blend": node(
            "VLMCAlphaBlend", text=["words", 0], picture=["normal", 0], alpha=alpha,
            method="interpolate",
        ),
        "dump": dump("blend"),
    }  # fmt: skip
    prompt["layer"]["inputs"]["layers"] = layers
    return prompt


def styled(alpha: float = 0.3, text: str = "a red house") -> Prompt:
    """A picture's style in a text, with the research's settings, to a PNG.

    The ids of `z_image` and `blended`, and `check`; `dump` is what the sampler gets.
    """
    ours = blended(text, alpha=alpha, model=LIKE_NATIVE)
    prompt = z_image(text) | {key: ours[key] for key in ours if key not in ("words", "dump")}
    prompt["normal"]["inputs"]["reference"] = ["text", 0]
    prompt["blend"]["inputs"]["text"] = ["text", 0]
    prompt["check"] = node(
        "VLMCCheckTarget", conditioning=["blend", 0], model=["model", 0], on_misfit="stop"
    )
    prompt["dump"] = dump("check")
    prompt["sampler"]["inputs"]["positive"] = ["check", 0]
    return prompt


def through_us(prompt: Prompt, target: str, text: str = "a red house") -> Prompt:
    """A native prompt with our encoder in the place of the native one."""
    ours = seen(text, None, model=LIKE_NATIVE, target=target)
    return prompt | {"vlm": ours["vlm"], "encode": ours["encode"], "text": ours["layer"]}
