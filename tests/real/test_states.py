"""Every layer of trained models is what transformers computes."""

import pytest
import torch

WORDS = {
    "short": "A red house by the river, two cats (one of them black) and 3 lamps.",
    "blank ends": " \n A red house\tby the river. \n",
    "letters": "Ein rotes Haus, une maison rouge, 一只红色的猫, 🎨",
    # Longer than Gemma's window of 512 tokens.
    "long": " ".join(
        f"The house number {n} stands by the river and has {n} lamps." for n in range(42)
    ),
}


@pytest.mark.parametrize("words", WORDS)
def test_every_layer(pair, words):
    """Bit for bit in bfloat16, where the same kernels see the same shapes."""
    h = pair.ours.encode(WORDS[words], template=pair.template)
    theirs = pair.streams(h.prompt.ids)
    assert len(theirs) == h.num_layers
    for layer, want in enumerate(theirs):
        found = h.layer(layer)
        assert found.dtype == want.dtype == pair.dtype
        if pair.dtype == torch.bfloat16:
            assert torch.equal(found, want), layer
        else:
            assert (found - want).abs().max() <= 1e-5 * want.abs().max(), layer


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("system", [None, "You paint.\n"])
def test_the_prompt_is_its_own_chat_template(smollm2, words, system):
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": WORDS[words]})
    want = smollm2.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    h = smollm2.ours.encode(WORDS[words], system=system)
    assert list(h.prompt.ids) == want


@pytest.mark.parametrize("words", WORDS)
def test_raw_is_what_the_tokenizer_makes_of_the_text(pair, words):
    h = pair.ours.encode(WORDS[words], template="raw")
    assert list(h.prompt.ids) == pair.tokenizer(WORDS[words])["input_ids"]


def test_turns_are_read_from_its_chat_template(smollm2):
    """A Llama whose turns are not Llama 3's."""
    model = smollm2.ours

    def said(states, *roles):
        columns = zip(states.prompt.ids, states.token_map["role"], strict=True)
        return model.tokenizer.text_of([token for token, role in columns if role in roles])

    h = model.encode("a house", target="krea2", template="chat")
    assert said(h, "system") == (
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    )
    assert said(h, "text") == "a house"
    rest = model.tokenizer.text_of(list(h.prompt.ids[h.dropped :]))
    assert rest == "a house<|im_end|>\n<|im_start|>assistant\n"
    written = model.encode("a house", target="z-image")
    assert said(written, "template") == "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"


def test_a_model_without_a_chat_template_says_so(gemma3):
    for call in (gemma3.ours.encode, gemma3.ours.rewrite):
        with pytest.raises(ValueError, match="has no chat template.*Set template to raw"):
            call("a house")
