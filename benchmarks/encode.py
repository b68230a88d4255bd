"""Encoding a picture and words: speed and memory beside the usual way, in one run.

The usual way is transformers' image processor and its `ForConditionalGeneration` forward, with the
LM head over all positions and `output_hidden_states=True`, as nodes that wrap a VLM call it. Both
ways are counted from the picture to the states; only ours also counts splitting the text.
"""

from __future__ import annotations

import gc
import inspect
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import table
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

ROUNDS = 5
SIDE = 768  # pixels: 48 x 48 patches of 16, 24 x 24 = 576 tokens
TEXT_TOKENS = 32
WIDTH, FEED_FORWARD, LAYERS, VOCABULARY = 768, 1024, 24, 151936
MB = 2**20
ELSEWHERE = torch.device("meta")  # stands for the CPU beside a graphics card


def quiet() -> None:
    """Keeps transformers' own bars out of the output."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def build() -> tuple[Any, Any, Any]:
    """A random Qwen3-VL as transformers' class, its image processor, and wrapped as ours.

    The weights are shared.
    """
    from transformers import AutoImageProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from vlm.families import family_of
    from vlm.model import VLM
    from vlm.pictures.preprocessor import read_patch_preprocessor
    from vlm.prompts.tokenizer import Tokenizer
    from vlm.running.engine import Engine
    from vlm.running.huggingface import HuggingFaceBackbone
    from vlm.tiny.folder import write_tiny

    with tempfile.TemporaryDirectory() as place:
        folder = write_tiny(Path(place) / "tiny")
        tokenizer = Tokenizer(folder)
        config = Qwen3VLConfig(**shape(tokenizer))
        rules = read_patch_preprocessor(folder, config.to_dict())
        processor = AutoImageProcessor.from_pretrained(str(folder))
    torch.manual_seed(0)
    whole = Qwen3VLForConditionalGeneration(config).eval().requires_grad_(False)
    with torch.device("meta"):
        twin = Qwen3VLForConditionalGeneration(config).eval().requires_grad_(False)
    # The backbone changes its model's patch embedding; the usual way keeps transformers' own.
    twin.load_state_dict(whole.state_dict(), assign=True)
    twin.model.language_model.rotary_emb = whole.model.language_model.rotary_emb
    twin.model.visual.rotary_pos_emb = whole.model.visual.rotary_pos_emb
    family = family_of("qwen3_vl", "the benchmark")
    backbone = HuggingFaceBackbone(twin.model, family)
    engine = Engine("random", family, backbone)
    return whole, processor, VLM(engine, tokenizer, rules)


def shape(tokenizer: Any) -> dict:
    """config.json of the model that the limits were set on."""
    return {
        "text_config": {
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "intermediate_size": FEED_FORWARD,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 12,
            "num_key_value_heads": 4,
            "head_dim": 64,
            "rope_theta": 5000000.0,
            "rope_scaling": {
                "rope_type": "default",
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
        },
        "vision_config": {
            "depth": 4,
            "hidden_size": 384,
            "intermediate_size": FEED_FORWARD,
            "num_heads": 6,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [0, 1, 2],
        },
        "image_token_id": tokenizer.id_of("<|image_pad|>"),
        "video_token_id": tokenizer.id_of("<|video_pad|>"),
        "vision_start_token_id": tokenizer.id_of("<|vision_start|>"),
        "vision_end_token_id": tokenizer.id_of("<|vision_end|>"),
        "tie_word_embeddings": True,
    }


def picture(seed: int) -> Image.Image:
    """A picture of noise."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def words(ours: Any, seed: int) -> str:
    """A text of exactly `TEXT_TOKENS` tokens."""
    pool = ["red", "house", "by", "the", "sea", "at", "dawn", "two", "boats", "and", "birds"]
    text = ""
    for word in itertools.cycle(pool[seed:]):
        longer = f"{text} {word}".strip()
        if len(ours.tokenizer.split(longer)[0]) > TEXT_TOKENS:
            break
        text = longer
    while len(ours.tokenizer.split(text)[0]) < TEXT_TOKENS:
        text += "!" if seed else "?"
    return text


class Usual:
    """The usual way, on the same ids as ours."""

    def __init__(self, whole: Any, processor: Any, ids: Sequence[int]):
        self.whole, self.processor = whole, processor
        ids = torch.tensor([ids])
        self.inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if "mm_token_type_ids" in inspect.signature(whole.forward).parameters:
            # transformers 5 finds the pictures' positions by these
            image = whole.config.image_token_id
            self.inputs["mm_token_type_ids"] = (ids == image).int()

    @torch.no_grad()
    def run(self, image: Image.Image) -> Any:
        """Logits and all hidden states."""
        patches = self.processor(images=[image], return_tensors="pt")
        return self.whole(**self.inputs, **patches, output_hidden_states=True)


class Clock:
    """Seconds by name, several measurements each."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Runs `work` and notes how long it took."""
        start = time.perf_counter()
        result = work()
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    def median(self, name: str) -> float:
        """Median seconds of a name."""
        return statistics.median(self.seconds[name])


def token_work(states: Any, text: Any, stats: Any) -> Any:
    """Filter, per-dim normalise and blend of one layer's tokens."""
    import vlm

    tokens = vlm.filter_tokens(vlm.select_layers(states, -8), keep="image")
    tokens = vlm.normalize(tokens, stats, mode="per_dim")
    return vlm.blend(tokens, text, alpha=0.3)


def measure(clock: Clock, whole: Any, processor: Any, ours: Any, rounds: int) -> None:
    """Times every kind of work once a round, in turn, so that all share the machine's moods."""
    import vlm

    image, first, second = picture(0), words(ours, 0), words(ours, 3)
    prompt = ours.encode(first, images=image, target="z-image").prompt
    usual = Usual(whole, processor, prompt.ids)
    text = vlm.select_layers(ours.encode(first, target="z-image"), -2)
    stats = vlm.measure_stats(text)

    def encode(prompt: str, layer: int) -> Any:
        states = ours.encode(prompt, images=image, target="z-image")
        states.layer(layer)
        return states

    for number in range(-1, rounds):  # the first round warms up
        table.say(f"round {number + 1} of {rounds}" if number >= 0 else "warming up")
        now = clock if number >= 0 else Clock()
        now.time("usual", lambda: usual.run(image))
        ours.prefix_cache.clear()
        now.time("to -2", lambda: encode(first, -2))
        ours.prefix_cache.clear()
        states = now.time("to -8", lambda: encode(first, -8))
        now.time("passed", lambda held=states: held.layer(-12))
        now.time("tokens", lambda held=states: token_work(held, text, stats))
        now.time("new prompt", lambda: encode(second, -8))


def speed(rounds: int, whole: Any, processor: Any, ours: Any) -> list[table.Row]:
    """Seconds of the usual way, and everything else as a share of them."""
    clock = Clock()
    measure(clock, whole, processor, ours, rounds)
    usual = clock.median("usual")
    limits = {
        "to -8": ("a picture and a prompt, to layer -8", 0.52),
        "to -2": ("a picture and a prompt, to layer -2", 0.62),
        "passed": ("a layer already passed", 0.01),
        "new prompt": ("the same picture, a new prompt, to layer -8", 0.08),
        "tokens": ("filter + per-dim + blend", 0.01),
    }
    rows = [table.Row("the usual way: all layers and the LM head", usual, None, "s")]
    for name, (title, limit) in limits.items():
        rows.append(table.Row(title, clock.median(name) / usual, limit, "of the usual way"))
    return rows


def live_storages() -> dict[int, int]:
    """Bytes of every tensor storage alive in the process, by address; views count once."""
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return found


def held_bytes(ours: Any) -> list[table.Row]:
    """What hidden states leave in memory, beside what the layers they hold must take."""
    ours.prefix_cache.clear()
    before = live_storages()
    states = ours.encode(words(ours, 0), images=picture(1), target="z-image")
    states.layer(-8)
    passed = len(states.held)
    ours.prefix_cache.clear()  # its share is bounded by itself, see below
    new = {at: size for at, size in live_storages().items() if at not in before}
    layer = len(states.prompt.ids) * states.width * states.dtype.itemsize
    return [
        table.Row("live tensors after a run to layer -8", sum(new.values()) / MB, None, "MB"),
        table.Row(
            f"live tensors, for {passed} layers passed",
            sum(new.values()) / (passed * layer),
            1.1,
            "of layers passed x one layer",
        ),
    ]


def prefix_bound() -> table.Row:
    """Fullest that the prefix cache gets over many pictures, counted in live tensors."""
    import vlm

    bound = 4.0
    model = vlm.load("tiny", dtype="float32", prefix_cache_mb=bound)
    model.encode("a red house", images=picture(0), target="z-image").layer(-8)
    model.prefix_cache.clear()
    before, fullest = live_storages(), 0
    for seed in range(8):
        small = picture(seed).crop((0, 0, 256, 256 + 64 * (seed % 3)))
        model.encode("a red house", images=small, target="z-image").layer(-8)
        new = {at: size for at, size in live_storages().items() if at not in before}
        fullest = max(fullest, sum(new.values()))
    entries = len(model.prefix_cache)
    name = f"prefix cache after 8 pictures ({entries} fit)"
    return table.Row(name, fullest / (bound * MB), 1.0, f"of its bound of {bound:g} MB")


@contextmanager
def counting(model: Any) -> Iterator[list[int]]:
    """Collects the number of tokens of every decoder layer that runs."""
    ran: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        ran.append((args[0] if args else kwargs["hidden_states"]).shape[1])

    layers = model.backbone.text.layers
    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def orders() -> table.Row:
    """Layers {8, 20, 28} in all orders, in decoder layers x tokens: exact, not timed."""
    import vlm

    model = vlm.load("tiny", dtype="float32")
    image = picture(0).crop((0, 0, 320, 256))

    def cost(layers: tuple[int, ...]) -> int:
        model.prefix_cache.clear()
        states = model.encode("a red house", images=image, target="z-image")
        with counting(model) as ran:
            for layer in layers:
                states.layer(layer)
        return sum(ran)

    worst = max(cost(order) for order in itertools.permutations((8, 20, 28)))
    return table.Row(
        "layers 8, 20, 28 in the worst of six orders",
        worst / cost((28,)),
        1.05,
        "of one run to 28 (layers x tokens)",
    )


class Copies(TorchDispatchMode):
    """Counts copies to `ELSEWHERE`."""

    def __init__(self) -> None:
        """Begins at none."""
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Runs an operation, and sees where its result lies."""
        made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and made.device == ELSEWHERE:
            self.count += 1
        return made


def copies() -> table.Row:
    """Copies from the device that runs to where states are kept, for one layer of a picture."""
    import vlm
    from vlm.running.host import Host

    class Away(Host):
        """Keeps everything elsewhere, as a graphics card does on the CPU."""

        hold_device = cache_device = ELSEWHERE

    model = vlm.load("tiny", dtype="float32", host=Away())
    image = picture(0).crop((0, 0, 320, 256))
    states = model.encode("a red house", images=image, target="z-image", keep_mb=0)
    with Copies() as copied:
        states.reach(-2)
    return table.Row("copies to the CPU for one layer, keep_mb=0", copied.count, 3, "copies")


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    parser = table.parser(__doc__)
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="measurements of each, at least 5 (default 5)"
    )
    options = parser.parse_args(arguments)
    table.say("building the model")
    quiet()
    whole, processor, ours = build()
    rows = speed(max(options.rounds, 5), whole, processor, ours)
    rows += held_bytes(ours)
    rows += [prefix_bound(), orders(), copies()]
    return table.finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
