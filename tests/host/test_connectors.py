"""FLUX.1 through connectors in a real ComfyUI: Qwen2VL-Flux, X2I, and what arrives inside."""

import pytest
import torch
from graphs import flux1, node
from pack_graphs import dump, loader, picture
from refusals import change, failed, refused
from safetensors.torch import load_file, save_file
from tiny_connectors import (
    ALIGNNET,
    CONNECTOR,
    EMBEDDER,
    alignnet_weights,
    embedder_weights,
    linear_weights,
)

import vlm

FLUX, X2I = "VLM/Qwen2VL-Flux", "VLM/Qwen2.5-VL-7B-Instruct"
PROMPT = "a red house"


@pytest.fixture(scope="module")
def host(flux_connectors, comfy):
    return comfy


def text(name="text", tokens=256):
    """T5's conditioning of a text, which is random here, with a pooled vector."""
    return node("TestTinyConditioning", width=4096, tokens=tokens, pooled=768, name=name)


def sampled(ours, source="apply"):
    """FLUX.1 on the conditioning of our node `source`; `dump` writes it."""
    prompt = {key: value for key, value in flux1().items() if key != "text"} | ours
    prompt["check"] = node(
        "VLMCCheckTarget", conditioning=[source, 0], model=["model", 0], on_misfit="stop"
    )
    prompt["dump"] = dump("check")
    prompt["negative"] = node("ConditioningZeroOut", conditioning=["check", 0])
    return change(prompt, "sampler", positive=["check", 0])


def variation(target="qwen2vl-flux", color=0x3366AA, **apply):
    """Qwen2VL-Flux: a picture alone, pooled of the empty text."""
    return {
        "vlm": loader(FLUX),
        "picture": picture(color),
        "encode": node(
            "VLMCEncode", model=["vlm", 0], prompt="", target=target, images__image0=["picture", 0]
        ),
        "connector": node("VLMCConnectorLoader", connector=CONNECTOR),
        "empty": text("empty"),
        "apply": node(
            "VLMCConnectorApply", tokens=["encode", 0], connector=["connector", 0],
            **({"pooled_from": ["empty", 0]} | apply),
        ),
    }  # fmt: skip


def x2i(prompt=PROMPT, template="x2i", **encode):
    """X2I: a picture and words, context and pooled both from AlignNet."""
    return {
        "vlm": loader(X2I),
        "picture": picture(),
        "encode": node(
            "VLMCEncode", model=["vlm", 0], prompt=prompt, target="flux1", template=template,
            **({"images__image0": ["picture", 0]} | encode),
        ),
        "connector": node("VLMCConnectorLoader", connector=ALIGNNET),
        "apply": node("VLMCConnectorApply", tokens=["encode", 0], connector=["connector", 0]),
    }  # fmt: skip


def near(a, b, tolerance=1e-4):
    return a.shape == b.shape and (a - b).abs().max() <= tolerance * max(1, b.abs().max())


# --- Qwen2VL-Flux -----------------------------------------------------------------------------


def test_image_variation(host, flux_connectors):
    result = host.run(sampled(variation()))
    assert result.images("save")[0].startswith(b"\x89PNG")
    (entry,) = result.dump("dump")
    assert set(entry.options["vlm_tokens"]["role"]) == {"image"}
    (empty,) = host.run({"empty": text("empty"), "dump": dump("empty")}).dump("dump")
    assert torch.equal(entry.option_tensors["pooled_output"], empty.option_tensors["pooled_output"])

    v = vlm.load(flux_connectors / "VLM" / "Qwen2VL-Flux", dtype="float32")
    from pack_graphs import plain

    h = v.encode("", images=[plain(0x3366AA)], target="qwen2vl-flux")
    states = vlm.filter_tokens(vlm.select_layers(h, -1), keep="image").states
    weights = linear_weights()
    expected = states @ weights["linear.weight"].T + weights["linear.bias"]
    assert near(entry.tensor, expected)
    assert 0.9 * 512 <= entry.tensor.shape[1] <= 1.05 * 512
    assert "Qwen2VL-Flux connector" in result.text("connector")
    assert "pooled 768" in result.text("apply")
    assert result.text("check").startswith("fits FLUX.1")


def test_conditioning_in_gives_the_same_as_hidden_states(host):
    direct = host.run(sampled(variation())).dump("dump")[0].tensor
    prompt = variation()
    prompt["layer"] = node(
        "VLMCHiddenLayerSelect", hidden_states=["encode", 0], layers="-1", combine="auto"
    )
    through = host.run(sampled(change(prompt, "apply", tokens=["layer", 0]))).dump("dump")[0]
    assert torch.equal(through.tensor, direct)


def test_without_pooled_it_says_so(host):
    prompt = variation()
    del prompt["apply"]["inputs"]["pooled_from"], prompt["empty"]
    result = host.run(sampled(prompt))
    assert "FLUX.1 will run on zeros" in result.text("apply")
    assert result.images("save")


def bridged(*, control=False, other=None):
    """Text and picture through the T5 Bridge, watched behind txt_in; optionally a ControlNet."""
    ours = variation("qwen2vl-flux-text")
    if other is not None:
        ours["other"] = picture(other)
        seen = change(ours, "encode", **{"images.image0": ["other", 0]})
        ours["encode_other"] = seen["encode"]
        ours["apply_other"] = node(
            "VLMCConnectorApply", tokens=["encode_other", 0], connector=["connector", 0]
        )
        ours["apply"]["inputs"]["for_controlnet"] = ["apply_other", 0]
    ours["words"] = text("words")
    ours["watch"] = node("TestTextStream", model=["model", 0])
    ours["bridge"] = node(
        "VLMCT5Bridge", model=["watch", 0], text=["words", 0], embedder=EMBEDDER,
        image=["apply", 0],
    )  # fmt: skip
    if control:
        ours["net"] = node(
            "ControlNetLoader", control_net_name="flux-canny-controlnet-v3.safetensors"
        )
        ours["watch"]["inputs"]["control_net"] = ["net", 0]
        ours["bridge"]["inputs"]["control_net"] = ["watch", 1]
    prompt = sampled(ours, "bridge")
    prompt["pictures"] = dump("apply")
    if control:
        prompt["hint"] = picture(0x808080, 64, 64)
        prompt["control"] = node(
            "ControlNetApplyAdvanced", positive=["check", 0], negative=["negative", 0],
            control_net=["watch", 1], image=["hint", 0], strength=0.6, start_percent=0.0,
            end_percent=1.0, vae=["vae", 0],
        )  # fmt: skip
        prompt = change(prompt, "sampler", positive=["control", 0], negative=["control", 1])
    prompt["sampler"]["inputs"]["model"] = ["watch", 0]
    return prompt


def streams(result):
    """What left txt_in of the running model and of the ControlNet, by name."""
    (paths,) = result.outputs["watch"]["text_stream"]
    return {name: load_file(path)["stream"] for name, path in paths.items()}


def expected_stream(host, flux_connectors, file, image):
    """Picture through txt_in, then T5 through the embedder."""
    weights = load_file(flux_connectors / file)
    into = torch.nn.functional.linear(image, weights["txt_in.weight"], weights["txt_in.bias"])
    (words,) = host.run({"words": text("words"), "dump": dump("words")}).dump("dump")
    embedder = embedder_weights()
    t5 = torch.nn.functional.linear(words.tensor, embedder["weight"], embedder["bias"])
    return torch.cat([into, t5], dim=1)


MODEL = "diffusion_models/flux1-dev.safetensors"
CONTROL = "controlnet/flux-canny-controlnet-v3.safetensors"


def test_text_stream_of_the_running_model(host, flux_connectors):
    result = host.run(bridged())
    image = result.dump("pictures")[0].tensor
    expected = expected_stream(host, flux_connectors, MODEL, image)
    assert near(streams(result)["model"], expected)
    (entry,) = result.dump("dump")
    roles = entry.options["vlm_tokens"]["role"]
    assert roles[0] == "image" and roles[-1] == "unknown" and roles.count("unknown") == 256
    (pictures,) = result.dump("pictures")
    pooled = pictures.option_tensors["pooled_output"]
    assert torch.equal(entry.option_tensors["pooled_output"], pooled)
    assert "256 text tokens" in result.text("bridge")
    assert result.images("save")[0].startswith(b"\x89PNG")


@pytest.mark.parametrize("other", [None, 0xCC4422])
def test_text_stream_of_the_running_controlnet(host, flux_connectors, other):
    result = host.run(bridged(control=True, other=other))
    (pictures,) = result.dump("pictures")
    theirs = pictures.option_tensors.get("cross_attn_controlnet", pictures.tensor)
    assert (other is None) == torch.equal(theirs, pictures.tensor)
    seen = streams(result)
    assert near(seen["model"], expected_stream(host, flux_connectors, MODEL, pictures.tensor))
    assert near(seen["control"], expected_stream(host, flux_connectors, CONTROL, theirs))
    assert "also for the ControlNet" in result.text("bridge")
    assert result.images("save")[0].startswith(b"\x89PNG")


def test_two_pictures_through_a_controlnet_without_words(host, flux_connectors):
    prompt = change(bridged(control=True, other=0xCC4422), "check", conditioning=["apply", 0])
    del prompt["bridge"], prompt["words"]
    result = host.run(prompt)
    (pictures,) = result.dump("pictures")
    theirs = pictures.option_tensors["cross_attn_controlnet"]
    assert theirs.shape == pictures.tensor.shape and not torch.equal(theirs, pictures.tensor)
    for name, file, states in (("model", MODEL, pictures.tensor), ("control", CONTROL, theirs)):
        weights = load_file(flux_connectors / file)
        expected = states @ weights["txt_in.weight"].T + weights["txt_in.bias"]
        assert near(streams(result)[name], expected)
    assert "others for the ControlNet" in result.text("apply")


def test_bridge_follows_patches_on_txt_in(host, flux_connectors):
    weights = load_file(flux_connectors / MODEL)
    g = torch.Generator().manual_seed(0)
    up, down = torch.randn(128, 2, generator=g), torch.randn(2, 4096, generator=g) / 64
    lora = {
        "diffusion_model.txt_in.lora_up.weight": up,
        "diffusion_model.txt_in.lora_down.weight": down,
    }
    (flux_connectors / "loras").mkdir(exist_ok=True)
    save_file(lora, flux_connectors / "loras" / "tiny_txt_in.safetensors")
    prompt = bridged()
    prompt["lora"] = node(
        "LoraLoaderModelOnly", model=["model", 0], lora_name="tiny_txt_in.safetensors",
        strength_model=0.5,
    )  # fmt: skip
    result = host.run(change(prompt, "watch", model=["lora", 0]))
    image = result.dump("pictures")[0].tensor
    plain = expected_stream(host, flux_connectors, MODEL, image)
    changed = image @ (weights["txt_in.weight"] + 0.5 * up @ down).T + weights["txt_in.bias"]
    seen, count = streams(result)["model"], image.shape[1]
    assert near(seen[:, count:], plain[:, count:])  # the text arrives all the same
    assert near(seen[:, :count], changed) and not near(seen[:, :count], plain[:, :count])


def test_text_alone(host):
    prompt = bridged()
    del prompt["bridge"]["inputs"]["image"]
    (entry,) = host.run(prompt).dump("dump")
    assert entry.tensor.shape == (1, 256, 4096)


# --- X2I ----------------------------------------------------------------------------------------


def test_x2i_image_text_to_image(host, flux_connectors, tmp_path):
    result = host.run(sampled(x2i()))
    assert result.images("save")[0].startswith(b"\x89PNG")
    (entry,) = result.dump("dump")
    assert entry.tensor.shape == (1, 512, 4096)
    assert entry.options["vlm_tokens"]["role"][0] == "pad"

    from pack_graphs import plain

    v = vlm.load(flux_connectors / "VLM" / "Qwen2.5-VL-7B-Instruct", dtype="float32")
    h = v.encode(PROMPT, images=[plain(0x3366AA)], target="flux1", template="x2i")
    save_file(alignnet_weights(), tmp_path / "alignnet.safetensors")
    out = vlm.load_connector(tmp_path / "alignnet.safetensors")(h)
    assert near(entry.tensor, out.context)
    assert near(entry.option_tensors["pooled_output"], out.pooled)
    assert "X2I AlignNet (convolution of 5 layers)" in result.text("connector")


def test_x2i_with_internvl(host, flux_connectors, tmp_path):
    """Its template pads on the right, and its picture is one tile."""
    prompt = x2i(template="x2i-internvl") | {"vlm": loader("VLM/InternVL2_5-4B-hf")}
    result = host.run(sampled(prompt))
    assert result.images("save")[0].startswith(b"\x89PNG")
    (entry,) = result.dump("dump")
    assert entry.tensor.shape == (1, 512, 4096)
    roles = entry.options["vlm_tokens"]["role"]
    assert (roles[0], roles[-1], roles.count("image")) == ("template", "pad", 256)

    from pack_graphs import plain

    v = vlm.load(flux_connectors / "VLM" / "InternVL2_5-4B-hf", dtype="float32")
    h = v.encode(PROMPT, images=[plain(0x3366AA)], target="flux1", template="x2i-internvl")
    save_file(alignnet_weights(), tmp_path / "alignnet.safetensors")
    out = vlm.load_connector(tmp_path / "alignnet.safetensors")(h)
    assert near(entry.tensor, out.context)
    assert near(entry.option_tensors["pooled_output"], out.pooled)


def test_x2i_video_and_several_pictures(host):
    prompt = x2i(video=["frames", 0], fps=2.0, images__image1=["second", 0])
    prompt["frames"] = picture(0x225588, batch=6)
    prompt["second"] = picture(0xAA2211)
    result = host.run(sampled(prompt))
    assert result.images("save")[0].startswith(b"\x89PNG")
    grids = result.dump("dump")[0].options["vlm_tokens"]["grids"]
    # 6 frames at 2 per second, looked at once a second, two of them to a step in time
    assert [grid["frames"] for grid in grids] == [1, 1, 2]


def test_padding_is_a_choice(host):
    (none,) = host.run(sampled(x2i(padding="none"))).dump("dump")
    assert none.tensor.shape[1] < 512 and "pad" not in none.options["vlm_tokens"]["role"]


def test_keep_and_editing_text(host):
    prompt = x2i(editing_text="Style Information Only from Reference Image")
    (entry,) = host.run(sampled(change(prompt, "apply", keep="image"))).dump("dump")
    assert set(entry.options["vlm_tokens"]["role"]) == {"image"}


# --- wrong input ----------------------------------------------------------------------------------


def test_misfits_are_said_before_the_sampler(host):
    wrong = change(variation(), "connector", connector=ALIGNNET)
    wrong["vlm"] = loader()  # 37 layers
    said = failed(host, sampled(wrong), "apply")
    assert "reads 5 layers, embeddings included, this VLM has 37" in said
    prompt = change(x2i(), "apply", tokens=["words", 0]) | {"words": text("words")}
    assert "reads all layers of a VLM" in failed(host, sampled(prompt), "apply")
    prompt = change(variation(), "apply", tokens=["words", 0]) | {"words": text("words")}
    assert "reads 64 dimensions, these have 4096" in failed(host, sampled(prompt), "apply")


def test_pooled_from_without_a_pooled_vector(host):
    bare = node("TestTinyConditioning", width=4096, tokens=4, pooled=0, name="bare")
    prompt = variation() | {"empty": bare}
    assert "has no pooled vector" in failed(host, sampled(prompt), "apply")


def test_bridge_refuses_other_models_and_files(host):
    prompt = bridged()
    other = change(prompt, "bridge", embedder=CONNECTOR)
    assert "connector.pt is no T5 embedder" in failed(host, other, "bridge")
    other = change(prompt, "bridge", model=["z", 0])
    other["z"] = node("TestTinyZImage", width=4096)
    assert "needs a FLUX.1 model with a text input txt_in" in failed(host, other, "bridge")
    narrow = prompt | {
        "words": node("TestTinyConditioning", width=64, tokens=4, pooled=0, name="n")
    }
    assert "The text is 64 wide" in failed(host, narrow, "bridge")


def test_a_file_that_runs_code(host, flux_connectors, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "mark"), "w")

    evil = flux_connectors / "vlm_connectors" / "evil.pt"
    torch.save({"linear.weight": torch.ones(2, 2), "bomb": Bomb()}, evil)
    host.wait_for_option("VLMCConnectorLoader", "connector", "evil.pt")
    try:
        prompt = change(variation(), "connector", connector="evil.pt")
        said = failed(host, sampled(prompt), "connector")
    finally:
        evil.unlink()
    assert "evil.pt holds more than tensors" in said and not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["missing.pt", "../../etc/passwd", ""])
def test_files_outside_the_list(host, name):
    error = refused(host, sampled(change(variation(), "connector", connector=name)))
    assert "connector" in error.node_errors
