"""Flow matching on pictures through whole toy diffusion models."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captions_of_toys import captions
from dit_toys import write_flux1, write_pictures
from flux1_toys import write_encoders
from PIL import Image
from safetensors.torch import load_file

import vlm
from vlm.train import run as runs
from vlm.train.captions import Captions
from vlm.train.data import read_data
from vlm.train.models import make_accelerator
from vlm.train.reader import Reader
from vlm.train.run import RESULT, train

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def flux1(tmp_path_factory):
    """A whole toy FLUX.1 pipeline, and pictures with captions."""
    folder = tmp_path_factory.mktemp("flux1")
    write_encoders(folder)
    write_pictures(folder, captions(24))
    return write_flux1(folder)


@pytest.fixture
def flow(recipe, flux1):
    """`flow(key=value)`: Qwen2VL-Flux's recipe on toys: a linear layer on a picture's tokens."""

    def get(**changes):
        given = recipe(
            captions=str(flux1 / "captions.jsonl"), teacher=str(flux1), dit=str(flux1),
            target="qwen2vl-flux", layers="-1", connector="linear", pooled=0.0, sees="picture",
            tokens="image", features=0.0, flow=1.0, size=64, held_out=4, calibrate=4,
            batch=3, cache="",
        )  # fmt: skip
        return replace(given, **changes)

    return get


def plain_loss(dit, vae, items, context, pooled):
    """The training loop of diffusers' scripts on the noise and times that were drawn."""
    from diffusers import FluxPipeline

    given = [item.given["flow"] for item in items]
    sigma = torch.tensor([each.sigma for each in given])[:, None, None, None]
    velocity = torch.stack([each.velocity for each in given])
    picture = torch.stack([each.latents for each in given]) - sigma * velocity
    noise = picture + velocity
    pixels = torch.stack(
        [torch.tensor(np.array(item.picture)).permute(2, 0, 1) / 127.5 - 1 for item in items]
    )
    spread = vae.encode(pixels).latent_dist
    away = (picture / 0.3611 + 0.1159 - spread.mean) / spread.std
    assert away.abs().max() < 6 and 0.9 < away.std() < 1.1  # what the VAE makes of the pictures
    count, channels, height, width = picture.shape
    noised = (1 - sigma) * picture + sigma * noise
    (found,) = dit(
        hidden_states=FluxPipeline._pack_latents(noised, count, channels, height, width),
        encoder_hidden_states=context,
        pooled_projections=pooled.expand(count, -1),
        timestep=sigma.flatten(),
        img_ids=FluxPipeline._prepare_latent_image_ids(
            count, height // 2, width // 2, "cpu", torch.float32
        ),
        txt_ids=torch.zeros(context.shape[1], 3),
        guidance=torch.full((count,), 3.5),
        return_dict=False,
    )
    found = FluxPipeline._unpack_latents(found, 8 * height, 8 * width, 8)
    return ((found - (noise - picture)) ** 2).mean()


def test_gradients_are_those_of_a_plain_loop(flow):
    recipe = flow()
    run = runs.Run(recipe, read_data(recipe), make_accelerator(recipe))
    items = next(run._batches()).items
    student = run._student
    loss, _ = run._objective(items, student([item.reading for item in items]))
    ours = torch.autograd.grad(loss, list(student.parameters()))

    weights = student.weights()
    leaves = {name: value.detach().requires_grad_(True) for name, value in weights.items()}
    states = torch.cat([item.reading.layers[0] for item in items]).float()
    context = states @ leaves["weights.0"].T + leaves["biases.0"]
    losses = run._objective.losses["flow"]
    pooled = run._teacher("").pooled
    plain = plain_loss(losses._dit.model, losses._vae, items, context, pooled)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    found = torch.autograd.grad(plain, list(leaves.values()))
    theirs = torch.autograd.grad(list(weights.values()), list(student.parameters()), found)
    for left, right in zip(ours, theirs, strict=True):
        assert left.abs().max() > 0
        assert (left - right).abs().max() <= 1e-5 * float(right.abs().max())


def test_the_loss_falls_and_the_file_reads_a_picture(flow, place):
    done = train(flow(steps=30, every=10, lr=1e-2))
    held = [row["held_out"] for row in done.log if "held_out" in row]
    assert held[2] < held[1] < held[0]
    assert all(row["flow"] == pytest.approx(row["loss"]) for row in done.log)
    connector = vlm.load_connector(done.file)
    assert connector.keep == "image"
    picture = Image.new("RGB", (64, 64), "red")
    model = vlm.load(place / "vlm", prefix_cache_mb=0)
    h = model.encode("", images=[picture], target="qwen2vl-flux")
    seen = vlm.filter_tokens(connector(h).tokens, "image").states
    reading = Reader(model, flow())("any words", picture)
    weights = load_file(done.file)
    layer = reading.layers[:, 0].float()
    assert torch.equal(
        seen, torch.nn.functional.linear(layer, weights["0.weight"], weights["0.bias"])
    )


def test_stopped_and_started_again_it_ends_with_the_same_bits(flow, tmp_path):
    whole = flow(steps=4, every=2, batch=2, out=str(tmp_path / "whole"), times="logit_normal")
    train(whole)
    parts = replace(whole, out=str(tmp_path / "parts"))

    def stop(row):
        if row["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(parts, stop)
    assert train(parts).resumed_at == 2
    left, right = (load_file(Path(each.out) / RESULT) for each in (whole, parts))
    assert all(torch.equal(left[name], right[name]) for name in left)


# --- pictures ------------------------------------------------------------------------------------


def test_pictures_out_of_parquet_and_webdataset(flux1, tmp_path):
    import io
    import tarfile

    import datasets

    wanted = [(flux1 / f"{number}.png").read_bytes() for number in range(3)]
    rows = {"caption": captions(3), "image": [{"bytes": each, "path": None} for each in wanted]}
    table = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    table.to_parquet(tmp_path / "captions.parquet")
    with tarfile.open(tmp_path / "captions.tar", "w") as tar:
        for number, (text, picture) in enumerate(zip(captions(3), wanted, strict=True)):
            for ending, data in (("txt", text.encode()), ("png", picture)):
                info = tarfile.TarInfo(f"{number}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    for name, *keys in (("captions.parquet", "caption", "image"), ("captions.tar", "txt", "png")):
        assert [row.picture for row in Captions(tmp_path / name, *keys).read()] == wanted
        assert all(row.picture is None for row in Captions(tmp_path / name, keys[0]).read())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "caption 1 of captions.jsonl has no image, it has 'caption'. Set picture"),
        ({"image": "../a.png"}, "neither bytes nor the name of a file in"),
        ({"image": None}, "neither bytes nor the name of a file in"),
        ({"image": "none.png"}, "picture of caption .* of captions.jsonl cannot"),
    ],
)
def test_a_picture_that_is_missing_is_named(flow, tmp_path, row, said):
    file = tmp_path / "captions.jsonl"
    rows = ({**row, "caption": text} for text in captions(12))
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    with pytest.raises(ValueError, match=said):
        train(flow(captions=str(file)))


def test_captions_without_pictures_are_refused(flow, place):
    with pytest.raises(ValueError, match="captions.txt holds words alone, and this recipe needs a"):
        train(flow(captions=str(place / "captions.txt")))


def test_tokens_that_a_prompt_has_not(flow):
    with pytest.raises(ValueError, match=r"no token of the kind image \(tokens\)"):
        train(flow(sees="caption"))
    with pytest.raises(ValueError, match="lap reads all of them together. Set tokens to all"):
        train(flow(connector="lap", layers="1,3"))
