"""Tokenizers: how they are read, what stands behind them, and their chat templates."""

import pytest
from jinja2 import TemplateError
from transformers import AddedToken, AutoTokenizer

pytestmark = pytest.mark.relies("vlm/prompts/tokenizer.py", "vlm/prompts/chat_template.py")
TEXT = "A red house\nby the river, 一只红色的猫, 🎨"


def user(one, text=TEXT):
    """A turn, with its text as the family's template takes it."""
    return [{"role": "user", "content": [{"type": "text", "text": text}]
             if one.family.has_vision else text}]  # fmt: skip


def test_a_backend_in_rust_stands_behind_it(one):
    backend = one.tokenizer.backend_tokenizer
    encoding = backend.encode(TEXT, add_special_tokens=False)
    assert encoding.ids == one.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert len(encoding.offsets) == len(encoding.ids)
    assert all(0 <= start <= end <= len(TEXT) for start, end in encoding.offsets)
    assert backend.decode(encoding.ids, skip_special_tokens=False) == TEXT
    assert max(backend.get_vocab(with_added_tokens=True).values()) == len(one.tokenizer) - 1


def test_added_tokens_are_listed_with_their_ids(one):
    known = one.tokenizer.get_added_vocab()
    decoder = one.tokenizer.added_tokens_decoder
    assert {str(token): number for number, token in decoder.items()} == known
    assert {type(token.special) for token in decoder.values()} == {bool}
    assert all(one.tokenizer.backend_tokenizer.token_to_id(t) == n for t, n in known.items())
    assert set(one.family.stop_tokens) & set(known)
    if one.family.has_vision:
        vision = one.family.vision
        assert {vision.image_token, vision.start, vision.end} - {""} <= set(known)


def test_what_it_puts_around_a_text_is_marked(one):
    encoding = one.tokenizer.backend_tokenizer.encode("a", add_special_tokens=True)
    assert len(encoding.tokens) == len(encoding.special_tokens_mask) == len(encoding.ids)
    pairs = zip(encoding.tokens, encoding.special_tokens_mask, strict=True)
    begins = [token for token, put in pairs if put]
    assert set(begins) <= set(one.tokenizer.get_added_vocab())


def test_it_names_the_tokens_that_end_and_pad_a_text(one):
    known = one.tokenizer.get_added_vocab()
    assert one.tokenizer.eos_token in known
    assert one.tokenizer.pad_token is None or one.tokenizer.pad_token in known


def test_special_tokens_in_a_text_can_be_left_unparsed(one):
    """Typed text never becomes a special token; a tokenizer of its own, for it is changed."""
    tokenizer = AutoTokenizer.from_pretrained(str(one.folder), local_files_only=True)
    backend, turn = tokenizer.backend_tokenizer, tokenizer.eos_token
    number = backend.token_to_id(turn)
    assert backend.encode(turn, add_special_tokens=False).ids == [number]
    backend.add_special_tokens([AddedToken(turn, special=True, normalized=False)])
    backend.encode_special_tokens = True
    forged = backend.encode(turn, add_special_tokens=False).ids
    assert number not in forged and backend.decode(forged, skip_special_tokens=False) == turn
    assert backend.token_to_id(turn) == number


def test_the_chat_template_comes_with_it_and_can_be_another(one):
    assert one.tokenizer.chat_template == one.family.chat_template
    said = one.tokenizer.apply_chat_template(
        user(one), chat_template="{{ messages[0].role }}!", tokenize=False
    )
    assert said == "user!"


def test_a_rendered_chat_is_a_text_with_the_words_in_it(one):
    settings = {"add_generation_prompt": True, "add_vision_id": False, **one.family.chat_settings}
    open_end = one.tokenizer.apply_chat_template(user(one), tokenize=False, **settings)
    assert isinstance(open_end, str) and TEXT in open_end
    assert any(token in open_end for token in one.tokenizer.get_added_vocab())
    settings["add_generation_prompt"] = False
    closed = one.tokenizer.apply_chat_template(user(one), tokenize=False, **settings)
    assert open_end.startswith(closed) and len(open_end) > len(closed)


def test_settings_reach_the_template(one):
    said = one.tokenizer.apply_chat_template(
        user(one), chat_template="{{ add_vision_id }} {{ mine }}", tokenize=False,
        add_vision_id=True, mine="here",
    )  # fmt: skip
    assert said == "True here"


@pytest.mark.parametrize("template", ["{% if %}", "{{ raise_exception('no') }}", "{{ a + 1 }}"])
def test_a_broken_template_is_an_error_that_we_know(made, template):
    with pytest.raises((TemplateError, TypeError)):
        made("qwen3").tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}], chat_template=template, tokenize=False
        )


def test_a_folder_without_a_tokenizer_is_an_error_that_we_know(tmp_path):
    with pytest.raises((OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)):
        AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
