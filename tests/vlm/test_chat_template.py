"""What chat templates of several makes are found to write, by rendering them."""

import re

import pytest
import transformers

from vlm.prompts.chat_template import SYSTEM_SLOT, Chat, ChatTemplate, Turns, say, text_slot

PROMPT = "{% if add_generation_prompt %}"
LOOP = "{% for m in messages %}"
CHATML = (
    LOOP + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + PROMPT
    + "<|im_start|>assistant\n{% endif %}"
)  # fmt: skip
DEFAULT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
)
HEADERS = (
    LOOP + "{{ '<|begin|>' if loop.first }}<|head|>{{ m.role }}<|end_head|>\n\n"
    "{{ m.content | trim }}<|eot|>{% endfor %}<|head|>assistant<|end_head|>\n\n"
)
INST = (
    "<s>" + LOOP + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
CAPITALS = (
    LOOP + "{{ m.role | capitalize }}: {{ m.content }}<end>\n{% endfor %}"
    + PROMPT + "Assistant:{% endif %}"
)  # fmt: skip
SHOUTED = (
    LOOP + "{% if m.role == 'user' %}USER: {{ m.content }} {% elif m.role == 'system' %}"
    "{{ m.content }} {% else %}ASSISTANT: {{ m.content }}</s>{% endif %}{% endfor %}"
    + PROMPT + "ASSISTANT:{% endif %}"
)  # fmt: skip
SINGLE = (
    "{% if messages | length > 2 %}{{ raise_exception('one question') }}{% endif %}"
    "<user>{{ messages[-1].content }}<model>"
)
FOUND = {
    "chatml": (CHATML, Turns("<|im_start|>user\n", "<|im_start|>system\n")),
    "chatml with a system turn of its own": (
        DEFAULT + CHATML,
        Turns("<|im_start|>user\n", "<|im_start|>system\n"),
    ),
    "headers, and always the answer's": (
        HEADERS,
        Turns("<|head|>user<|end_head|>\n\n", "<|head|>system<|end_head|>\n\n"),
    ),
    "brackets": (INST, Turns("[INST] ")),
    "capitals": (CAPITALS, Turns("User: ", "System: ")),
    "shouted": (SHOUTED, Turns("USER: ", "SYSTEM: ")),
    "one question": (SINGLE, Turns()),
}


def asked(text, system="", plain=False):
    """A chat of one question."""
    return Chat((say("user", text),), system, plain=plain)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A tokenizer that has the special tokens of all of them."""
    from vlm.tiny.folder import write_tiny

    folder = write_tiny(tmp_path_factory.mktemp("tokenizer") / "tiny", "qwen3", layers=1)
    known = transformers.AutoTokenizer.from_pretrained(folder)
    marks = sorted(
        {mark for template, _ in FOUND.values() for mark in re.findall("<.*?>", template)}
    )
    known.add_special_tokens({"additional_special_tokens": marks})
    return known


@pytest.mark.parametrize("name", FOUND)
def test_how_turns_begin(tokenizer, name):
    template, turns = FOUND[name]
    written = ChatTemplate(tokenizer, template).write(asked("a house", plain=True))
    assert written.turns == turns
    assert turns.user in written.layout


@pytest.mark.parametrize("text", ["a", " a", "a\n", "\n a\t ", " ", "\n"])
@pytest.mark.parametrize("system", ["", "b", " b\n", "\n"])
@pytest.mark.parametrize(
    "cut", ["", " | trim", ".lstrip()", ".rstrip('\\n')"], ids=["kept", "both", "left", "right"]
)
def test_ends_are_what_the_template_leaves(tokenizer, text, system, cut):
    template = CHATML.replace("m.content }}", f"m.content{cut} }}}}")
    written = ChatTemplate(tokenizer, template).write(asked(text, system, plain=True))
    whole = written.layout.replace(text_slot(0), *written.words)
    whole = whole.replace(SYSTEM_SLOT, written.system)
    messages = [{"role": "system", "content": system}] * bool(system)
    messages += [{"role": "user", "content": text}]
    assert whole == tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True
    )


def test_none_and_one_that_fails(tokenizer):
    assert not ChatTemplate(tokenizer, None) and ChatTemplate(tokenizer, CHATML)
    with pytest.raises(ValueError, match="has no chat template.*Set template to raw"):
        ChatTemplate(tokenizer, None).write(asked("a"))
    with pytest.raises(ValueError, match=r"cannot be used \(.*no\)"):
        ChatTemplate(tokenizer, "{{ raise_exception('no') }}").write(asked("a"))
    with pytest.raises(ValueError, match="leaves the text out"):
        ChatTemplate(tokenizer, "hello").write(asked("a"))
    with pytest.raises(ValueError, match="leaves the text out"):
        ChatTemplate(tokenizer, "{{ messages[-1].content }}").write(asked("a", "b", plain=True))
