"""Qwen2-VL: M-RoPE whose temporal position counts frames; CLIP's pixel statistics, patch 14."""

from ..pictures.preprocessor import read_patch_preprocessor
from . import chat_templates, qwen_vision
from .decoder import Decoder
from .family import Family, SingleFileDefaults, VisionAdapter

# What the language models of Qwen2-VL and Qwen2.5-VL have in common, in config.json of
# Qwen/Qwen2-VL-2B, -7B and -72B-Instruct and Qwen/Qwen2.5-VL-3B, -7B, -32B and -72B-Instruct.
TEXT = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "use_sliding_window": False,
}
HEAD_DIM = 128
# preprocessor_config.json of all of them; the processor's own default allows fewer pixels.
PREPROCESSOR = {"min_pixels": 3136, "max_pixels": 12845056}

# Source: config.json of Qwen/Qwen2-VL-2B-, 7B- and 72B-Instruct.
SINGLE_FILE = SingleFileDefaults(
    sizes={1536: ("2B", 28), 3584: ("7B", 28), 8192: ("72B", 80)},
    text=TEXT | {"max_position_embeddings": 32768},
    text_nested=False,
    head_dim=HEAD_DIM,
    vision={"num_heads": 16, "spatial_merge_size": 2, "hidden_act": "quick_gelu"},
    towers={1280: {"depth": 32}},
    preprocessor=PREPROCESSOR,
)

FAMILY = Family(
    title="Qwen2-VL",
    model_type="qwen2_vl",
    architecture="Qwen2VLForConditionalGeneration",
    chat_template=chat_templates.QWEN2,
    decoder=Decoder(mrope=True),
    vision=VisionAdapter(
        ("visual",),
        qwen_vision.vision_features,
        read_patch_preprocessor,
        qwen_vision.use_patch_embed,
    ),
    single_file=SINGLE_FILE,
)
