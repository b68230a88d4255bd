"""Attention distillation through whole toy diffusion models."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dit_toys import write_flux1, write_z_image
from safetensors.torch import load_file

import vlm
from vlm.train import models
from vlm.train.attention import Attention
from vlm.train.captions import Caption
from vlm.train.dit_folder import load_dit
from vlm.train.features_loss import WORD, TextStates
from vlm.train.item import Item
from vlm.train.objective import Objective
from vlm.train.reader import Reader
from vlm.train.recipe import TrainRecipe
from vlm.train.run import RESULT, train

pytest.importorskip("diffusers")
CPU = torch.device("cpu")
WIDTH, POOLED = 24, 12


def published_loss(model, student, teacher, noise, temperature=3.0):
    """X2I's loop, train/train_qwenvl.py: hooks on every attention, then block after block.

    `student` and `teacher` are contexts [B, N, D] with pooled vectors [B, P].
    """
    from diffusers import FluxPipeline

    runs = []
    for context, pooled in (teacher, student):
        image, text, single = [], [], []
        hooks = []

        def keep_both(module, given, output, image=image, text=text):
            image.append(output[0])
            text.append(output[1])

        def keep(module, given, output, single=single):
            single.append(output)

        for block in model.transformer_blocks:
            hooks.append(block.attn.register_forward_hook(keep_both))
        for block in model.single_transformer_blocks:
            hooks.append(block.attn.register_forward_hook(keep))
        count, channels, height, width = noise.shape
        model(
            hidden_states=FluxPipeline._pack_latents(noise, count, channels, height, width),
            encoder_hidden_states=context,
            pooled_projections=pooled,
            timestep=torch.ones(count),
            img_ids=FluxPipeline._prepare_latent_image_ids(
                count, height // 2, width // 2, CPU, torch.float32
            ),
            txt_ids=torch.zeros(context.shape[1], 3),
            guidance=torch.full((count,), 3.5),
        )
        for hook in hooks:
            hook.remove()
        runs.append([*image, *text, *single])

    def normalize(logits):
        return (logits - logits.mean(dim=-1, keepdim=True)) / (
            1e-7 + logits.std(dim=-1, keepdim=True)
        )

    total = 0
    for wanted, found in zip(*runs, strict=True):
        p = torch.softmax(normalize(found) / temperature, dim=-1)
        q = torch.softmax(normalize(wanted) / temperature, dim=-1)
        total = total + (p * (p.log() - q.log())).sum() / len(noise)
    return total


def items(count, tokens=9, seed=0):
    """Captions that a text encoder has read."""
    draw = torch.Generator().manual_seed(seed)

    def text(_):
        states = torch.randn(tokens, WIDTH, generator=draw)
        pooled = torch.randn(POOLED, generator=draw)
        return TextStates(states, torch.full((tokens,), WORD), (), (), pooled)

    return [Item(Caption(f"{at}", f"caption {at}"), "0 0", None, text) for at in range(count)]


@pytest.fixture(scope="module")
def flux1(tmp_path_factory):
    folder = write_flux1(tmp_path_factory.mktemp("flux1"), WIDTH, POOLED)
    return load_dit(folder, CPU, "float32")


def test_it_is_the_published_loss_of_a_whole_flux1(flux1):
    recipe = TrainRecipe(size=64, features=0.0, attention=1.0, dit="x")
    objective = Objective([Attention(recipe, flux1, flux1)], {"attention": 1.0})
    ready = [objective.prepare(item) for item in items(3)]
    context = torch.randn(3, 9, WIDTH, requires_grad=True)
    pooled = torch.randn(3, POOLED, requires_grad=True)
    found, parts = objective(ready, list(zip(context, pooled, strict=True)))
    ours = torch.autograd.grad(found, (context, pooled))

    noise = torch.stack([item.given["attention"].noise for item in ready])
    texts = [torch.stack([getattr(item.text, name) for item in ready])
             for name in ("states", "pooled")]  # fmt: skip
    wanted = published_loss(flux1.model, (context, pooled), texts, noise)
    theirs = torch.autograd.grad(wanted, (context, pooled))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert parts["attention"] == pytest.approx(found.item())
    for left, right in zip(ours, theirs, strict=True):
        assert (left - right).abs().max() <= 1e-5 * max(1.0, float(right.abs().max()))


def test_where_both_read_the_same_it_is_nothing(flux1):
    recipe = TrainRecipe(size=32, attention=1.0)
    loss = Attention(recipe, flux1, flux1)
    objective = Objective([loss], {"attention": 1.0})
    ready = [objective.prepare(item) for item in items(2)]
    found, _ = objective(ready, [(item.text.states, item.text.pooled) for item in ready])
    assert abs(found.item()) < 1e-5


def test_streams_and_blocks_are_shares_of_the_whole(flux1):
    def value(**changes):
        recipe = TrainRecipe(size=32, attention=1.0, **changes)
        objective = Objective([Attention(recipe, flux1, flux1)], {"attention": 1.0})
        ready = [objective.prepare(item) for item in items(1)]
        context = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(5))
        return objective(ready, [(context, torch.zeros(POOLED))])[0].item()

    whole = value()
    assert value(streams="image") + value(streams="text") == pytest.approx(whole, rel=1e-5)
    parts = value(blocks="double") + value(blocks="single.0") + value(blocks="single.1")
    assert parts == pytest.approx(whole, rel=1e-5)


def test_other_lengths_are_compared_on_the_image_alone(flux1):
    given = [(torch.randn(5, WIDTH), torch.zeros(POOLED))]
    for streams, fits in (("image", True), ("image,text", False)):
        recipe = TrainRecipe(size=32, attention=1.0, streams=streams)
        objective = Objective([Attention(recipe, flux1, flux1)], {"attention": 1.0})
        ready = [objective.prepare(item) for item in items(1)]
        if fits:
            assert objective(ready, given)[0].isfinite()
        else:
            with pytest.raises(ValueError, match="gives 5 tokens of caption 0, the text encoder 9"):
                objective(ready, given)


# --- runs ----------------------------------------------------------------------------------------


class LinearTeacher:
    """A text encoder that a linear layer can be: a random one on the very states of the VLM."""

    name = "linear"

    def __init__(self, recipe, width, pooled):
        self.width, self.pooled = width, pooled
        self._reader = Reader(vlm.load(recipe.vlm, CPU, prefix_cache_mb=0), recipe)
        draw = torch.Generator().manual_seed(1)
        self._weight = torch.randn(width, self._reader.vlm.backbone.width, generator=draw) / 8

    def __call__(self, caption):
        states = self._reader(caption).layers[0, 0].float() @ self._weight.T
        # Hardly anything: the connector has no pooled vector to learn.
        pooled = torch.full((self.pooled,), 1e-3 * len(caption)) if self.pooled else None
        kinds = torch.full((len(states),), WORD)
        return TextStates(states, kinds, tuple(range(len(states))), (), pooled)


@pytest.mark.parametrize(("target", "write"), [("flux1", write_flux1), ("z-image", write_z_image)])
def test_it_ends_at_a_fifth_of_its_start(recipe, tmp_path, monkeypatch, target, write):
    pooled = 768 if target == "flux1" else 0
    monkeypatch.setattr(
        models, "load_teacher", lambda given, *rest: LinearTeacher(given, 64, pooled)
    )
    more = {"width": 64, "pooled": pooled} if pooled else {"width": 64}
    given = recipe(
        target=target, dit=str(write(tmp_path / "dit", **more)), connector="linear", pooled=0.0,
        features=0.0, attention=1.0, size=32, steps=150, batch=2, lr=3e-2, held_out=4, every=150,
        warmup=5, schedule="linear", cache="",
    )  # fmt: skip
    log = train(given).log
    first, last = (sum(row["attention"] for row in rows) / 5 for rows in (log[:5], log[-5:]))
    assert last <= 0.2 * first
    assert log[-1]["held_out"] == pytest.approx(log[-1]["held_out_attention"])
    assert log[-1]["held_out"] <= 0.2 * log[0]["attention"]


def test_a_weighted_sum_goes_on_with_the_same_bits(recipe, z_image, tmp_path):
    given = recipe(
        dit=str(z_image), features=2.0, attention=0.01, size=32, steps=8, held_out=2, every=3,
        out=str(tmp_path / "whole"),
    )  # fmt: skip
    log = train(given).log
    for row in log:
        features = row["words"] + 0.1 * (row.get("pads", 0) + row.get("sinks", 0))
        assert row["loss"] == pytest.approx(2 * features + 0.01 * row["attention"], rel=1e-4)
    assert {"held_out", "constant", "held_out_attention"} <= log[-1].keys()
    parts = replace(given, out=str(tmp_path / "parts"), checkpointing=False)

    def stop(row):
        if row["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(parts, stop)
    done = train(parts)
    assert done.resumed_at == 3 and done.log == log
    left, right = (load_file(Path(each.out) / RESULT) for each in (given, parts))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"dit": ""}, ValueError, "dit is empty: folder of the diffusers pipeline"),
        ({"dit": "nowhere"}, FileNotFoundError, r"no folder nowhere \(dit\)"),
        ({"blocks": "layers.7"}, ValueError, "noise_refiner 0 to 0, context_refiner 0 to 0, lay"),
        ({"blocks": "double"}, ValueError, "blocks names 'double', this diffusion model has"),
        ({"streams": "words"}, ValueError, "streams names 'words', there are image and text"),
        (
            {"blocks": "context_refiner", "streams": "image"},
            ValueError,
            "None of the blocks context_refiner has a stream image",
        ),
    ],
)
def test_refuses(recipe, z_image, changes, kind, said):
    with pytest.raises(kind, match=said):
        train(recipe(**{"dit": str(z_image), "attention": 1.0, "size": 32, **changes}))


def test_a_diffusion_model_of_another_width(recipe, tmp_path):
    dit = write_z_image(tmp_path / "dit", 32)
    with pytest.raises(ValueError, match="reads 32 dimensions and a pooled vector of 0, tiny.*64"):
        train(recipe(dit=str(dit), attention=1.0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": 0.0}, "Nothing is learnt: features, attention, flow are all 0"),
        ({"size": 100}, "size is 100, expected a multiple of 16"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"attention": float("nan")}, "attention is nan"),
        ({"times": "mode"}, "times is 'mode', expected one of uniform, logit_normal"),
    ],
)
def test_keys_that_mean_nothing(changes, said):
    with pytest.raises(ValueError, match=said):
        TrainRecipe(**changes)
