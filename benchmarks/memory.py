"""What loading a model and encoding with it cost in main memory.

A random Qwen3-VL in bfloat16 is written twice, as a single file in ComfyUI's naming and as a folder
of shards. Each way of loading it runs in a process of its own, that has loaded the built-in model
before: libraries, and what they keep, are not counted. A thread reads RssAnon, the memory that is
not pages of files, every other millisecond; a row of loading is its highest rise over the bytes of
the file. Encoding runs picture and words to the last layer: ours, all layers held, beside
transformers' own forward with `output_hidden_states`, and beside the estimate that ComfyUI gets;
the median of several processes counts.

Linux only, since it reads /proc/self/status.

    python benchmarks/memory.py [--json]
"""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import table
import torch

WIDTH, FEED_FORWARD, LAYERS = 2048, 8192, 5
SHARDS = 4
PERIOD = 0.002  # seconds between two looks at the memory
LIMIT = 1.1
ROUNDS = 5  # processes that encode, of which the median counts
WAYS = {
    "file": ("single file, its own dtype", LIMIT),
    "folder": ("folder of shards, its own dtype", LIMIT),
    "float16": ("single file as float16: all is converted", LIMIT),
    "usual": ("folder of shards by transformers' from_pretrained", None),
}
ENCODE, FORWARD = "encode", "forward"
SIDE = 768  # pixels of the picture that is encoded
WORDS = "a red house by the sea at dawn, two boats and a flock of birds over the water"
MB = 2**20


def rss_anon() -> int:
    """Bytes of this process that are not pages of files."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon; this needs Linux 4.5 or newer.")


class Peak:
    """The highest RssAnon since the start.

    Attributes:
        baseline: Bytes at the start.
        highest: Bytes at the highest.
    """

    def __init__(self):
        self.baseline = self.highest = rss_anon()

    @property
    def rise(self) -> int:
        """From the start to the highest, in bytes."""
        return self.highest - self.baseline

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A thread that looks while the body runs."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(PERIOD):
                self.highest = max(self.highest, rss_anon())

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.highest = max(self.highest, rss_anon())


def write_models(place: Path) -> dict[str, Path]:
    """Writes the folder and the file; by the word that `load` takes."""
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel

    from vlm.tiny.folder import write_tiny

    folder = write_tiny(place / "folder", layers=LAYERS)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = {"hidden_size": WIDTH, "intermediate_size": FEED_FORWARD, "head_dim": 128}
    config["text_config"] |= text | {"num_attention_heads": 16, "num_key_value_heads": 8}
    config["text_config"]["rope_scaling"]["mrope_section"] = [24, 20, 20]
    config["vision_config"]["out_hidden_size"] = WIDTH
    config["torch_dtype"] = "bfloat16"
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(**config))
    torch.manual_seed(0)
    weights = {
        name: torch.randn(empty.shape).mul_(0.02).bfloat16()
        for name, empty in model.state_dict().items()
    }
    written = json.dumps(config)
    (folder / "config.json").write_text(written, encoding="utf-8")
    write_shards(folder, {f"model.{name}": weight for name, weight in weights.items()})
    file = place / "file.safetensors"
    renamed = {name.replace("language_model.", "model."): w for name, w in weights.items()}
    save_file(renamed, file, {"format": "pt"})
    file.with_suffix(".json").write_text(written, encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, place / name)
    return {"file": file, "folder": folder, "float16": file, "usual": folder}


def write_shards(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Weights in files of about the same number of tensors, with their index."""
    from safetensors.torch import save_file

    (folder / "model.safetensors").unlink()
    index, names = {}, list(weights)
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        part = {key: weights[key] for key in names[shard::SHARDS]}
        save_file(part, folder / name, {"format": "pt"})
        index |= dict.fromkeys(part, name)
    content = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(content, encoding="utf-8")


def size_of(path: Path) -> int:
    """Bytes of the weights."""
    files = [path] if path.is_file() else path.glob("*.safetensors")
    return sum(file.stat().st_size for file in files)


def load(way: str, path: str) -> Any:
    """Loads a model in one of WAYS."""
    import transformers

    import vlm

    if way == "usual":
        return transformers.Qwen3VLForConditionalGeneration.from_pretrained(path, dtype="auto")
    return vlm.load(path, dtype="float16" if way == "float16" else "auto")


def encode_here(way: str, path: str) -> None:
    """Encodes in this process and prints what it took, as JSON."""
    import vlm
    from vlm.running.backbone import TEXT, VISION

    model = vlm.load(path, prefix_cache_mb=0)
    picture = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    model.encode(WORDS, picture[:, :64, :64], depth=-1)  # libraries keep something of the first run
    states = model.encode(WORDS, picture)
    prompt = states.prompt
    run = (lambda: states.reach(-1)) if way == ENCODE else forward(path, prompt)
    peak = Peak()
    with peak.watched():
        kept = run()
    counts = (len(prompt.ids), prompt.vision_inputs[0].num_patches)
    estimate = max(model.backbone.run_bytes(part, *counts) for part in (TEXT, VISION))
    layer = len(prompt.ids) * states.width * states.dtype.itemsize
    held = layer * (states.num_layers + 1)  # the last one also after the norm
    print(json.dumps({"rise": peak.rise, "estimate": estimate + held, "kept": str(type(kept))}))


def forward(path: str, prompt: Any) -> Any:
    """transformers' own forward of the same ids and pixels, warmed up."""
    from transformers import Qwen3VLForConditionalGeneration

    usual = Qwen3VLForConditionalGeneration.from_pretrained(path, dtype="auto").eval()
    patches = prompt.vision_inputs[0].patches()
    ids = torch.tensor([prompt.ids])
    marks = torch.tensor([[int(role == "image") for role in prompt.token_map["role"]]])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": patches.pixels.to(usual.dtype),
        "image_grid_thw": torch.tensor([patches.grid]),
        "output_hidden_states": True,
    }
    if "mm_token_type_ids" in inspect.signature(usual.forward).parameters:
        inputs["mm_token_type_ids"] = marks

    def run() -> Any:
        with torch.no_grad():
            return usual(**inputs)

    words = {"input_ids": ids[:, -8:], "attention_mask": torch.ones(1, 8, dtype=torch.long)}
    with torch.no_grad():
        usual(**words)
    return run


def measure_here(way: str, path: str) -> None:
    """Loads in this process and prints what it took, as JSON."""
    import transformers

    import vlm

    transformers.utils.logging.disable_progress_bar()
    if way in (ENCODE, FORWARD):
        return encode_here(way, path)
    vlm.load("tiny", layers=2)
    peak = Peak()
    began = time.perf_counter()
    with peak.watched():
        model = load(way, path)
    seconds = time.perf_counter() - began
    parameters = (model.backbone if hasattr(model, "backbone") else model).parameters()
    count = sum(weight.numel() for weight in parameters)
    facts = {"baseline": peak.baseline, "rise": peak.rise, "seconds": seconds, "count": count}
    print(json.dumps(facts))


def measure(way: str, path: Path) -> dict[str, float]:
    """`measure_here` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", way, str(path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"loading the {way} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def middle(way: str, path: Path) -> dict[str, float]:
    """The run of ROUNDS with the median rise: what the allocator keeps back varies by a fifth."""
    runs = (measure(way, path) for _ in range(ROUNDS))
    return sorted(runs, key=lambda run: run["rise"])[ROUNDS // 2]


def encoding(folder: Path) -> list[table.Row]:
    """Rows of the peak while encoding."""
    ours, usual = (middle(way, folder) for way in (ENCODE, FORWARD))
    table.say(
        f"encoding: {ours['rise'] / MB:.0f} MB, transformers' forward {usual['rise'] / MB:.0f} MB, "
        f"estimated {ours['estimate'] / MB:.0f} MB with the layers held"
    )
    return [
        table.Row("encoding, all layers held", ours["rise"] / usual["rise"], 1.0, "of the usual"),
        table.Row("encoding", ours["rise"] / ours["estimate"], 1.0, "of the estimate"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    parser = table.parser(__doc__)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "PATH"), help="used by itself")
    options = parser.parse_args(arguments)
    if options.measure:
        measure_here(*options.measure)
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as place:
        table.say("writing the models")
        models = write_models(Path(place))
        for way, path in models.items():
            name, limit = WAYS[way]
            found, size = measure(way, path), size_of(path)
            table.say(
                f"{name}: {found['rise'] / MB:.0f} MB over {found['baseline'] / MB:.0f} MB, for "
                f"{size / MB:.0f} MB on disk ({found['count'] / 1e6:.0f} M parameters), "
                f"{found['seconds']:.1f} s"
            )
            rows.append(table.Row(name, found["rise"] / size, limit, "of the file"))
        rows += encoding(models["folder"])
    return table.finish(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
