"""What trained models write is what `generate` of transformers writes, and can be read."""

import re

import pytest

QUESTIONS = {
    "ends by itself": ("What is the capital of France?", 24),
    "is cut": ("Describe a small red house by a river in the mountains.", 24),
}


def written(pair, made, prompt):
    return list(made.states.prompt.ids[len(prompt.prompt.ids) :])


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_those_of_generate(smollm2, question):
    text, count = QUESTIONS[question]
    prompt = smollm2.ours.encode(text)
    want = smollm2.generate(prompt.prompt.ids, count)
    made = smollm2.ours.rewrite(text, system="", temperature=0, max_tokens=count)
    ended = want[-1] in smollm2.ours.stops
    assert ended == made.finished == (question == "ends by itself")
    assert written(smollm2, made, prompt) == (want[:-1] if ended else want)
    # The states of the answer are those of a forward of it all.
    whole = smollm2.streams(made.states.prompt.ids)
    for layer in (0, 9, 18, made.states.num_layers - 1):
        apart = (made.states.layer(layer) - whole[layer]).abs().max()
        assert apart <= 1e-5 * whole[layer].abs().max(), layer


def test_an_answer_can_be_read(smollm2):
    made = smollm2.ours.rewrite("What is the capital of France?", system="", temperature=0)
    assert made.finished and "Paris" in made.text
    made = smollm2.ours.rewrite("a red house by a river", temperature=0, max_tokens=48)
    words = re.findall(r"[A-Za-z']+", made.text)
    assert len(words) >= 12 and {"house", "river"} & {word.lower() for word in words}
    assert sum(map(len, words)) > 0.7 * len(made.text) and {"the", "a", "and"} & set(words)


def test_a_base_model_goes_on_with_the_text(gemma3):
    text = "The capital of France is"
    prompt = gemma3.ours.encode(text, template="raw")
    want = gemma3.generate(prompt.prompt.ids, 12)
    made = gemma3.ours.rewrite(text, template="raw", system="", temperature=0, max_tokens=12)
    assert written(gemma3, made, prompt) == want
    assert "France" in made.text
    # With a system text, which stands before it as a paragraph.
    assert gemma3.ours.rewrite(text, template="raw", temperature=0, max_tokens=4).tokens
