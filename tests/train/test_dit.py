"""Frozen diffusion models: called as diffusers' pipelines call them, and what is refused."""

import json
import shutil

import pytest
import torch
from dit_toys import write_flux1, write_z_image

from vlm.train.blocks import Place, parse_blocks, parse_streams
from vlm.train.dit import Condition
from vlm.train.dit_folder import load_dit, load_vae

pytest.importorskip("diffusers")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("dits")
    return {
        "flux1": write_flux1(place / "flux1", 24, 12),
        "z-image": write_z_image(place / "z-image", 24),
    }


def randoms(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randn(16, 8, 12, generator=draw),
        torch.randn(7, 24, generator=draw),
        torch.randn(12, generator=draw),
    )


# --- the call ------------------------------------------------------------------------------------


def first_step(pipeline, latents, **prompt):
    """What a pipeline's scheduler is told in its first step."""
    told = {}
    step = pipeline.scheduler.step

    def keep(velocity, time, *rest, **more):
        told.setdefault("velocity", velocity.clone())
        told.setdefault("sigma", float(time) / 1000)
        return step(velocity, time, *rest, **more)

    pipeline.scheduler.step = keep
    pipeline.set_progress_bar_config(disable=True)
    pipeline(
        height=64, width=96, num_inference_steps=2, latents=latents, output_type="latent", **prompt
    )
    return told["velocity"], told["sigma"]


def test_flux1_is_told_what_its_pipeline_tells(folders):
    from diffusers import FluxPipeline

    dit = load_dit(folders["flux1"], CPU, "auto")
    vae, scheduler = load_vae(folders["flux1"], CPU, "auto")
    pipeline = FluxPipeline(scheduler, vae, None, None, None, None, dit.model)
    latents, context, pooled = randoms()
    velocity, sigma = first_step(
        pipeline,
        pipeline._pack_latents(latents[None], 1, 16, 8, 12),
        prompt_embeds=context[None],
        pooled_prompt_embeds=pooled[None],
        guidance_scale=3.5,
    )
    found = dit(latents, sigma, Condition(context, pooled), 3.5)
    wanted = pipeline._unpack_latents(velocity, 64, 96, 8)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_z_image_is_told_what_its_pipeline_tells(folders):
    from diffusers import ZImagePipeline

    dit = load_dit(folders["z-image"], CPU, "auto")
    vae, scheduler = load_vae(folders["z-image"], CPU, "auto")
    pipeline = ZImagePipeline(scheduler, vae, None, None, dit.model)
    latents, context, _ = randoms()
    velocity, sigma = first_step(
        pipeline, latents[None], prompt=None, prompt_embeds=[context], guidance_scale=0
    )
    found = dit(latents, sigma, Condition(context), 0.0)
    torch.testing.assert_close(found, velocity[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["flux1", "z-image"])
def test_checkpointing_changes_no_gradient(folders, name):
    latents, context, pooled = randoms()
    grads = []
    for again in (False, True):
        dit = load_dit(folders[name], CPU, "float32", again)
        given = context.clone().requires_grad_(True)
        dit(latents, 0.5, Condition(given, pooled), 3.5).square().sum().backward()
        assert all(each.grad is None for each in dit.model.parameters())
        grads.append(given.grad)
    assert torch.equal(*grads) and grads[0].abs().sum() > 0


def test_the_dtype_of_the_files_is_kept(folders, tmp_path):
    dit = load_dit(folders["flux1"], CPU, "bfloat16")
    dit.model.save_pretrained(tmp_path / "half")
    assert load_dit(tmp_path / "half", CPU, "auto").model.dtype == torch.bfloat16
    assert load_dit(folders["flux1"], CPU, "auto").model.dtype == torch.float32


# --- blocks and streams --------------------------------------------------------------------------

GROUPS = {"double": [0] * 4, "single": [0] * 6}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("all", {"double": [0, 1, 2, 3], "single": [0, 1, 2, 3, 4, 5]}),
        ("single", {"single": [0, 1, 2, 3, 4, 5]}),
        ("double.1:3, single.0:6:2, single.-1", {"double": [1, 2], "single": [0, 2, 4, 5]}),
        ("double.2:, double.3", {"double": [2, 3]}),
    ],
)
def test_blocks_are_chosen(text, wanted):
    places = [Place(group, at) for group, numbers in wanted.items() for at in numbers]
    assert list(parse_blocks(text, GROUPS)) == places


@pytest.mark.parametrize("text", ["double.4", "single.9:", "triple", "", "double.x", "all.1", "0"])
def test_blocks_that_do_not_exist(text):
    with pytest.raises(ValueError, match=r"has double 0 to 3, single 0 to 5\. Write all"):
        parse_blocks(text, GROUPS)


def test_streams():
    assert parse_streams("text, image") == ("text", "image")
    with pytest.raises(ValueError, match="streams names 'imge', there are image and text"):
        parse_streams("imge")


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_that_lacks_a_part(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder nowhere \(dit\)"):
        load_dit(tmp_path.relative_to(tmp_path) / "nowhere", CPU, "auto")
    with pytest.raises(FileNotFoundError, match="lacks transformer. Name the folder of a whole"):
        load_dit(tmp_path, CPU, "auto")
    shutil.copytree(folders["flux1"] / "vae", tmp_path / "vae")
    with pytest.raises(FileNotFoundError, match="lacks scheduler. Name the folder of a whole"):
        load_vae(tmp_path, CPU, "auto")


def test_a_part_that_cannot_be_read(folders, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folders["z-image"], broken)
    config = json.loads((broken / "transformer" / "config.json").read_text())
    for file in (broken / "transformer").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="transformer in .*broken cannot be read"):
        load_dit(broken, CPU, "float32")
    with pytest.raises(ValueError, match="transformer in .*broken cannot be read"):
        load_dit(broken, CPU, "auto")
    config["_class_name"] = "UNet2DConditionModel"
    (broken / "transformer" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds UNet2DConditionModel, training runs through Flux"):
        load_dit(broken, CPU, "auto")
