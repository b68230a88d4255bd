r"""ComfyUI's prompt syntax in the library: escapes, `embedding:name`, weights of words."""

import os
import pickle

import pytest
import torch
from rounding import rounding
from safetensors.torch import save_file

import vlm
from vlm.prompts.word_weights import weights_of

VECTORS = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
SYNTAX = vlm.PromptSyntax({"mine": VECTORS, "one": VECTORS[0]})
SCALE = vlm.PromptSyntax(weights="scale states")


@pytest.fixture
def model(tiny):
    return tiny("qwen3_vl", 6)


def words(model, h, role="text"):
    """The text of a role; an embedding's tokens as one `*` each."""
    roles, there = h.token_map["role"], h.prompt.embeddings
    ids = [(n, one) for n, one in enumerate(h.prompt.ids) if roles[n] == role]
    return "".join("*" if n in there else model.tokenizer.text_of([one]) for n, one in ids)


# --- what is syntax, and what is not


def test_without_syntax_every_character_is_a_letter(model):
    text = r"a \(b\) (c:1.3) embedding:mine d"
    h = model.encode(text, target="z-image")
    assert words(model, h) == text and not h.prompt.embeddings and set(h.prompt.weights) == {1.0}


@pytest.mark.parametrize("text", ["a (red) house: [x] {y} <z>\n", "", "  \n", "a\\b embed: mine"])
def test_words_without_these_characters_give_the_same_bits(model, text):
    plain, read = (model.encode(text, target="z-image", syntax=s) for s in (None, SYNTAX))
    assert plain.prompt == read.prompt and plain.prompt.key == read.prompt.key
    assert torch.equal(plain.layer(-2), read.layer(-2))


def test_the_models_own_syntax_is_the_default(tiny_folder):
    model = vlm.load(tiny_folder("qwen3_vl", 6), dtype="float32")
    model.syntax = SYNTAX
    assert words(model, model.encode(r"\(a\) embedding:mine")) == "(a) ***"
    assert words(model, model.encode("a embedding:mine", syntax=SCALE)) == "a embedding:mine"


@pytest.mark.parametrize(
    "typed, read",
    [
        (r"\(a\) \\(b\x", r"(a) \(b\x"),
        ("a embedding:mine b", "a ***b"),
        ("embedding:mine", "***"),
        ("a  embedding:mine \n b,  c", "a  ***b, c"),
        ("a embedding:mine, b", "a ***, b"),
        ("a embedding:mine embedding:one", "a ****"),
        ("a_embedding:mine", "a_embedding:mine"),
        ("a embedding:nothing b", "a b"),
    ],
)
def test_what_is_read(model, typed, read):
    assert words(model, model.encode(typed, target="z-image", syntax=SYNTAX)).rstrip() == read


def test_what_is_missing_is_told(model, caplog):
    h = model.encode("a embedding:nothing b", target="z-image", syntax=SYNTAX)
    assert h.prompt.missing == ("nothing",)
    assert "'embedding:nothing' was not found" in caplog.text


def test_an_answer_of_the_model_is_no_prompt(model):
    talk = vlm.Conversation().user(r"\(a\)").assistant(r"\(b\) embedding:mine")
    h = model.encode("c", target="z-image", conversation=talk, syntax=SYNTAX)
    assert words(model, h, "generated") == r"\(b\) embedding:mine" and not h.prompt.embeddings


# --- embeddings


def test_vectors_enter_the_first_layer(model):
    h = model.encode("a embedding:mine b", target="z-image", syntax=SYNTAX)
    at = min(h.prompt.embeddings)
    assert torch.equal(h.layer(0)[0, at : at + 3], VECTORS)
    other = model.encode("a embedding:mine b", target="z-image",
                         syntax=vlm.PromptSyntax({"mine": -VECTORS}))  # fmt: skip
    assert h.prompt.ids == other.prompt.ids and h.prompt.key != other.prompt.key
    assert not torch.equal(h.layer(-2)[0, -1], other.layer(-2)[0, -1])


def test_trained_vectors_equal_their_words(model):
    """An embedding that holds a word's own vectors is that word."""
    plain = model.encode("a x", template="raw")
    own = {"x": plain.layer(0)[0, -1:]}
    h = model.encode("a embedding:x", template="raw", syntax=vlm.PromptSyntax(own))
    at = min(h.prompt.embeddings)
    assert torch.equal(h.layer(0)[0, at], own["x"][0])


@pytest.mark.parametrize("padding", ["left", "right"])
def test_padding_moves_them(model, padding):
    h = model.encode("a embedding:mine b", target="z-image", padding=padding, syntax=SYNTAX)
    at = min(h.prompt.embeddings)
    assert h.n == 512 and torch.equal(h.layer(0)[0, at : at + 3], VECTORS)


def test_a_known_beginning_holds_them(model, watch):
    """What stands before the words is reused with the vectors in it, and with these alone."""
    talk = vlm.Conversation().user("embedding:mine and a house by the river").assistant("so it is")
    kinds = {"mine": VECTORS}, {"mine": -VECTORS}
    for known in kinds:
        syntax = vlm.PromptSyntax(known)
        model.prefix_cache.clear()
        fresh = model.encode("now red", target="z-image", conversation=talk, syntax=syntax)
        want = fresh.layer(-2)
        for first in kinds:
            model.encode("now blue", target="z-image", conversation=talk,
                         syntax=vlm.PromptSyntax(first)).layer(-2)  # fmt: skip
        again = model.encode("now red", target="z-image", conversation=talk, syntax=syntax)
        assert torch.allclose(again.layer(-2), want, atol=1e-4) and again.reused_tokens > 8


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "embeddings" / "below").mkdir(parents=True)
    return tmp_path / "embeddings"


def test_files_are_found_as_comfyui_finds_them(model, folder):
    save_file({"emb_params": VECTORS}, folder / "below" / "mine.safetensors")
    torch.save({"string_to_param": {"*": VECTORS[:2]}}, folder / "mine.pt")
    (folder / "below" / "round").symlink_to(folder, target_is_directory=True)
    for typed, count in [("below/mine", 3), ("mine", 2), ("mine.safetensors", 3), ("mine.pt", 2)]:
        syntax = vlm.PromptSyntax(str(folder))
        h = model.encode(f"a embedding:{typed}", target="z-image", syntax=syntax)
        assert len(h.prompt.embeddings) == count


def test_one_of_several_text_encoders(model, folder):
    tensors = {"a": torch.zeros(1, 16), "qwen3_4b": VECTORS, "qwen3vl_4b": VECTORS[:1].clone()}
    save_file(tensors, folder / "mine.safetensors")
    syntax = vlm.PromptSyntax([folder])
    counts = {"z-image": 3, "krea2": 1}
    for target, count in counts.items():
        h = model.encode("a embedding:mine", target=target, syntax=syntax)
        assert len(h.prompt.embeddings) == count


@pytest.mark.parametrize("name", ["../outside", "below/../../outside", "{root}/outside", "..", "",
                                  ".", "below/..", ",", "<b", "x" * 5000, "a\0b"])  # fmt: skip
def test_a_name_never_leaves_the_folders(model, folder, name):
    """Nor does one that names nothing find a file that is called as a folder."""
    for file in (folder.parent / "outside", folder, folder / "below"):
        save_file({"x": VECTORS}, file.with_suffix(".safetensors"))
    text = "a embedding:" + name.format(root=folder.parent)
    h = model.encode(text, target="z-image", syntax=vlm.PromptSyntax(folder))
    assert not h.prompt.embeddings and len(h.prompt.missing) == 1


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def bundle(*tensors):
    """Embeddings as a LoRA file has them."""
    names = (f"bundle_emb.{n}.string_to_param.*" for n in range(len(tensors)))
    return dict(zip(names, tensors, strict=True))


@pytest.mark.parametrize(
    "write, said",
    [
        (lambda f: save_file({"x": torch.zeros(2, 768)}, f), r"768 wide.*64 wide"),
        (lambda f: save_file({"x": torch.full((1, 64), torch.nan)}, f), "holds NaN or Inf"),
        (lambda f: save_file({"x": torch.zeros(1, 64).int()}, f), "holds no vectors"),
        (lambda f: save_file({"x": torch.zeros(0, 64)}, f), "holds no vectors"),
        (lambda f: save_file(bundle(torch.ones(()), torch.ones(())), f), "is 1 wide"),
        (lambda f: save_file(bundle(torch.ones(1, 64), torch.ones(1, 8)), f), "holds no vectors"),
        (lambda f: f.write_bytes(b"\x08\0\0\0\0\0\0\0{\"x\":"), "not a whole safetensors file"),
        (lambda f: f.write_bytes(b""), "is empty"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(model, folder, write, said):
    write(folder / "mine.safetensors")
    with pytest.raises(ValueError, match=said):
        model.encode("a embedding:mine", syntax=vlm.PromptSyntax(folder))


@pytest.mark.parametrize(
    "held, said",
    [
        ({"string_to_param": {"*": torch.zeros(1, 16)}}, "16 wide"),
        ({"string_to_param": {}}, "holds no vectors"),
        ({"step": 5}, "holds no vectors"),
        ([], "holds no vectors"),
        ("text", "holds no vectors"),
        ([{"a": torch.zeros(1, 16)}], "16 wide"),
        ({"x": torch.zeros(1).expand(10**9, 64)}, "bytes, but its tensors say"),
    ],
)
def test_pickles_that_do_not_fit_are_refused(model, folder, held, said):
    torch.save(held, folder / "mine.pt")
    with pytest.raises(ValueError, match=said):
        model.encode("a embedding:mine", syntax=vlm.PromptSyntax(folder))


def test_code_in_a_pickle_does_not_run(model, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (folder / "mine.pt").write_bytes(pickle.dumps({"x": Bomb()}))
    with pytest.raises(ValueError, match="can run code"):
        model.encode("a embedding:mine", syntax=vlm.PromptSyntax(folder))
    assert not (tmp_path / "exploded").exists()


# --- weights


@pytest.mark.parametrize(
    "text, read",
    [
        ("a (b:1.3) c", [("a ", 1), ("b", 1.3), (" c", 1)]),
        ("(a) ((b))", [("a", 1.1), (" ", 1), ("b", 1.21)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 2), (" c", 0.5)]),
        ("(a:b)", [("a:b", 1.1)]),
        (r"\(a:2\) (b\):3)", [(r"\(a:2\) ", 1), (r"b\)", 3)]),
        ("(a", [("(a", 1)]),
        ("a) (b:2)", [("a) (b:2)", 1)]),  # as ComfyUI counts them
        ("()(:2)", [(":2", 1.1)]),
        ("(a:-1)", [("a", -1)]),
    ],
)
def test_weights_are_those_of_comfyuis_parser(text, read):
    found = [(text[start:end], weight) for start, end, weight in weights_of(text)]
    assert [words for words, _ in found] == [words for words, _ in read]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in read])


def test_states_are_scaled_and_nothing_else(model):
    plain = model.encode("a red house, big", target="krea2")
    h = model.encode("a (red:1.5) house, (big)", target="krea2", syntax=SCALE)
    assert h.prompt.ids == plain.prompt.ids
    assert h.prompt.key == plain.prompt.key
    factors = torch.tensor(h.prompt.weights)[None, :, None]
    assert sorted(set(h.prompt.weights)) == [1.0, pytest.approx(1.1), 1.5]
    assert torch.equal(h.layer(2), plain.layer(2) * factors)
    assert torch.equal(h.layer(6), plain.layer(6) * factors)
    words_of = [model.tokenizer.text_of([h.prompt.ids[n]]).strip()
                for n, weight in enumerate(h.prompt.weights) if weight == 1.5]  # fmt: skip
    assert "".join(words_of) == "red"


def test_weights_follow_their_tokens(model, picture):
    """Through the gate, a filter, a pool and pads; in what a connector is given as well."""
    encode = {"images": [picture(200, 300)], "target": "krea2-edit"}
    plain = model.encode("a red house", **encode)
    h = model.encode("a (red:1.5) house", syntax=SCALE, **encode)

    def text(states):
        kept = vlm.filter_tokens(states, keep="prompt")
        return vlm.select_layers(kept, "2").states

    weights = [w for w, role in zip(h.prompt.weights, h.token_map["role"], strict=True)
               if role == "text"]  # fmt: skip
    assert 1.5 in weights
    assert torch.equal(text(h), text(plain) * torch.tensor(weights)[None, :, None])
    pooled, pooled_plain = (vlm.pool_tokens(each, tokens=4) for each in (h, plain))
    assert torch.allclose(text(pooled), text(plain) * torch.tensor(weights)[None, :, None])
    image = [vlm.filter_tokens(vlm.select_layers(each, "2"), keep="image").states
             for each in (pooled, pooled_plain)]  # fmt: skip
    assert torch.equal(*image)


def test_an_embedding_takes_its_weight(model):
    syntax = vlm.PromptSyntax({"mine": VECTORS}, weights="scale states")
    h = model.encode("a (embedding:mine:1.2) b(embedding:mine) c", target="krea2", syntax=syntax)
    weights = [h.prompt.weights[n] for n in h.prompt.embeddings]
    assert weights == pytest.approx([1.2] * 3 + [1.1] * 3)


def test_a_weight_of_one_is_nothing(model, err):
    h = model.encode("a (red:1) house", target="krea2", syntax=SCALE)
    plain = model.encode("a red house", target="krea2")
    assert err(h.layer(3), plain.layer(3)) <= rounding(3)  # the second reuses the first
    assert h.prompt.key == plain.prompt.key


@pytest.mark.parametrize(
    "text, said",
    [
        ("(a:inf)", "weight 'inf', expected a number from -100 to 100"),
        ("(a:nan)", "weight 'nan'"),
        ("(a:1e9)", "weight '1e9'"),
        ("(" * 200 + "a" + ")" * 200, "more than 100 deep"),
    ],
)
def test_weights_beyond_reason_are_refused(model, text, said):
    with pytest.raises(ValueError, match=said):
        model.encode(text, target="krea2", syntax=SCALE)


@pytest.mark.parametrize("target", ["z-image", "qwen-image", "boogu"])
def test_a_target_that_reads_no_weights_refuses_them(model, target):
    with pytest.raises(ValueError, match="norms each token.*`weights` to as native"):
        model.encode("a (red:1.5) house", target=target, syntax=SCALE)
    assert model.encode("a red house", target=target, syntax=SCALE).n


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="`weights` is 'louder'. Choose one of: as native, scale"):
        vlm.PromptSyntax(weights="louder")
