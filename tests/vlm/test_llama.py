"""What only Llama 3 does: its headers, date, first token, stop tokens and scaled positions."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import vlm

LAYERS = 3
DATE = "26 Jul 2024"
BEFORE = "Cutting Knowledge Date: December 2023\nToday Date: "


@pytest.fixture
def llama(tiny):
    return tiny("llama", LAYERS)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder("llama", LAYERS), tmp_path / "llama")


def said(model, states, role):
    columns = zip(states.prompt.ids, states.token_map["role"], strict=True)
    return model.tokenizer.text_of([number for number, one in columns if one == role])


def test_the_prompt_as_the_model_reads_it(llama):
    h = llama.encode("a house", system="You paint.")
    assert llama.tokenizer.text_of(list(h.prompt.ids)) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        f"{BEFORE}{DATE}\n\nYou paint.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\na house<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_the_first_token_comes_once(llama):
    h = llama.encode("a house")
    first = llama.tokenizer.id_of("<|begin_of_text|>")
    assert h.prompt.ids[0] == first and h.prompt.ids.count(first) == 1


def test_what_the_template_says_by_itself_is_system_text(llama):
    h = llama.encode("a house")
    assert said(llama, h, "system").strip() == BEFORE + DATE
    assert said(llama, h, "text") == "a house"
    roles = h.token_map["role"]
    first_turn = h.prompt.ids.index(llama.tokenizer.id_of("<|start_header_id|>"))
    assert roles[first_turn : first_turn + 3] == ["template"] * 3
    typed = llama.encode("a house", system="You paint.")
    assert said(llama, typed, "system").strip() == f"{BEFORE}{DATE}\n\nYou paint."


def test_the_same_prompt_has_the_same_tokens_every_day(llama, folder):
    """The template of Llama 3.2 and 3.3 asks for today's date where none is given."""
    template = llama.family.chat_template
    assert "strftime_now" in template
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "a house"}]
    today = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert DATE not in today
    assert DATE in llama.tokenizer.text_of(list(llama.encode("a house").prompt.ids))


def test_llama_3_without_a_system_turn(folder):
    """The template of Llama 3 (8B, 70B) writes none unless it is given one."""
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["chat_template"] = (
        "{% for message in messages %}{{ bos_token if loop.first }}"
        "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}"
        "{{ message.content | trim + '<|eot_id|>' }}{% endfor %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    )
    file.write_text(json.dumps(settings))
    model = vlm.load(folder, dtype="float32")
    h = model.encode("a house")
    assert "system" not in h.token_map["role"]
    h = model.encode("a house", system="You paint.")
    assert said(model, h, "system") == "You paint."


@pytest.mark.parametrize("stop", ["<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"])
def test_each_stop_token_ends_an_answer(llama, monkeypatch, stop):
    from vlm.running.sampling import Sampling

    numbers = iter([*llama.tokenizer.split("a red house")[0], llama.tokenizer.id_of(stop)])
    monkeypatch.setattr(Sampling, "choose", lambda self, logits, generator: next(numbers))
    found = llama.rewrite("a house", max_tokens=20)
    assert found.finished and found.text == "a red house"


def test_positions_are_scaled_as_config_json_says(llama, folder, err):
    """The toy prompts are short, but scaling changes the low frequencies at any length."""
    want = llama.encode("a red house").layer(-1)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    del config["rope_scaling"]
    file.write_text(json.dumps(config))
    model = vlm.load(folder, dtype="float32")
    assert err(model.encode("a red house").layer(-1), want) > 1e-5


@pytest.mark.parametrize("tied", [True, False])
def test_heads_tied_and_untied(folder, tied):
    """1B and 3B write with their embeddings, the larger ones have an LM head."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"tie_word_embeddings": tied}
    file.write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    if not tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0).contiguous()
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = vlm.load(folder, dtype="float32")
    prompt = model.encode("a house", system="")
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        ids = torch.tensor([prompt.prompt.ids])
        out = theirs.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :].tolist()
    found = model.rewrite("a house", system="", max_tokens=6, temperature=0)
    stops = model.tokenizer.find(*model.family.stop_tokens)
    want = [number for number in out if number not in stops]
    assert list(found.states.prompt.ids[len(prompt.prompt.ids) :]) == want


def test_a_template_of_qwens_turns_is_refused(llama):
    with pytest.raises(ValueError, match=r"Llama 3 has no <\|im_start\|>\. Set template to chat"):
        llama.encode("a house", target="z-image")
    assert llama.encode("a house", target="z-image", template="chat").layer(-2).isfinite().all()


@pytest.mark.parametrize("text", ["\na house", "a house \n", " \t", "\n"])
@pytest.mark.parametrize("system", [None, "\n You paint. "])
def test_blank_ends_are_what_its_template_leaves(llama, folder, text, system):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": text}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    want = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, date_string=DATE
    )
    h = llama.encode(text, system=system)
    assert list(h.prompt.ids) == want
    assert said(llama, h, "text") == text.strip()


def test_what_is_dropped_of_its_own_layout(llama):
    """Krea 2 sees nothing before the user's words."""
    h = llama.encode("a house", target="krea2", template="chat", system="You paint.")
    rest = llama.tokenizer.text_of(list(h.prompt.ids[h.dropped :]))
    assert rest == "a house<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


# --- a Llama with the turns of another family, as SmolLM2 and many others are


@pytest.fixture
def chatml(folder, tiny_folder):
    """The weights of the toy Llama with the tokenizer of the toy Qwen3."""
    qwen = tiny_folder("qwen3", LAYERS)
    rows = json.loads((qwen / "config.json").read_text())["vocab_size"]
    weights = load_file(folder / "model.safetensors")
    name = "model.embed_tokens.weight"
    weights[name] = weights[name].repeat(2, 1)[:rows].contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": rows}))
    return vlm.load(folder, dtype="float32", tokenizer=qwen)


def test_turns_are_those_of_the_tokenizer(chatml):
    h = chatml.encode("a house", target="krea2", template="chat", system="You paint.")
    assert chatml.tokenizer.text_of(list(h.prompt.ids)) == (
        "<|im_start|>system\nYou paint.<|im_end|>\n<|im_start|>user\na house<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert said(chatml, h, "system") == "You paint." and said(chatml, h, "text") == "a house"
    rest = chatml.tokenizer.text_of(list(h.prompt.ids[h.dropped :]))
    assert rest == "a house<|im_end|>\n<|im_start|>assistant\n"
    assert chatml.encode("a house", target="z-image").layer(-2).isfinite().all()


def test_padding_is_that_of_the_tokenizer(chatml):
    """Its pad token is none of Llama 3's."""
    h = chatml.encode("a house", target="flux2-klein-4b")
    assert len(h.prompt.ids) == 512 and "<|endoftext|>" in chatml.tokenizer.text_of(h.prompt.ids)


def test_it_stops_at_the_end_that_the_tokenizer_names(chatml, monkeypatch):
    from vlm.running.sampling import Sampling

    end = chatml.tokenizer.id_of("<|im_end|>")
    assert end not in chatml.tokenizer.find(*chatml.family.stop_tokens)
    numbers = iter([*chatml.tokenizer.split("a red house")[0], end])
    monkeypatch.setattr(Sampling, "choose", lambda self, logits, generator: next(numbers))
    found = chatml.rewrite("a house", max_tokens=20)
    assert found.finished and found.text == "a red house"
