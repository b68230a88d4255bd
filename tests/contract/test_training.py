"""What training relies on: learning rates, and FLUX.1's own text encoders in transformers."""

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel, get_scheduler

from vlm.train.recipe import SCHEDULES

TEACHER = "vlm/train/teacher.py"
SMALL = {"vocab_size": 40, "num_hidden_layers": 1}


@pytest.mark.relies("vlm/train/run.py")
@pytest.mark.parametrize("name", SCHEDULES.values())
def test_learning_rates_rise_and_fall(name):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(name, optimiser, num_warmup_steps=4, num_training_steps=20)
    rates = []
    for _ in range(20):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == 1 if name.startswith("constant") else rates[-1] < 0.2
    again = get_scheduler(name, optimiser, num_warmup_steps=4, num_training_steps=20)
    again.load_state_dict(schedule.state_dict())
    assert again.last_epoch == schedule.last_epoch


@pytest.mark.relies(TEACHER)
def test_t5_is_read_from_a_folder_in_a_dtype_and_gives_its_last_states(tmp_path):
    config = T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=40)
    T5EncoderModel(config).save_pretrained(tmp_path)
    model = T5EncoderModel.from_pretrained(
        str(tmp_path), local_files_only=True, trust_remote_code=False, dtype=torch.bfloat16
    )
    assert model.dtype == torch.bfloat16 and model.config.d_model == 16
    states = model(torch.tensor([[3, 4, 1, 0, 0]])).last_hidden_state
    assert states.shape == (1, 5, 16)


@pytest.mark.relies(TEACHER)
def test_clips_pooled_vector_is_the_last_state_of_its_end(tmp_path):
    config = CLIPTextConfig(
        hidden_size=16, intermediate_size=16, num_attention_heads=2, max_position_embeddings=8,
        eos_token_id=39, **SMALL,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(tmp_path)
    model = CLIPTextModel.from_pretrained(
        str(tmp_path), local_files_only=True, trust_remote_code=False, dtype="auto"
    ).eval()
    found = model(torch.tensor([[38, 5, 6, 39, 39]]))
    assert model.config.hidden_size == found.pooler_output.shape[-1] == 16
    assert torch.equal(found.pooler_output[0], found.last_hidden_state[0, 3])
