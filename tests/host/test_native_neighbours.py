"""ComfyUI's own nodes behind ours: what becomes of the token map, and of the sampler's picture."""

from __future__ import annotations

import io as bytes_io

import numpy as np
import pytest
import torch
from comfy_result import PromptFailed, PromptRejected
from graphs import node
from pack_graphs import conditioning, dump, picture, sampled, seen
from PIL import Image

MAP = "vlm_tokens"


def token_filter(source: str, keep: str = "text") -> dict:
    return node("VLMCTokenFilter", tokens=[source, 0], keep=keep)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(bytes_io.BytesIO(png)).convert("RGB"))


# Nodes that leave the tensor alone; each gets `layer` and hands on to Token Filter.
UNTOUCHED = {
    "range": node("ConditioningSetTimestepRange", conditioning=["layer", 0], start=0.0, end=0.4),
    "area": node(
        "ConditioningSetArea", conditioning=["layer", 0], width=64, height=64, x=0, y=0,
        strength=0.5,
    ),
    "strength": node("ConditioningSetAreaStrength", conditioning=["layer", 0], strength=0.5),
    "mask": node(
        "ConditioningSetMask", conditioning=["layer", 0], mask=["white", 0], strength=0.5,
        set_cond_area="default",
    ),
    "guidance": node("FluxGuidance", conditioning=["layer", 0], guidance=2.0),
    "reference": node("ReferenceLatent", conditioning=["layer", 0], latent=["latent", 0]),
    "hooks": node(
        "ConditioningSetProperties", cond_NEW=["layer", 0], strength=1.0, set_cond_area="default",
        hooks=["lora", 0],
    ),
}  # fmt: skip
OPTION = {"range": "end_percent", "area": "area", "strength": "strength", "mask": "mask"} | {
    "guidance": "guidance", "reference": "reference_latents", "hooks": "hooks",
}  # fmt: skip


def test_the_map_survives_what_leaves_the_tensor_alone(comfy, models):
    (models / "loras").mkdir(exist_ok=True)
    lora = models / "loras" / "nothing.safetensors"
    from safetensors.torch import save_file

    save_file({"nothing.alpha": torch.ones(1)}, lora)
    prompt = seen("left alone") | {
        "white": node("SolidMask", value=1.0, width=64, height=64),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "lora": node("CreateHookLora", lora_name=lora.name, strength_model=0.5, strength_clip=0.0),
        "plain": token_filter("layer"),
        "plain out": dump("plain"),
    }
    for name, native in UNTOUCHED.items():
        prompt |= {name: native, f"{name} kept": token_filter(name), f"{name} in": dump(name)}
        prompt[f"{name} out"] = dump(f"{name} kept")
    result = comfy.run(prompt)
    (plain,) = result.dump("plain out")
    for name, option in OPTION.items():
        (before,), (after,) = result.dump(f"{name} in"), result.dump(f"{name} out")
        assert option in before.keys and option in after.keys, name
        assert before.options[MAP] == result.dump("dump")[0].options[MAP], name
        assert after.options[MAP] == plain.options[MAP], name
        assert torch.equal(after.tensor, plain.tensor), name


def test_combined_entries_are_each_filtered_and_sampled(comfy):
    prompt = sampled(
        seen("combined") | {
            "range": UNTOUCHED["range"],
            "later": node(
                "ConditioningSetTimestepRange", conditioning=["words", 0], start=0.4, end=1.0
            ),
            "words": conditioning(),
            "both": node(
                "ConditioningCombine", conditioning_1=["range", 0], conditioning_2=["layer", 0]
            ),
            "kept": token_filter("both"),
            "blend": node(
                "VLMCAlphaBlend", text=["timed", 0], picture=["layer", 0], alpha=0.5,
                method="interpolate",
            ),
            "timed": node(
                "ConditioningCombine", conditioning_1=["range", 0], conditioning_2=["later", 0]
            ),
            "one": token_filter("layer"),
            "one out": dump("one"),
            "kept out": dump("kept"),
            "blend out": dump("blend"),
        },
        "kept",
    )  # fmt: skip
    result = comfy.run(prompt)
    (one,), kept = result.dump("one out"), result.dump("kept out")
    assert result.text("kept").endswith("2 entries")
    assert [entry.options.get("end_percent") for entry in kept] == [0.4, None]
    assert all(torch.equal(entry.tensor, one.tensor) for entry in kept)
    assert all(entry.options[MAP] == one.options[MAP] for entry in kept)
    early, late = result.dump("blend out")
    assert (early.options["end_percent"], late.options["start_percent"]) == (0.4, 0.4)
    assert MAP in early.options and MAP not in late.options  # each has its text side's options
    assert pixels(result.images("save")[0]).shape == (64, 64, 3)


def test_after_concat_the_added_tokens_are_unknown_and_the_log_says_so(comfy):
    prompt = seen("concatenated") | {
        "words": conditioning(tokens=7),
        "joined": node(
            "ConditioningConcat", conditioning_to=["layer", 0], conditioning_from=["words", 0]
        ),
        "kept": token_filter("joined"),
        "image": token_filter("joined", "image"),
        "out": dump("kept"),
    }
    before = len(comfy.log())
    result = comfy.run(prompt | {"image out": dump("image")})
    roles = result.dump("dump")[0].options[MAP]["role"]
    text = [role for role in roles if role not in ("image", "vision_marker")]
    (kept,) = result.dump("out")
    assert kept.options[MAP]["role"] == text + ["unknown"] * 7
    assert set(result.dump("image out")[0].options[MAP]["role"]) == {"image"}
    assert "Conditioning (Concat)" in comfy.log()[before:]


def test_average_keeps_the_map_of_the_first(comfy):
    result = comfy.run(
        seen("averaged") | {
            "words": conditioning(tokens=7),
            "mixed": node(
                "ConditioningAverage", conditioning_to=["layer", 0],
                conditioning_from=["words", 0], conditioning_to_strength=0.5,
            ),
            "kept": token_filter("mixed", "image"),
            "out": dump("kept"),
        }
    )  # fmt: skip
    (kept,), (whole,) = result.dump("out"), result.dump("dump")
    assert set(kept.options[MAP]["role"]) == {"image"}
    image = [i for i, role in enumerate(whole.options[MAP]["role"]) if role == "image"]
    beyond = [i for i in image if i >= 7]  # there the shorter side was filled with zeros
    assert torch.equal(kept.tensor[:, -len(beyond) :], whole.tensor[:, beyond] * 0.5)


def test_a_shortened_conditioning_has_no_roles_and_token_filter_says_so(comfy):
    prompt = seen("shortened") | {
        "cut": node("TestCutTokens", conditioning=["layer", 0], tokens=5),
        "kept": token_filter("cut"),
        "out": dump("kept"),
    }
    with pytest.raises(PromptFailed) as caught:
        comfy.run(prompt)
    assert (caught.value.node, caught.value.kind) == ("kept", "ValueError")
    for word in ("no token map", "Alpha Blend (concat)", "VLM Encode"):
        assert word in caught.value.text
    prompt["kept"]["inputs"]["keep"] = "all"
    assert comfy.run(prompt).dump("out")[0].tensor.shape[1] == 5


def test_a_training_dataset_brings_the_map_back(comfy):
    saved = seen("a training set") | {
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "saver": node(
            "SaveTrainingDataset", latents=["latent", 0], conditioning=["layer", 0],
            folder_name="with_map", shard_size=10,
        ),
    }  # fmt: skip
    first = comfy.run(saved).dump("dump")[0]
    loaded = comfy.run(
        {
            "set": node("LoadTrainingDataset", folder_name="with_map"),
            "dump": node("TestTensorDump", conditioning=["set", 1]),
            "kept": node("VLMCTokenFilter", tokens=["set", 1], keep="image"),
            "out": dump("kept"),
        }
    )
    (again,) = loaded.dump("dump")
    assert torch.equal(again.tensor, first.tensor)
    assert again.options[MAP] == first.options[MAP]
    assert set(loaded.dump("out")[0].options[MAP]["role"]) == {"image"}


def test_hand_over_switches_where_the_percentage_says(comfy):
    def run(positive: str, **more: dict) -> np.ndarray:
        prompt = seen("the first part", picture(0x884422)) | {"words": conditioning(tokens=9)}
        prompt |= more
        return pixels(comfy.run(sampled(prompt, positive, steps=4)).images("save")[0])

    def hand_over(percent: float) -> dict:
        return {
            "over": node(
                "VLMCTimeHandover", first=["layer", 0], second=["words", 0], percent=percent
            )
        }

    def ranged(source: str, start: float, end: float) -> dict:
        return node("ConditioningSetTimestepRange", conditioning=[source, 0], start=start, end=end)

    native = {
        "early": ranged("layer", 0.0, 0.5),
        "late": ranged("words", 0.5, 1.0),
        "over": node(
            "ConditioningCombine", conditioning_1=["early", 0], conditioning_2=["late", 0]
        ),
    }
    first, second = run("layer"), run("words")
    half = run("over", **hand_over(0.5))
    assert np.array_equal(run("over", **hand_over(1.0)), first)
    assert np.array_equal(run("over", **hand_over(0.0)), second)
    assert np.array_equal(half, run("over", **native))
    assert not np.array_equal(half, first) and not np.array_equal(half, second)


def test_alpha_over_time_is_blends_in_native_ranges(comfy):
    """Three ranges against three Alpha Blends, each in its range of the schedule, combined."""
    source = seen("a red house", picture(0x884422)) | {"words": conditioning(tokens=9)}

    def blended(alpha: float, **more) -> dict:
        sides = {"text": ["words", 0], "picture": ["layer", 0], "method": "pool"}
        return node("VLMCAlphaBlend", alpha=alpha, **sides, **more)

    native = dict(source)
    for name, alpha, start, end in (
        ("a", 0.75, 0, 0.5),
        ("b", 0.5, 0.5, 0.75),
        ("c", 0.25, 0.75, 1),
    ):
        native[f"blend_{name}"] = blended(alpha)
        native[name] = node(
            "ConditioningSetTimestepRange", conditioning=[f"blend_{name}", 0], start=start, end=end
        )
    native["ab"] = node("ConditioningCombine", conditioning_1=["a", 0], conditioning_2=["b", 0])
    native["all"] = node("ConditioningCombine", conditioning_1=["ab", 0], conditioning_2=["c", 0])
    ramp = {"over_time": "linear", "alpha_end": 0.25, "ranges": 3}
    ours = source | {
        "ramp": blended(0.75, **ramp, ramp_start=0.25, ramp_end=1.0),
        "held": blended(0.75, over_time="linear", alpha_end=0.75),
        "plain": blended(0.75),
    }

    def run(prompt: dict, positive: str) -> np.ndarray:
        return pixels(comfy.run(sampled(prompt, positive, steps=10)).images("save")[0])

    made = run(ours, "ramp")
    assert np.array_equal(made, run(native, "all"))
    assert not np.array_equal(made, run(ours, "plain"))
    assert np.array_equal(run(ours, "held"), run(ours, "plain"))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"token_alphas": "0.1, x"}, "Alpha 2 of the list is 'x'"),
        ({"token_alphas": "0.1, 0.2"}, "list of 2, the result has 9 tokens"),
        ({"over_time": "linear", "ramp_start": 0.8, "ramp_end": 0.2}, "from 0.8 to 0.2"),
        ({"over_time": "linear", "token_alphas": ", ".join(["0.1"] * 9)}, "can do one of them"),
    ],
)
def test_alphas_that_do_not_fit(comfy, inputs, words):
    prompt = seen("a red house", picture(0x884422)) | {"words": conditioning(tokens=9)}
    prompt["mix"] = node(
        "VLMCAlphaBlend",
        alpha=0.3,
        method="auto",
        text=["words", 0],
        picture=["layer", 0],
        **inputs,
    )
    with pytest.raises((PromptFailed, PromptRejected)) as caught:
        comfy.run(prompt | {"dump": dump("mix")})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ("1, a", "`gains` cannot be read: 'a' is no number"),
        ("1, 2, 3", "3 `gains` for 2 layers (2, 5)"),
        ("0, 0", "All `gains` are 0"),
    ],
)
def test_gains_that_do_not_fit(comfy, gains, words):
    prompt = seen("a red house", picture(0x884422))
    prompt["layer"]["inputs"] |= {"layers": "2, 5", "combine": "concat", "gains": gains}
    with pytest.raises((PromptFailed, PromptRejected)) as caught:
        comfy.run(prompt | {"dump": dump("layer")})
    assert words in str(caught.value)
