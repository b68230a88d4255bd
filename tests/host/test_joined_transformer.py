"""A FLUX.1 that diffusers wrote in shards, joined, in a native sampler."""

import io

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from graphs import flux1, node
from PIL import Image
from refusals import change

from vlm.cli import main

SHARD = "2MB"


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """The joined file and, as its oracle, what diffusers writes in one."""
    torch.manual_seed(0)
    flux = FluxTransformer2DModel(
        num_layers=1, num_single_layers=1, num_attention_heads=1, joint_attention_dim=4096,
        pooled_projection_dim=768, guidance_embeds=True,
    )  # fmt: skip
    pipeline = tmp_path_factory.mktemp("published") / "flux"
    flux.save_pretrained(pipeline / "transformer", max_shard_size=SHARD)
    (pipeline / "model_index.json").write_text("{}", encoding="utf-8")
    assert len(list((pipeline / "transformer").glob("*.safetensors"))) > 2
    joined = models / "diffusion_models" / "joined.safetensors"
    assert main(["convert", str(pipeline), str(joined)]) == 0
    flux.save_pretrained(pipeline / "whole")
    whole = pipeline / "whole" / "diffusion_pytorch_model.safetensors"
    whole.rename(models / "diffusion_models" / "whole.safetensors")
    return "joined.safetensors", "whole.safetensors"


def test_it_makes_the_picture_that_the_model_in_one_file_makes(files, comfy):
    pictures = []
    for file in files:
        comfy.wait_for_option("UNETLoader", "unet_name", file)
        loader = node("UNETLoader", unet_name=file, weight_dtype="default")
        result = comfy.run(change(flux1() | {"model": loader}, "sampler", seed=3))
        pictures.append(np.asarray(Image.open(io.BytesIO(result.images("save")[0]))))
    assert pictures[0].std() > 1
    assert np.array_equal(*pictures)
