"""What a run is expected to need, against what it takes: peaks of tensor bytes on the CPU."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import vlm
from vlm.families import FAMILIES
from vlm.families.layer_cache import LayerCache
from vlm.prompts.positions import mrope_positions
from vlm.running.backbone import TEXT, VISION
from vlm.running.host import Host
from vlm.running.huggingface import HuggingFaceBackbone
from vlm.running.rewrite import Rewriting

pytestmark = pytest.mark.slow

# An estimate below the peak lets the run fail, one far above it drives other models out of memory.
MOST = 2.5


def peak_of(run) -> int:
    """Most bytes of tensors that were alive at once during `run`, beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    events = watched.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    level = peak = 0
    for _, size in changes:
        level += size
        peak = max(peak, level)
    return peak


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request):
    return getattr(torch, request.param)


@pytest.fixture(scope="module", params=["qwen3_vl", "qwen2_5_vl"])
def backbone(request, dtype):
    """A model with the real ones' proportions at a quarter of their width, two layers deep."""
    import transformers

    text = {"vocab_size": 2000, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 2}
    rope = {"rope_type": "default", "type": "default"}
    if request.param == "qwen3_vl":
        text |= {"hidden_size": 640, "intermediate_size": 2432, "head_dim": 128}
        text |= {"num_attention_heads": 8, "num_key_value_heads": 2}
        text |= {"rope_scaling": rope | {"mrope_section": [24, 20, 20], "mrope_interleaved": True}}
        vision = {"depth": 2, "hidden_size": 256, "intermediate_size": 1024, "num_heads": 4}
        vision |= {"out_hidden_size": 640, "deepstack_visual_indexes": [0, 1]}
    else:
        text |= {"hidden_size": 896, "intermediate_size": 4736}
        text |= {"num_attention_heads": 7, "num_key_value_heads": 1}
        text |= {"rope_scaling": rope | {"type": "mrope", "mrope_section": [16, 24, 24]}}
        vision = {"depth": 2, "hidden_size": 320, "intermediate_size": 856, "num_heads": 4}
        vision |= {"out_hidden_size": 896, "fullatt_block_indexes": [1]}
    family = FAMILIES[request.param]
    kind = getattr(transformers, family.architecture)
    nested = {"text_config": text} if request.param == "qwen3_vl" else text
    config = kind.config_class(**nested, vision_config=vision)
    model = kind._from_config(config, attn_implementation="sdpa", dtype=dtype)
    return HuggingFaceBackbone(model.model.eval().requires_grad_(False), family)


def assert_about_right(estimate: int, measured: int) -> None:
    assert measured <= estimate <= MOST * measured


@pytest.mark.parametrize("tokens", [128, 1024])
@pytest.mark.parametrize("cached", [False, True], ids=["alone", "with a cache"])
@torch.no_grad()
def test_the_language_model(backbone, dtype, tokens, cached):
    hidden = torch.randn(1, tokens, backbone.width, dtype=dtype)
    rotary = backbone.rotary(hidden, mrope_positions(tokens, []))
    cache = LayerCache() if cached else None
    mask = backbone.attention_mask(None, hidden, 0)
    measured = peak_of(lambda: backbone.run_layer(0, hidden, rotary, mask, cache))
    assert_about_right(backbone.run_bytes(TEXT, tokens, 0), measured)


@pytest.mark.parametrize("side", [16, 48])
@torch.no_grad()
def test_the_vision_tower(backbone, side):
    patch = backbone.visual.patch_embed.proj.weight[0].numel()
    pixels = torch.randn(side * side, patch)
    measured = peak_of(lambda: backbone.encode_vision(pixels, (1, side, side)))
    assert_about_right(backbone.run_bytes(VISION, 10, side * side), measured)


class Asked(Host):
    """Notes how much room is asked for."""

    def __init__(self):
        self.room = {}

    def bring(self, part, memory_bytes, keyframe=0):
        self.room[part] = memory_bytes


@pytest.mark.parametrize("keep_mb", [0, 512])
@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3", "llama"])
def test_room_for_an_answer_is_asked_for_before_it_is_written(
    tiny_folder, monkeypatch, family, keep_mb
):
    """Room for 3000 tokens more, as the estimate has it and as it is taken, in one model."""
    model = vlm.load(tiny_folder(family, 6), dtype="float32", prefix_cache_mb=0, host=Asked())

    def stop(*_):
        raise InterruptedError  # keys, values and states have their room before the first token

    monkeypatch.setattr(Rewriting, "_advance", stop)

    def write(max_tokens):
        # The bound is shared with the prompt by its part of the tokens: give both the same.
        keep = keep_mb * (max_tokens + 100) / 100
        with pytest.raises(InterruptedError):
            model.rewrite("a red house", max_tokens=max_tokens, temperature=1.0, keep_mb=keep)

    write(16)
    taken, asked = [], []
    for max_tokens in (16, 3016):
        taken.append(peak_of(lambda max_tokens=max_tokens: write(max_tokens)))
        asked.append(model.host.room[TEXT])
    more = taken[1] - taken[0]
    keys = 2 * 6 * model.backbone.key_width * 3000 * 4
    assert more >= 0.95 * keys
    assert more <= asked[1] - asked[0] <= 1.3 * more
