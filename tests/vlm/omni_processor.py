"""Qwen2.5-Omni's own processor, without torchvision."""

import json

import transformers
from hugging_face import pil_processor

RATE = 16000


class Processor:
    """The family's own processor, and its class fed with what it makes."""

    def __init__(self, folder):
        auto = transformers
        tokenizer = auto.AutoTokenizer.from_pretrained(str(folder))
        config = json.loads((folder / "preprocessor_config.json").read_text())
        bounds = {name: config[name] for name in ("min_pixels", "max_pixels")}
        hearing = auto.WhisperFeatureExtractor.from_pretrained(str(folder))
        # It insists on a video processor, which needs torchvision.
        skip = {"check_argument_for_proper_class": lambda self, name, value: None}
        kind = type("Qwen2_5OmniProcessor", (auto.Qwen2_5OmniProcessor,), skip)
        images = pil_processor(folder, **bounds)
        self.processor = kind(
            images, None, hearing, tokenizer, chat_template=tokenizer.chat_template
        )

    def inputs(self, messages, pictures=(), sounds=()):
        """What it makes of messages, as tensors."""
        text = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        given = {"images": list(pictures)} if pictures else {}
        given |= {"audio": list(sounds), "sampling_rate": RATE} if sounds else {}
        return dict(self.processor(text=[text], **given, return_tensors="pt", padding=True))
