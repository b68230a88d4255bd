"""ComfyUI's prompt syntax in every target's row, against its own encode node, bit for bit."""

from __future__ import annotations

import pytest
import torch
from native_nodes import WITH_PICTURES, native
from safetensors.torch import save_file
from test_native_rows import CLIPS, ours, same
from tiny_clips import EVERY, tiny_clip

PROMPTS = {
    "escapes": r"a \(red\) house (big:1.3) \\( [x] ((small)) \n",
    "first": "embedding:three a red house",
    "alone": "embedding:three",
    "middle": "a red  embedding:three \n house, on \t a hill\n",
    "last": "a red house embedding:three",
    "two": "a embedding:three\nembedding:one.pt, b",
    "in a folder": "a embedding:below/two and embedding:two.pt",
    "in a bundle": "a embedding:bundle house, an embedding:mine house",
    "in a list": "a embedding:list house",
    "comma": "a embedding:three, red",
    "comma first": "a embedding:,three, red",
    "cut": "a embedding:three[1] b embedding:one<x> c",
    "blank": "a embedding: three b",
    "no name": "a embedding:",
    "behind a letter": "a_embedding:three (embedding:three",
    "missing": "a  red embedding:nothing,  \n house embedding:three",
    "missing first": "embedding:nothing",
    "path": "a embedding:../outside b embedding:below/../three c",
    "escaped name": r"a embedding:with\(two\) b",
    "odd blanks": "a\u3000embedding:three\u2003b\x0bc\x1fd\u200be",
    "odd blanks around": "embedding:three b\x1f\n",
    "many lines": "one\n\ntwo\n embedding:three  \n\n three\n\n",
}


def vectors(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) / 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`folder(width, key)`: embeddings in the layouts that ComfyUI reads."""

    def make(width: int, key: str) -> str:
        outside = tmp_path_factory.mktemp("embeddings")
        root = outside / "embeddings"
        (root / "below").mkdir(parents=True)
        save_file({"emb_params": vectors(2, width, 0)}, outside / "outside.safetensors")
        save_file({"emb_params": vectors(3, width, 1)}, root / "three.safetensors")
        save_file(
            {"z": vectors(1, 16, 2), key: vectors(2, width, 3).half()}, root / "mine.safetensors"
        )
        bundle = {f"bundle_emb.{n}.string_to_param.*": vectors(n, width, n) for n in (1, 2)}
        save_file(bundle, root / "bundle.safetensors")
        torch.save({"string_to_param": {"*": vectors(1, width, 4)[0]}}, root / "one.pt")
        inverted = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors(2, width, 5)}}
        torch.save(inverted, root / "below" / "two.pt")
        torch.save([{"a": vectors(1, 16, 6)}, {"b": vectors(2, width, 7)}], root / "list.bin")
        save_file({"x": vectors(1, width, 8)}, root / "with(two).safetensors")
        return str(root)

    return make


WITHOUT = ("qwen-image", "hunyuan-image")  # CLIPs whose tokenizer is given no folder
# All of them on a row whose words are laid out, and on one whose words are read apart.
ALL = ("z-image", "minimax-h3")
SOME = ("escapes", "first", "middle", "last", "missing")


@pytest.fixture(scope="module", params=CLIPS)
def row(request, folder):
    """A target, its CLIP with a folder of embeddings, and VLM From CLIP of it."""
    from pack.nodes.clip import vlm_from_clip

    kind = EVERY[CLIPS[request.param]]
    clip = tiny_clip(CLIPS[request.param])
    tokenizer = getattr(clip.tokenizer, clip.tokenizer.clip)
    if CLIPS[request.param] not in WITHOUT:
        tokenizer.embedding_directory = [folder(kind.width, kind.key)]
        tokenizer.embedding_size = kind.width
    return request.param, clip, vlm_from_clip(clip, "comfyui", 0)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_row_equals_its_own_encoder(row, prompt):
    target, clip, model = row
    if prompt not in SOME and target not in ALL or native_fails(target, prompt):
        return
    ((tensor, options),) = ours(model, target, PROMPTS[prompt], [])
    ((want, native_options),) = native(target, clip, PROMPTS[prompt], [])
    assert tensor.shape == want.shape
    assert torch.equal(tensor, want)
    assert options.keys() == native_options.keys()
    assert all(same(options[key], native_options[key]) for key in options)


def native_fails(target: str, prompt: str) -> bool:
    """Where ComfyUI ends in an IndexError: no name at the end of all, with no template behind."""
    return target == "minimax-h3" and prompt == "no name"


def test_beside_a_picture(row, picture):
    """A name that touches the picture's block is none where block and words are read as one."""
    target, clip, model = row
    if target not in WITH_PICTURES:
        return
    seen, prompt = [picture(129, 95)], "embedding:three a red  embedding:three \n house"
    ((tensor, options),) = ours(model, target, prompt, seen)
    ((want, native_options),) = native(target, clip, prompt, seen)
    assert torch.equal(tensor, want)
    assert options.keys() == native_options.keys()


def test_an_embedding_stands_for_its_vectors(row):
    """The rows above would be equal too if neither side took any."""
    target, _, model = row
    if CLIPS[target] in WITHOUT:
        assert not model.encode("a embedding:three", target=target).prompt.embeddings
        return
    h = model.encode("a embedding:three house", target=target)
    assert len(h.prompt.embeddings) == 3
    at = min(h.prompt.embeddings)
    assert torch.equal(h.layer(0)[0, at : at + 3], vectors(3, h.width, 1))


@pytest.mark.parametrize("target", CLIPS)
def test_the_key_of_a_text_encoder_is_that_of_its_tokenizer(target):
    from pack.vlm.targets import find_target

    row = find_target(target)
    if row.takes_embeddings:
        assert row.embedding_key == EVERY[CLIPS[target]].key


def test_vectors_of_another_width_are_refused(folder):
    """ComfyUI warns, and puts masked pads behind the prompt in their place."""
    from pack.nodes.clip import vlm_from_clip

    clip = tiny_clip("z-image")
    clip.tokenizer.qwen3_4b.embedding_directory = folder(48, "qwen3_4b")
    with pytest.raises(ValueError, match=r"is 48 wide.*are 64 wide"):
        vlm_from_clip(clip, "comfyui", 0).encode("a embedding:three", target="z-image")
