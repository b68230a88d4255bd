"""A toy FLUX.1 as diffusers saves it: real classes, random weights, small tokenizers."""

from pathlib import Path

import torch
from captions_of_toys import captions
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)


def write_encoders(folder):
    """`tokenizer`, `text_encoder` (CLIP, 768 wide), `tokenizer_2`, `text_encoder_2` (T5, 4096)."""
    torch.manual_seed(0)
    folder = Path(folder)
    long = _tokenizer(models.Unigram(), trainers.UnigramTrainer, ["<pad>", "</s>", "<unk>"])
    long.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    _save(long, folder / "tokenizer_2", pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    short = _tokenizer(models.BPE(unk_token="<unk>"), trainers.BpeTrainer, ["<unk>", "<|end|>"])
    short.post_processor = processors.TemplateProcessing(
        "$A <|end|>", special_tokens=[("<|end|>", 1)]
    )
    _save(short, folder / "tokenizer", pad_token="<|end|>", eos_token="<|end|>", unk_token="<unk>")
    clip = CLIPTextConfig(
        vocab_size=200, hidden_size=768, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=4, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    t5 = T5Config(vocab_size=200, d_model=4096, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    CLIPTextModel(clip).save_pretrained(folder / "text_encoder")
    T5EncoderModel(t5).save_pretrained(folder / "text_encoder_2")
    return folder


def _tokenizer(model, trainer, special):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    more = {"unk_token": "<unk>"} if trainer is trainers.UnigramTrainer else {}
    tokenizer.train_from_iterator(
        captions(120), trainer(vocab_size=150, special_tokens=special, show_progress=False, **more)
    )
    return tokenizer


def _save(tokenizer, folder, **tokens):
    longest = 77 if folder.name == "tokenizer" else 512
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **tokens)
    fast.save_pretrained(folder)
