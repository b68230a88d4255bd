"""Picture Reference and Image Prompt in a real ComfyUI: separate nodes, masks, bad input."""

from __future__ import annotations

import io

import pytest
import torch
from clip_graphs import clip, from_clip, native_encode
from graphs import flux1, klein, node, z_image
from pack_graphs import LIKE_NATIVE, blended, dump, loader, picture, sampled
from PIL import Image, ImageDraw
from refusals import change, failed, refused
from workflow_tools import API, example_picture, read, small

from vlm.conditioning.image_prompt_blended import blend_alphas

pytestmark = pytest.mark.usefixtures("qwen3vl", "public_vlm")  # as wide as text encoders here

TEXT = "a red house by the river"
SHOWN = picture(0x994422, 128, 96)
OTHER = picture(0x226644, 64, 64)


def chained(*references: dict, images: tuple[dict, ...] = (SHOWN, OTHER)) -> dict:
    """Picture References one behind the other, each with these widgets; the last is `last`."""
    made: dict = {}
    for number, widgets in enumerate(references):
        ids = [f"reference{number}" if number < len(references) - 1 else "last"]
        before = {"pictures": [f"reference{number - 1}", 0]} if number else {}
        given = {"strength": 1.0, "keep": "all"} | before | widgets
        made[f"shown{number}"] = images[number % len(images)]
        made[ids[0]] = node("VLMCPicture", image=[f"shown{number}", 0], **given)
    return made


def prompted(*references: dict, native: str = "z-image", vlm: bool = True, **inputs) -> dict:
    """The native text encoder and, with `vlm`, a VLM of its width into Image Prompt → dump."""
    wires = {"clip": ["clip", 0]} | ({"model": ["vlm", 0]} if vlm else {})
    wires |= {"pictures": ["last", 0]} if references else {}
    made = {"clip": clip(native)} | ({"vlm": loader(LIKE_NATIVE)} if vlm else {})
    given = {"prompt": TEXT, "target": "auto"} | wires | inputs
    made["image"] = node("VLMCImagePrompt", **given)
    return made | chained(*references) | {"dump": dump("image")}


def separate(keep: str = "all", native: str = "z-image", alpha: float = 0.3) -> dict:
    """What the help page calls the separate nodes, for one picture on Z-Image."""
    prompt = blended(TEXT, keep=keep, alpha=alpha, pictures=(SHOWN,), model=LIKE_NATIVE)
    prompt |= {"clip": clip(native)} | native_encode(TEXT, name="words")
    return change(prompt, "blend", method="auto")


def fresh(comfy, prompt):
    """Runs with nothing remembered, so that both sides run the same kernels on the same shapes."""
    comfy.free()
    return comfy.run(prompt)


def same(ours, theirs) -> None:
    """Whether two CONDITIONINGs are equal bit for bit, options included."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.tensor, other.tensor)
        assert one.options == other.options


# --- against the separate nodes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "as_nodes"), [("all", "all"), ("picture", "image"), ("words", "text")]
)
def test_z_image_is_the_separate_nodes_bit_for_bit(comfy, keep, as_nodes):
    result = fresh(comfy, prompted({"keep": keep}))
    same(result.dump("dump"), fresh(comfy, separate(as_nodes)).dump("dump"))
    line = result.text("image")
    assert line.startswith("for Z-Image: ") and "words: by their own encoder" in line
    assert f"Hidden Layer Select 29, Token Filter {as_nodes}, Per-dim Normalize" in line
    assert "Alpha Blend" in line and "alpha 0.3" in line


def test_pooled_is_token_pool_before_the_gate(comfy):
    ours = fresh(comfy, prompted({"keep": "pooled", "pool_size": 4}))
    theirs = separate("image")
    theirs["pool"] = node("VLMCTokenPool", tokens=["encode", 0], size=4)
    theirs = change(theirs, "layer", hidden_states=["pool", 0])
    same(ours.dump("dump"), fresh(comfy, theirs).dump("dump"))
    assert "Token Pool 4" in ours.text("image")


def test_two_pictures_are_two_blends(comfy):
    ours = fresh(comfy, prompted({}, {"strength": 2.0}))
    first, second = blend_alphas([1.0, 2.0])
    theirs = separate(alpha=first)
    theirs["picture1"] = OTHER
    images = {"images.image0": ["picture1", 0]}
    kept = {k: v for k, v in theirs["encode"]["inputs"].items() if not k.startswith("images")}
    theirs["encode2"] = node("VLMCEncode", **kept, **images)
    for name, wire, source in (
        ("layer", "hidden_states", "encode2"),
        ("filter", "tokens", "layer2"),
        ("normal", "conditioning", "filter2"),
    ):
        theirs[f"{name}2"] = node(
            theirs[name]["class_type"], **theirs[name]["inputs"] | {wire: [source, 0]}
        )
    theirs["blend2"] = node(
        "VLMCAlphaBlend", text=["blend", 0], picture=["normal2", 0], alpha=second, method="auto"
    )
    theirs["dump"] = dump("blend2")
    same(ours.dump("dump"), fresh(comfy, theirs).dump("dump"))


@pytest.mark.parametrize("native", ["krea2", "qwen-image"])
def test_an_encoder_that_sees_is_encode_and_select_bit_for_bit(comfy, native):
    ours = fresh(comfy, prompted({}, native=native, vlm=False))
    same(ours.dump("dump"), fresh(comfy, from_clip(native, TEXT, SHOWN)).dump("dump"))
    assert "prompt with picture 1: VLM Encode, Hidden Layer Select auto" in ours.text("image")


@pytest.mark.parametrize("native", ["z-image", "krea2", "qwen-image", "flux2-klein"])
def test_strength_0_and_no_picture_are_clip_text_encode_bit_for_bit(comfy, native):
    vlm = native in ("z-image", "flux2-klein")
    prompt = prompted({"strength": 0.0}, native=native, vlm=vlm) | native_encode(TEXT)
    result = comfy.run(prompt)
    (want,) = result.dump("native_dump")
    (alone,) = comfy.run(prompted(native=native, vlm=vlm)).dump("dump")
    for got in (result.dump("dump")[0], alone):
        assert torch.equal(got.tensor, want.tensor) and got.keys == want.keys


def test_the_workflow_node_by_node_gives_the_same_bits(comfy, checkout):
    example_picture(comfy, checkout, 128)
    names = ("z-image-image-prompt", "z-image-image-prompt-separate")
    graphs = [small(read(API / f"{name}.json")) for name in names]
    kinds = [one["class_type"] for one in graphs[0].values()]
    assert len([kind for kind in kinds if "Loader" not in kind]) <= 9
    results = []
    for graph in graphs:
        (sampler,) = [one for one in graph.values() if one["class_type"] == "KSampler"]
        graph["dump"] = dump(sampler["inputs"]["positive"][0])
        results.append(fresh(comfy, graph))
    same(results[0].dump("dump"), results[1].dump("dump"))
    pictures = [Image.open(io.BytesIO(each.images()[0])).tobytes() for each in results]
    assert pictures[0] == pictures[1]


# --- what a person wants -----------------------------------------------------------------------


@pytest.mark.parametrize("native", ["z-image", "krea2"])
def test_a_picture_fades_in_from_the_words_alone(comfy, models, native):
    """Sampled pictures: near the words' own at strength 0.001, further with every step."""
    seeing = native == "krea2"
    prompt = {"unet": node("TestTinyZImage", width=64)}
    sources = {"diffusion_model": ["unet", 0]}
    if seeing:  # the tiny Krea 2 that there is reads 30720
        prompt = {
            "unet": node(
                "UNETLoader", unet_name="krea2_turbo_fp8_scaled.safetensors", weight_dtype="default"
            )
        }
        sources["clip"] = ["wide", 0]
        prompt["wide"] = node("TestTinyClip", target="krea2", width=2560, layers=36)

    def at(strength: float) -> torch.Tensor:
        made = prompt | prompted({"strength": strength}, native=native, vlm=not seeing, **sources)
        made = sampled(made, "image")
        made["sampler"]["inputs"]["model"] = ["unet", 0]
        if seeing:
            made["vae"] = node("VAELoader", vae_name="qwen_image_vae.safetensors")
        (png,) = comfy.run(made).images("save")
        pixels = torch.frombuffer(
            bytearray(Image.open(io.BytesIO(png)).convert("RGB").tobytes()), dtype=torch.uint8
        )
        return pixels.float()

    words, whole = at(0.0), at(1.0)
    far = [float((at(strength) - words).abs().mean()) for strength in (0.001, 0.2, 0.6)]
    most = float((whole - words).abs().mean())
    assert most > 1 and far[0] < 0.1 and far[0] < far[1] < far[2] < most


def test_times_make_entries(comfy):
    prompt = prompted({"end_percent": 0.4}, {"start_percent": 0.4})
    entries = comfy.run(prompt).dump("dump")
    spans = [(e.options["start_percent"], e.options["end_percent"]) for e in entries]
    assert spans == [(0.0, 0.4), (0.4, 1.0)]
    assert not torch.equal(entries[0].tensor, entries[1].tensor)


def test_a_batch_is_several_pictures(comfy):
    batch = picture(0x994422, 128, 96, batch=2)
    prompt = prompted({}) | {"shown0": batch}
    result = comfy.run(prompt)
    assert result.text("last") is not None
    assert result.text("last").startswith("pictures 1 to 2: 128 x 96 pixels, strength 1")
    twice = comfy.run(prompted({}, {}) | {"shown1": SHOWN})
    same(result.dump("dump"), twice.dump("dump"))


def test_the_model_says_the_target_and_what_does_not_fit(comfy):
    prompt = prompted({}, diffusion_model=["unet", 0]) | {"unet": node("TestTinyZImage", width=64)}
    assert comfy.run(prompt).text("image").startswith("fits Z-Image: ")
    assert "fits Z-Image" in comfy.run(change(prompt, "image", clip=None, model=["vlm", 0])).text(
        "image"
    )
    wide = prompt | {"unet": node("TestTinyZImage", width=96)}
    text = failed(comfy, wide, "image")
    assert "This conditioning is 64 wide, Z-Image reads 96." in text


def test_klein_says_that_it_is_an_experiment(comfy):
    prompt = prompted({}, native="flux2-klein", diffusion_model=["unet", 0])
    prompt["unet"] = klein()["model"]
    line = comfy.run(prompt).text("image")
    assert line.startswith("fits FLUX.2: 512 tokens") and "an experiment" in line


# --- masks -------------------------------------------------------------------------------------


def saved(comfy, name: str, mode: str, paint: tuple[int, int, int, int] | None = None) -> dict:
    """Load Image of a new file, a house on a field; `paint` is transparent as when painted."""
    shown = Image.new("RGB", (128, 96), "#557733")
    ImageDraw.Draw(shown).rectangle((70, 20, 110, 70), fill="#aa3311")
    shown = shown.convert(mode)
    if paint is not None:
        alpha = Image.new("L", shown.size, 255)
        ImageDraw.Draw(alpha).rectangle(paint, fill=0)
        shown.putalpha(alpha)
    shown.save(comfy.base / "input" / name)
    return node("LoadImage", image=name)


def masked(comfy, name: str, mode: str, paint=None, **widgets) -> dict:
    """A picture with its own mask from Load Image."""
    prompt = prompted({"mask": ["shown0", 1]} | widgets)
    return prompt | {"shown0": saved(comfy, name, mode, paint)}


def test_a_picture_without_alpha_has_no_mask(comfy):
    ours = fresh(comfy, masked(comfy, "no mask.png", "RGB"))
    assert "mask" not in ours.text("last")
    plain = masked(comfy, "no mask.png", "RGB")
    del plain["last"]["inputs"]["mask"]
    same(ours.dump("dump"), fresh(comfy, plain).dump("dump"))


def test_what_is_painted_is_what_is_looked_at(comfy):
    painted = (64, 16, 111, 79)
    ours = fresh(comfy, masked(comfy, "painted.png", "RGBA", painted))
    assert ours.text("last").startswith("picture 1: 48 x 64 pixels, the box of its mask")
    theirs = separate()
    theirs["whole"] = saved(comfy, "plain.png", "RGB")
    theirs["picture0"] = node("ImageCrop", image=["whole", 0], x=64, y=16, width=48, height=64)
    same(ours.dump("dump"), fresh(comfy, theirs).dump("dump"))


def test_a_mask_weighs_tokens_as_griddot_does(comfy):
    painted = (64, 0, 127, 95)
    ours = fresh(comfy, masked(comfy, "half.png", "RGBA", painted, mask_use="weight"))
    assert "weighed by its mask" in ours.text("last")
    theirs = separate()
    theirs["picture0"] = saved(comfy, "half.png", "RGBA", painted)
    theirs["grid"] = node("VLMCGridDotMask", tokens=["encode", 0], dots="", mask=["picture0", 1])
    theirs = change(theirs, "layer", hidden_states=["grid", 0])
    same(ours.dump("dump"), fresh(comfy, theirs).dump("dump"))


def test_a_mask_of_another_size(comfy):
    """A mask of half the picture's size marks the same part of it."""
    prompt = masked(comfy, "painted again.png", "RGBA", (64, 16, 111, 79))
    prompt["small"] = saved(comfy, "painted small.png", "RGBA")
    with Image.open(comfy.base / "input" / "painted again.png") as shown:
        shown.resize((64, 48), Image.Resampling.NEAREST).save(
            comfy.base / "input" / "painted small.png"
        )
    small = change(prompt, "last", mask=["small", 1])
    same(fresh(comfy, prompt).dump("dump"), fresh(comfy, small).dump("dump"))


# --- what is refused ---------------------------------------------------------------------------


def test_widgets_that_cannot_be_are_refused_when_queued(comfy):
    error = refused(comfy, prompted({"start_percent": 0.8, "end_percent": 0.2}))
    assert "from start_percent 0.8 to end_percent 0.2" in " ".join(error.details("last"))
    for name, value in (("strength", 4), ("keep", "half"), ("pool_size", 0), ("mask_use", "burn")):
        refused(comfy, prompted({name: value}))
    refused(comfy, change(prompted({}), "image", pictures=["shown0", 0]))
    refused(comfy, prompted({}, target="flux1"))


def test_masks_that_mark_nothing_or_are_of_something_else(comfy):
    text = failed(comfy, masked(comfy, "opaque.png", "RGBA"), "last")
    assert "This mask marks nothing: all of it is black" in text and "without" in text
    other = masked(comfy, "opaque.png", "RGBA")
    other["wide"] = node("SolidMask", value=1.0, width=300, height=100)
    text = failed(comfy, change(other, "last", mask=["wide", 0]), "last")
    assert "This mask is 300 x 100 pixels, its picture 128 x 96" in text
    three = masked(comfy, "opaque.png", "RGBA")
    three["images"] = picture(0xFFFFFF, 128, 96, batch=3)
    three["wide"] = node("ImageToMask", image=["images", 0], channel="red")
    text = failed(comfy, change(three, "last", mask=["wide", 0]), "last")
    assert "mask on Picture Reference is a batch of 3, image one of 1" in text


def test_a_clip_that_cannot_see(comfy):
    text = failed(comfy, prompted({}, vlm=False), "image")
    assert "reads text only, and there are pictures. Leave it on `clip`" in text
    assert "VLM Loader" in text


def test_more_pictures_than_it_takes(comfy):
    prompt = prompted({}) | {"shown0": picture(0x994422, 32, 32, batch=51)}
    text = failed(comfy, prompt, "image")
    assert "This chain has 51 pictures, Image Prompt takes 50." in text


def test_pictures_that_one_prompt_cannot_hold_together(comfy):
    prompt = prompted({}, {"keep": "words"}, native="krea2", vlm=False)
    text = failed(comfy, prompt, "image")
    assert "sees all pictures in one prompt, and keep is all and words" in text


def test_wires_of_different_models(comfy):
    unet = {"unet": node("TestTinyZImage", width=64)}
    krea = prompted({}, native="krea2", vlm=False, diffusion_model=["unet", 0]) | unet
    text = failed(comfy, krea, "image")
    assert "clip on Image Prompt is Krea 2's text encoder, and the result is for Z-Image" in text
    text = failed(comfy, prompted({}, target="krea2", diffusion_model=["unet", 0]) | unet, "image")
    assert "target on Image Prompt is krea2, diffusion_model is Z-Image" in text
    flux = prompted({}, diffusion_model=["unet", 0]) | {"unet": flux1()["model"]}
    flux = change(flux, "image", clip=None)
    text = failed(comfy, flux, "image")
    assert "FLUX.1 reads no layer of a VLM" in text and "flux1-image-variation" in text


def test_nothing_that_reads_the_words_or_says_for_whom(comfy):
    prompt = {k: v for k, v in prompted({}).items() if k != "clip"}
    del prompt["image"]["inputs"]["clip"]
    assert "cannot tell which diffusion model" in failed(comfy, prompt, "image")
    assert comfy.run(change(prompt, "image", target="z-image")).dump("dump")
    nothing = prompted(vlm=False, target="z-image")
    del nothing["image"]["inputs"]["clip"]
    assert "nothing that reads the words" in failed(comfy, nothing, "image")


def test_through_a_native_sampler(comfy):
    made = prompted({}, {"strength": 0.5}, diffusion_model=["model", 0])
    result = comfy.run(sampled(made, "image") | {"model": z_image()["model"]})
    assert result.images("save")[0].startswith(b"\x89PNG")
