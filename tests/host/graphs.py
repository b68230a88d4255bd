"""API prompts of the native graphs that the host tests begin from."""

from __future__ import annotations

from typing import Any

Prompt = dict[str, dict[str, Any]]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """One node; a link is a list [node id, output number]; write `a__b` for a key `a.b`."""
    named = {key.replace("__", "."): value for key, value in inputs.items()}
    return {"class_type": kind, "inputs": named}


def z_image(text: str = "a red house", width: int = 64, seed: int = 1, side: int = 64) -> Prompt:
    """TestTinyClip → CLIP Text Encode → KSampler (TestTinyZImage) → PNG, native nodes only.

    Ids: model, clip, vae, text, negative, latent, sampler, decode, save; `dump` writes the text's
    conditioning.
    """
    return {
        "model": node("TestTinyZImage", width=width),
        "clip": node("TestTinyClip", target="z-image", width=width, layers=36),
        "vae": node("VAELoader", vae_name="ae.safetensors"),
        "latent": node("EmptySD3LatentImage", width=side, height=side, batch_size=1),
    } | _sampling(text, seed)


def klein(text: str = "a red house", width: int = 64, seed: int = 1, side: int = 64) -> Prompt:
    """The same for FLUX.2 klein, whose checkpoint comes through the native loader."""
    file = "tiny_klein_192.safetensors" if width == 64 else "flux-2-klein-4b.safetensors"
    return {
        "model": node("UNETLoader", unet_name=file, weight_dtype="default"),
        "clip": node("TestTinyClip", target="flux2-klein", width=width, layers=30),
        "vae": node("VAELoader", vae_name="flux2-vae.safetensors"),
        "latent": node("EmptyFlux2LatentImage", width=side, height=side, batch_size=1),
    } | _sampling(text, seed)


def flux1(name: str = "a", seed: int = 1) -> Prompt:
    """FLUX.1 on random conditioning 4096 wide; its own text encoders are not at hand."""
    prompt = {
        "model": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
        "vae": node("VAELoader", vae_name="ae.safetensors"),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
    } | _sampling("", seed)
    prompt["text"] = node("TestTinyConditioning", width=4096, tokens=16, pooled=768, name=name)
    return prompt


def public(target: str, text: str = "a red house", seed: int = 1) -> Prompt:
    """The graph as people have it: native loaders, file names of the public weights."""
    klein_ = target == "flux2-klein"
    unet = "flux-2-klein-4b" if klein_ else "z_image_turbo_bf16"
    kind, latent = ("flux2", "EmptyFlux2LatentImage") if klein_ else (None, "EmptySD3LatentImage")
    return {
        "model": node("UNETLoader", unet_name=f"{unet}.safetensors", weight_dtype="default"),
        "clip": node("CLIPLoader", clip_name="qwen_3_4b.safetensors", type=kind or "lumina2"),
        "vae": node("VAELoader", vae_name=f"{'flux2-vae' if klein_ else 'ae'}.safetensors"),
        "latent": node(latent, width=64, height=64, batch_size=1),
    } | _sampling(text, seed)


def _sampling(text: str, seed: int) -> Prompt:
    return {
        "text": node("CLIPTextEncode", clip=["clip", 0], text=text),
        "negative": node("ConditioningZeroOut", conditioning=["text", 0]),
        "dump": node("TestTensorDump", conditioning=["text", 0]),
        "sampler": node(
            "KSampler", model=["model", 0], positive=["text", 0], negative=["negative", 0],
            latent_image=["latent", 0], seed=seed, steps=2, cfg=1.0, sampler_name="euler",
            scheduler="simple", denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["vae", 0]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="native"),
    }  # fmt: skip
