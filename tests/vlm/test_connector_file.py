"""Files of trained weights: what is read, and what is refused without running anything of it."""

import json
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

import vlm
from vlm.connectors.file import read_state_dict, write_state_dict

WEIGHTS = {"linear.weight": torch.arange(6.0).view(2, 3), "linear.bias": torch.ones(2)}


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def same(found, expected=WEIGHTS):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


@pytest.mark.parametrize("ending", [".pt", ".bin", ".pth"])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: sd,
        lambda sd: {f"module.{key}": value for key, value in sd.items()},
        lambda sd: {"config": {"in_channels": 29, "use_cnn": True}, "state_dict": sd},
        lambda sd: {"epoch": 3, "model": {"state_dict": {f"module.{k}": v for k, v in sd.items()}}},
    ],
    ids=["bare", "module", "container", "nested"],
)
def test_pytorch_files(tmp_path, ending, legacy, wrap):
    file = tmp_path / f"weights{ending}"
    torch.save(wrap(WEIGHTS), file, _use_new_zipfile_serialization=not legacy)
    same(read_state_dict(file))


def test_safetensors(tmp_path):
    save_file({f"module.{k}": v for k, v in WEIGHTS.items()}, tmp_path / "a.safetensors")
    same(read_state_dict(tmp_path / "a.safetensors"))


def test_prefix_stays_where_not_all_have_it(tmp_path):
    mixed = {"module.weight": torch.ones(2, 2), "bias": torch.ones(2)}
    torch.save(mixed, tmp_path / "a.pt")
    same(read_state_dict(tmp_path / "a.pt"), mixed)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("where", ["alone", "beside weights", "inside the container"])
def test_code_is_refused_and_does_not_run(tmp_path, legacy, where):
    mark, file = tmp_path / "mark", tmp_path / "evil.pt"
    bomb = Bomb(mark)
    content = {
        "alone": bomb,
        "beside weights": {**WEIGHTS, "extra": bomb},
        "inside the container": {"config": bomb, "state_dict": WEIGHTS},
    }[where]
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="evil.pt holds more than tensors.*nothing of it was run"):
        read_state_dict(file)
    assert not mark.exists()


def test_bare_pickle_is_refused_and_does_not_run(tmp_path):
    mark, file = tmp_path / "mark", tmp_path / "evil.bin"
    file.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ValueError, match="evil.bin"):
        read_state_dict(file)
    assert not mark.exists()
    pickle.loads(file.read_bytes()).close()  # the file does what the test is about
    assert mark.exists()


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated(tmp_path, name, part):
    file = tmp_path / name
    if name.endswith(".pt"):
        torch.save(WEIGHTS, file)
    else:
        save_file(WEIGHTS, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ValueError, match=f"{name} is not a whole .*download it again"):
        read_state_dict(file)


def test_mislabelled(tmp_path):
    torch.save(WEIGHTS, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="named .safetensors but is a PyTorch file. Rename it to"):
        read_state_dict(tmp_path / "a.safetensors")
    save_file(WEIGHTS, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="named .pt but is a safetensors file. Rename it to b.saf"):
        read_state_dict(tmp_path / "b.pt")


def test_other_files(tmp_path):
    (tmp_path / "text.pt").write_text("<html>404 Not Found, try again later</html>")
    with pytest.raises(ValueError, match="text.pt"):
        read_state_dict(tmp_path / "text.pt")
    (tmp_path / "empty.bin").touch()
    with pytest.raises(ValueError, match="empty.bin is empty"):
        read_state_dict(tmp_path / "empty.bin")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match="zip.pt"):
        read_state_dict(tmp_path / "zip.pt")
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(ValueError, match="has the ending .ckpt"):
        read_state_dict(tmp_path / "a.ckpt")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_state_dict(tmp_path / "missing.pt")


@pytest.mark.parametrize("content", [{"config": {"a": 1}}, [1, 2], torch.ones(2), {}])
def test_without_tensors(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="a.pt holds .* without tensors"):
        read_state_dict(tmp_path / "a.pt")


def test_write_gives_shared_tensors_their_own_memory(tmp_path):
    tied = torch.arange(4.0)
    write_state_dict({"a": tied, "b": tied, "c": tied.view(2, 2).T}, tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    assert torch.equal(found["b"], tied) and torch.equal(found["c"], tied.view(2, 2).T)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_write_refuses(tmp_path):
    with pytest.raises(ValueError, match="does not end in .safetensors"):
        write_state_dict(WEIGHTS, tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError, match="does not exist. Make it first"):
        write_state_dict(WEIGHTS, tmp_path / "no" / "a.safetensors")


def holding_itself():
    own = {}
    own["state_dict"] = own
    return own


def spread_out(rows, cols):
    return {**WEIGHTS, "linear.weight": torch.ones(1).expand(rows, cols)}


HOSTILE = {
    "holds itself": (holding_itself, "without tensors"),
    "64 GB of one number": (lambda: spread_out(2**15, 2**19), "its tensors say they take"),
    "2 GB of one number": (lambda: spread_out(2**14, 2**15), "its tensors say they take"),
    "sparse": (lambda: {"linear.weight": torch.ones(4, 4).to_sparse()}, "is sparse"),
    "meta": (lambda: {"linear.weight": torch.empty(4, 4, device="meta")}, "has no data"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_small_files_of_endless_or_huge_content(tmp_path, what):
    make, says = HOSTILE[what]
    torch.save(make(), tmp_path / "evil.pt")
    assert (tmp_path / "evil.pt").stat().st_size < 10_000
    with pytest.raises(ValueError, match=rf"evil\.pt.*{says}"):
        read_state_dict(tmp_path / "evil.pt")


def test_a_zip_that_claims_more_than_it_holds(tmp_path):
    """PyTorch would take 4 GB first, and only then see that they are not there."""
    file = tmp_path / "evil.pt"
    torch.save(WEIGHTS, file)
    data = bytearray(file.read_bytes())
    # In the directory at the end, the size of an entry follows 24 bytes behind its mark.
    at = data.rfind(b"PK\x01\x02", 0, data.rfind(b"/data/0")) + 24
    data[at : at + 4] = (0xFFFFFFFE).to_bytes(4, "little")
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"evil\.pt.*its entries claim 42949\d{5} bytes"):
        read_state_dict(file)


def test_a_shape_beyond_every_number_without_a_byte(tmp_path):
    """safetensors takes it, since nothing times anything is nothing; torch does not."""
    tensor = {"dtype": "F32", "shape": [2**63, 0], "data_offsets": [0, 0]}
    about = {"format": "vlm_conditioning", "version": "1"}
    header = {"__metadata__": about, "mean": tensor, "std": tensor, "conditioning": tensor}
    header = json.dumps(header).encode()
    file = tmp_path / "evil.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    for read in (read_state_dict, vlm.load_stats, vlm.load_conditioning):
        with pytest.raises(ValueError, match=r"evil\.safetensors is not a"):
            read(file)


@pytest.mark.parametrize("data", [b"\x80\x02.", b"\x80\x02]]]aaaaaaaaa.", b"\x80\x02}(K\x01u."])
def test_damaged_pickles(tmp_path, data):
    (tmp_path / "evil.pt").write_bytes(data)
    with pytest.raises(ValueError, match=r"evil\.pt"):
        read_state_dict(tmp_path / "evil.pt")


def test_tied_weights_are_read(tmp_path):
    weight = torch.rand(64, 64)
    torch.save({"a": weight, "b": weight, "c": weight.T}, tmp_path / "tied.pt")
    assert set(read_state_dict(tmp_path / "tied.pt")) == {"a", "b", "c"}
