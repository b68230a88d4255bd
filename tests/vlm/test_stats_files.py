"""Statistics from files: the research's .npz, evidence, few tokens, notes of another kind."""

import io
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vlm.tokens.stats import Stats, few_tokens, load_stats, measure_stats, save_stats
from vlm.tokens.stats_npz import LARGEST
from vlm.tokens.tokens import Tokens

MEAN, STD = np.linspace(-2, 2, 8), np.linspace(0.5, 4, 8)


def test_the_researchs_npz_is_read(tmp_path):
    path = tmp_path / "qwen3_4b_stats.npz"
    np.savez(path, per_dim_mean=MEAN, per_dim_std=STD, global_mean=0.1, global_std=61.0)
    s = load_stats(path)
    assert torch.allclose(s.mean, torch.tensor(MEAN, dtype=torch.float32))
    assert torch.allclose(s.std, torch.tensor(STD, dtype=torch.float32))
    assert s.global_std == 61.0 and s.std_without_sinks is None and s.sinks is None
    np.savez_compressed(path, mean=MEAN.astype("f2"), std=STD.astype("f4"))
    assert load_stats(path).width == 8


def broken_npz(path, **arrays: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)


def array_bytes(array: np.ndarray, **how) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **how)
    return file.getvalue()


def header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_other_npz_files_are_refused_by_name(tmp_path):
    path, good = tmp_path / "other.npz", array_bytes(MEAN)
    path.write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="other.npz cannot be read as .npz.*per_dim_mean"):
        load_stats(path)
    broken_npz(path, embeddings=good)
    with pytest.raises(ValueError, match="other.npz holds no statistics but 'embeddings"):
        load_stats(path)
    objects = array_bytes(np.array([{}], dtype=object), allow_pickle=True)
    cases = {
        objects: "per_dim_std in other.npz is of object",
        header(f"({LARGEST},)"): "too large for statistics",
        header("(8,)") + b"\0" * 5: "per_dim_std in other.npz ends early",
        b"no array": "per_dim_std in other.npz is no array of numpy's",
        array_bytes(np.array(["a"] * 8)): "expected numbers",
        array_bytes(STD[:4]): "other.npz holds.*as many values in std as in mean",
        array_bytes(STD * np.nan): "other.npz holds.*NaN or Inf in std",
    }
    for data, words in cases.items():
        broken_npz(path, per_dim_mean=good, per_dim_std=data)
        with pytest.raises(ValueError, match=words):
            load_stats(path)
    np.savez(path, per_dim_mean=MEAN, per_dim_std=STD, global_std=STD)
    with pytest.raises(ValueError, match="global_std in other.npz is not one number"):
        load_stats(path)


def test_a_damaged_archive_is_refused_by_name(tmp_path):
    path = tmp_path / "damaged.npz"
    np.savez_compressed(path, per_dim_mean=MEAN, per_dim_std=STD)
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged.npz"):
        load_stats(path)


def test_the_file_carries_its_evidence(tmp_path):
    x = torch.randn(1, 40, 16, generator=torch.manual_seed(0))
    x[:, 0] *= 90
    s = measure_stats([Tokens(x), Tokens(x[:, :9])], "Qwen3-4B", -2, ["a", "b"])
    save_stats(s, tmp_path / "s.safetensors")
    back = load_stats(tmp_path / "s.safetensors")
    assert (back.model, back.layer, back.prompts) == ("Qwen3-4B", -2, ("a", "b"))
    assert (back.count, back.sinks) == (49, 2)
    assert torch.equal(back.mean_without_sinks, s.mean_without_sinks)
    assert torch.equal(back.std_without_sinks, s.std_without_sinks)


def test_few_tokens_are_told_with_their_number():
    def of(count: int | None) -> Stats:
        return Stats([0.0], [1.0], count=count)

    assert few_tokens(of(256)) is None and few_tokens(of(None)) is None
    assert "only 255 tokens" in few_tokens(of(255)) and "by 4%" in few_tokens(of(255))
    assert "only 12 tokens" in few_tokens(of(12)) and "by 21%" in few_tokens(of(12))


@pytest.mark.parametrize(
    ("note", "text"),
    [
        ("prompts", "5"),
        ("prompts", '"one text"'),
        ("prompts", '[["a"]]'),
        ("prompts", "[" * 5000),
        ("count", "9" * 4500),
        ("count", "1.5"),
        ("count", "-1"),
        ("count", "true"),
        ("count", "Infinity"),
        ("sinks", "-3"),
        ("sinks", '"x"'),
        ("model", "7"),
        ("layer", "[1]"),
        ("global_std", "[1]"),
        ("global_std", "NaN"),
        ("global_std", "-1"),
        ("global_std", "1" + "0" * 400),
        ("global_std", "true"),
    ],
)
def test_notes_of_another_kind_are_refused_by_the_files_name(tmp_path, note, text):
    path = tmp_path / "stats.safetensors"
    tensors = {"mean": torch.zeros(8), "std": torch.ones(8)}
    save_file(tensors, path, {"format": "vlm_stats", note: text})
    with pytest.raises(ValueError, match="stats.safetensors") as caught:
        load_stats(path)
    assert len(str(caught.value)) < 500


def test_more_sinks_than_tokens_are_no_statistics():
    with pytest.raises(ValueError, match="sinks 5, expected at most count"):
        Stats([0.0], [1.0], count=4, sinks=5)
