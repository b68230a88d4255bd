"""GGUF files: not read, but the message says what reads them."""

import pytest

import vlm


@pytest.mark.parametrize("name", ["Qwen3-VL-4B-Q4_K_M.gguf", "qwen2.5-vl-7b.GGUF"])
def test_a_gguf_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ValueError) as error:
        vlm.load(tmp_path / name)
    text = str(error.value)
    assert text.startswith(f"{name} is a GGUF file")
    for part in ("ComfyUI-GGUF", "CLIPLoader (GGUF)", "VLM From CLIP", "mmproj", "Qwen2.5-VL"):
        assert part in text
