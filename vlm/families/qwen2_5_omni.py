"""Qwen2.5-Omni's thinker: Qwen2.5-VL's decoder, with a vision tower and one for sounds.

The voice (talker, token2wav) is neither read nor loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..pictures.preprocessor import read_patch_preprocessor
from ..sounds.preprocessor import read_sound_preprocessor
from . import chat_templates, qwen_vision
from .decoder import Decoder
from .family import AudioAdapter, Family, VisionAdapter, VisionFeatures

if TYPE_CHECKING:
    from ..sounds.preprocessor import SoundInput

PART, TYPE = "thinker_config", "qwen2_5_omni_thinker"
IMAGE, VIDEO, AUDIO = "<|IMAGE|>", "<|VIDEO|>", "<|AUDIO|>"
START, END = "<|vision_bos|>", "<|vision_eos|>"
AUDIO_START, AUDIO_END = "<|audio_bos|>", "<|audio_eos|>"


class Thinker(torch.nn.Module):
    """The parts of transformers' thinker by the names that its newer versions have.

    Attributes:
        language_model: The decoder.
        visual: The vision tower.
        audio_tower: The audio tower.
        config: Of the thinker.
    """

    def __init__(self, whole: Any):
        """Takes the parts of a `Qwen2_5OmniThinkerForConditionalGeneration`."""
        super().__init__()
        # Up to 5.20 `model` is the decoder, and the towers stand beside it.
        inner = whole.model
        towers = inner if hasattr(inner, "audio_tower") else whole
        self.language_model = getattr(inner, "language_model", inner)
        self.visual = towers.visual
        self.audio_tower = towers.audio_tower
        self.config = whole.config


def time_step(seconds: float, thinker_config: Any) -> float:
    """Temporal positions a grid step takes: seconds times the config's positions per second."""
    return seconds * thinker_config.position_id_per_seconds


def vision_features(model: Any, pixels: torch.Tensor, grid: tuple[int, ...]) -> VisionFeatures:
    """Runs the vision tower on one picture or video."""
    output = model.visual(pixels, grid_thw=torch.tensor([grid], device=pixels.device))
    return getattr(output, "pooler_output", output), []


def audio_features(model: Any, spectrum: torch.Tensor) -> torch.Tensor:
    """Runs the audio tower on one sound."""
    frames = torch.tensor([spectrum.shape[1]], device=spectrum.device)
    halved = (frames - 1) // 2 + 1
    return model.audio_tower(spectrum, feature_lens=frames, aftercnn_lens=halved).last_hidden_state


def film_step(thinker_config: Any) -> int:
    """Tokens of a stretch of a video's sound."""
    return int(thinker_config.position_id_per_seconds * thinker_config.seconds_per_chunk)


def sound_inputs(sounds: Sequence[SoundInput]) -> dict[str, torch.Tensor]:
    """What `forward` takes of sounds; see `AudioAdapter.forward_inputs`."""
    if not sounds:
        return {}
    spectra = [sound.spectrum() for sound in sounds]
    longest = max(one.shape[1] for one in spectra)
    padded = [torch.nn.functional.pad(one, (0, longest - one.shape[1])) for one in spectra]
    steps = torch.arange(longest)
    there = torch.stack([(steps < one.shape[1]).long() for one in spectra])
    return {"input_features": torch.stack(padded), "feature_attention_mask": there}


FAMILY = Family(
    title="Qwen2.5-Omni",
    model_type="qwen2_5_omni",
    architecture="Qwen2_5OmniThinkerForConditionalGeneration",
    chat_template=chat_templates.QWEN2_5_OMNI,
    decoder=Decoder(mrope=True),
    vision=VisionAdapter(
        ("visual",),
        vision_features,
        read_patch_preprocessor,
        qwen_vision.use_patch_embed,
        video_time_step=time_step,
        settings=lambda config: config,
        start=START,
        end=END,
        image_token=IMAGE,
        video_token=VIDEO,
        frame_token=VIDEO,
    ),
    audio=AudioAdapter(
        ("audio_tower",),
        audio_features,
        read_sound_preprocessor,
        sound_inputs,
        film_step,
        token=AUDIO,
        start=AUDIO_START,
        end=AUDIO_END,
    ),
    inside=(PART, TYPE),
    base_model=Thinker,
    prefixes=(
        ("thinker.model.", "language_model."),
        ("thinker.visual.", "visual."),
        ("thinker.audio_tower.", "audio_tower."),
    ),
)
