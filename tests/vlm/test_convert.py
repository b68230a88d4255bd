"""`python -m vlm convert`."""

import torch
from safetensors.torch import load_file

from vlm.cli import main


def test_connector(tmp_path, capsys):
    weights = {"linear.weight": torch.randn(8, 6).bfloat16(), "linear.bias": torch.randn(8)}
    torch.save({f"module.{key}": value for key, value in weights.items()}, tmp_path / "c.pt")
    out = tmp_path / "c.safetensors"
    assert main(["convert", str(tmp_path / "c.pt"), str(out)]) == 0
    found = load_file(out)
    assert set(found) == set(weights)
    assert all(torch.equal(found[key], weights[key]) for key in weights)
    assert found["linear.weight"].dtype == torch.bfloat16
    assert "2 tensors" in (line := capsys.readouterr().out)
    assert "Qwen2VL-Flux connector, 6 to 8" in line


def test_other_weights_are_converted_and_named_as_such(tmp_path, capsys):
    torch.save({"a.running_mean": torch.ones(3)}, tmp_path / "c.pt")
    assert main(["convert", str(tmp_path / "c.pt"), str(tmp_path / "c.safetensors")]) == 0
    assert "not a connector" in capsys.readouterr().out
    assert torch.equal(load_file(tmp_path / "c.safetensors")["a.running_mean"], torch.ones(3))


def test_an_older_file_stays_when_the_source_is_refused(tmp_path, capsys):
    (tmp_path / "c.pt").write_bytes(b"PK\x03\x04 cut")
    out = tmp_path / "c.safetensors"
    out.write_bytes(b"older")
    assert main(["convert", str(tmp_path / "c.pt"), str(out)]) == 2
    assert "c.pt is not a whole PyTorch file" in capsys.readouterr().err
    assert out.read_bytes() == b"older"


def test_refuses_another_ending(tmp_path, capsys):
    torch.save({"weight": torch.ones(2, 2)}, tmp_path / "c.pt")
    assert main(["convert", str(tmp_path / "c.pt"), str(tmp_path / "c.bin")]) == 2
    assert "does not end in .safetensors" in capsys.readouterr().err
