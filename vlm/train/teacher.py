"""The target's own text encoder: a language model, or FLUX.1's T5 and CLIP."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from ..load import DTYPES, load
from ..model import VLM
from ..quoted import reason
from ..running.disk_cache import DiskCache
from ..targets import TARGETS
from ..tokens.seen import seen_by_target
from ..tokens.select import select_layers
from .features_loss import TextStates, kinds_of
from .reader import spans_of
from .recipe import TrainRecipe

TINY, TINY_LAYERS = "tiny", 4
T5_TOKENS = 512  # FLUX.1 [dev]'s own length, as diffusers' pipeline pads to


class Teacher(Protocol):
    """A frozen text encoder.

    Attributes:
        name: Of the model.
        width: D of its states.
        pooled: P of its pooled vector, 0 = none.
        modules: With its weights.
    """

    name: str
    width: int
    pooled: int
    modules: tuple[torch.nn.Module, ...]

    def __call__(self, caption: str) -> TextStates:
        """Encodes a caption as the target's pipeline does."""
        ...


class LanguageModel:
    """A text encoder that this pack runs, such as Z-Image's Qwen3-4B; see `Teacher`."""

    pooled = 0

    def __init__(self, model: VLM, target: str):
        """Takes a model whose prefix cache is off, and the target it encodes for."""
        self._model, self._target = model, target
        self.name = model.name
        count = len(TARGETS[target].layers or ()) if TARGETS[target].combine == "concat" else 1
        self.width = count * model.backbone.width
        self.modules = (model.backbone.text,)

    def __call__(self, caption: str) -> TextStates:
        """Encodes a caption with the target's template and layers."""
        h = self._model.encode(caption, target=self._target, keep_mb=0)
        states = select_layers(h).states[0].float()
        roles = seen_by_target(h).token_map["role"]
        real = torch.tensor([role != "pad" for role in roles], device=states.device)
        ids = h.prompt.ids[h.dropped :]
        return TextStates(states, kinds_of(states, real), ids, spans_of(self._model, h, caption))


class Flux1Encoders:
    """FLUX.1's T5 and CLIP out of a diffusers pipeline; see `Teacher`.

    Source: diffusers, FluxPipeline: T5's last states, padded on the right to 512 tokens and
    without a mask; CLIP's pooled output of 77 tokens.
    """

    def __init__(
        self, folder: Path, device: torch.device, dtype: torch.dtype | None, cache: DiskCache | None
    ):
        """Loads `tokenizer`, `text_encoder`, `tokenizer_2` and `text_encoder_2` of a folder.

        Raises:
            FileNotFoundError: One of them is missing.
            ValueError: One cannot be read.
        """
        self.name, self._device, self._cache = folder.name, device, cache
        parts = _load_flux1(folder, dtype)
        self._tokenizers = parts["tokenizer"], parts["tokenizer_2"]
        self._clip = parts["text_encoder"].to(device).eval().requires_grad_(False)
        self._t5 = parts["text_encoder_2"].to(device).eval().requires_grad_(False)
        self.width, self.pooled = self._t5.config.d_model, self._clip.config.hidden_size
        self.modules = self._t5, self._clip
        self._made_from = _digest_of(folder, self._t5.dtype, device)

    @torch.no_grad()
    def __call__(self, caption: str) -> TextStates:
        """Encodes a caption."""
        short, long = self._tokenizers
        words = long(
            caption,
            padding="max_length",
            max_length=T5_TOKENS,
            truncation=True,
            return_offsets_mapping=True,
        )
        key = hashlib.sha256(f"{self._made_from}\n{caption}".encode()).hexdigest()
        found = None if self._cache is None else self._cache.get(key)
        if found is None:
            found = self._run(short, words["input_ids"], caption)
            if self._cache is not None:
                self._cache.put(key, found)
        states = found["states"].to(self._device).float()
        real = torch.tensor(words["attention_mask"], device=self._device).bool()
        spans = tuple(tuple(span) for span in words["offset_mapping"])
        pooled = found["pooled"].to(self._device).float()
        return TextStates(states, kinds_of(states, real), tuple(words["input_ids"]), spans, pooled)

    def _run(self, short: Any, ids: list[int], caption: str) -> dict[str, torch.Tensor]:
        states = self._t5(torch.tensor([ids], device=self._device)).last_hidden_state[0]
        longest = self._clip.config.max_position_embeddings
        clip_ids = short(
            caption, padding="max_length", max_length=longest, truncation=True, return_tensors="pt"
        ).input_ids
        pooled = self._clip(clip_ids.to(self._device)).pooler_output[0]
        return {"states": states, "pooled": pooled}


def load_teacher(
    recipe: TrainRecipe, device: torch.device, cache: DiskCache | None
) -> LanguageModel | Flux1Encoders:
    """Loads the target's own text encoder.

    Args:
        recipe: Names its folder and the target.
        device: Where it runs.
        cache: Keeps what it makes of captions; None = nothing is kept.

    Raises:
        FileNotFoundError: No such folder, or one that lacks a part.
        ValueError: A model that cannot be read, or of another width than the target reads.
    """
    target = TARGETS[recipe.target]
    if recipe.teacher == TINY:
        tiny = load(
            TINY, device, family="qwen3", layers=TINY_LAYERS, prefix_cache_mb=0, disk_cache=cache
        )
        return LanguageModel(tiny, recipe.target)
    folder = Path(recipe.teacher)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} (teacher). Name a text encoder's.")
    teacher: LanguageModel | Flux1Encoders
    if target.pooled:
        teacher = Flux1Encoders(folder, device, DTYPES.get(recipe.vlm_dtype), cache)
    else:
        inside = folder / "text_encoder"
        place = inside if inside.is_dir() else folder
        model = load(place, device, recipe.vlm_dtype, prefix_cache_mb=0, disk_cache=cache)
        teacher = LanguageModel(model, recipe.target)
    if target.width not in (None, teacher.width):
        raise ValueError(
            f"{teacher.name} gives {teacher.width} dimensions, {target.title} reads "
            f"{target.width}. Name {target.encoder} as the teacher."
        )
    return teacher


def _load_flux1(folder: Path, dtype: torch.dtype | None) -> Mapping[str, Any]:
    """The four parts by the names of their folders."""
    from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

    classes = {
        "tokenizer": AutoTokenizer,
        "tokenizer_2": AutoTokenizer,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": T5EncoderModel,
    }
    missing = [name for name in classes if not (folder / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}. Name the folder of a whole FLUX.1 pipeline as "
            "diffusers saves it (teacher)."
        )
    parts = {}
    for name, kind in classes.items():
        more = {} if name.startswith("tokenizer") else {"dtype": dtype or "auto"}
        try:
            parts[name] = kind.from_pretrained(
                str(folder / name), local_files_only=True, trust_remote_code=False, **more
            )
        except Exception as error:  # what a damaged part ends in depends on the part
            raise ValueError(
                f"{name} in {folder} cannot be read ({reason(error)}). Download that part again."
            ) from error
    return parts


def _digest_of(folder: Path, dtype: torch.dtype, device: torch.device) -> str:
    """What decides the numbers: names, sizes and times of the files, dtype and device."""
    facts = [str(dtype), device.type, torch.__version__]
    for file in sorted(folder.glob("t*encoder*/*")):
        state = file.stat()
        facts.append(f"{file.relative_to(folder)} {state.st_size} {state.st_mtime_ns}")
    return "\n".join(facts)
