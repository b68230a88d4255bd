"""Tokenizer files that are damaged in ways that still parse."""

import json
import shutil

import pytest

import vlm


@pytest.fixture
def changed(tiny_folder, tmp_path):
    """`changed(name, change)`: a toy folder in which a JSON file was changed in place."""

    def make(name, change):
        folder = shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "model")
        file = folder / name
        content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        change(content)
        file.write_text(json.dumps(content), encoding="utf-8")
        return folder

    return make


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held["model"].update(vocab={}, merges=[]) or held.update(added_tokens=[]),
        lambda held: held["model"].update(vocab={}),
        lambda held: held["model"].update(type="WordPiece"),
        lambda held: held.update(model=[1]),
        lambda held: held["model"]["vocab"].update(a=-1),
        lambda held: held.update(pre_tokenizer=5),
    ],
)
def test_no_words_and_words_of_another_kind(changed, change):
    with pytest.raises(ValueError) as caught:
        vlm.load(changed("tokenizer.json", change))
    said = str(caught.value)
    assert "okenizer" in said and said.endswith(".") and len(said) < 1000 and said.isprintable()


@pytest.mark.parametrize("value", [5, True, ["a"], {"default": 5}, "{{", "x" * 10**6])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.json"])
def test_chat_templates_of_another_kind(changed, file, value):
    """Refused when it is loaded or when it is used, or it says nothing and is as good as none."""
    try:
        model = vlm.load(changed(file, lambda held: held.update(chat_template=value)))
        model.encode("a house")
    except ValueError as error:
        assert str(error).isprintable() and len(str(error)) < 1000


class PanicException(BaseException):  # noqa: N818
    """As tokenizers calls its own, which is no `Exception`."""


def test_a_panic_of_tokenizers_is_a_sentence(tiny_folder):
    tokenizer = vlm.load(tiny_folder("qwen3_vl", 2)).tokenizer

    class Broken:
        def encode(self, *words, **how):
            raise PanicException("no entry found for key")

        decode = encode

    class Stopped:
        def encode(self, *words, **how):
            raise KeyboardInterrupt

    tokenizer._backend = Broken()
    for call in (lambda: tokenizer.split("a"), lambda: tokenizer.text_of([1]),
                 lambda: tokenizer.words_of([1])):  # fmt: skip
        with pytest.raises(ValueError, match="no entry found for key.*Download its tokenizer"):
            call()
    tokenizer._backend = Stopped()
    with pytest.raises(KeyboardInterrupt):
        tokenizer.split("a")


def test_a_panic_while_a_tokenizer_is_read(tiny_folder, monkeypatch):
    import transformers

    def panics(*words, **how):
        raise PanicException("range end index 18446744073709551574 out of range")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", panics)
    with pytest.raises(ValueError, match="cannot be read .*out of range"):
        vlm.load(tiny_folder("qwen3_vl", 2))


def test_json_of_gigabytes_is_not_read(changed):
    folder = changed("config.json", lambda held: None)
    with (folder / "config.json").open("r+b") as file:
        file.truncate(2**29)  # a hole: it takes no room
    with pytest.raises(ValueError, match="has 536870912 bytes, far more than such a file needs"):
        vlm.load(folder)
