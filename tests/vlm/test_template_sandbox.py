"""Chat templates in the sandbox: the same text as transformers gives, and an end to everything."""

import re
import time
import tracemalloc

import pytest
import transformers
from jinja2 import TemplateError

from vlm.families import FAMILIES
from vlm.prompts.template_sandbox import LARGEST, MOST_STEPS, TemplateSandbox

pytestmark = pytest.mark.slow

HERE = [name for name, one in FAMILIES.items() if hasattr(transformers, one.architecture)]
MESSAGES = [
    {"role": "system", "content": "You paint."},
    {"role": "user", "content": 'a "red" house & <b>\n'},
    {"role": "assistant", "content": "Done."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a blue one"}]},
]
# What published templates are made of.
TEMPLATES = {
    "loop": "{% for m in messages %}{{ loop.index0 }}{{ m.role }}{% if loop.last %}!{% endif %}"
    "{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% endfor %}{{ ns.n }}",
    "filters": "{{ messages[1].content | trim | upper | replace('RED', 'x') | length }}"
    "{{ messages | map(attribute='role') | join(', ') }}{{ [3, 1, 2] | sort | first }}"
    "{{ messages[0] | tojson }}{{ messages[0] | tojson(indent=2) | indent(4) }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
    "{{ messages[0].items() | list }}{{ messages[3].content | string }}{{ 'a,b'.split(',')[1] }}",
    "macro": "{% macro say(m) %}<{{ m.role }}>{% endmacro %}"
    "{% for m in messages %}{{ say(m) }}{% endfor %}",
    "caller": "{% macro box() %}[{{ caller() }}]{% endmacro %}{% call box() %}in{% endcall %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.role ~ 1 }}{% endgeneration %}"
    "{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}"
    "{% if loop.index == 4 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "recursion": "{% for part in [[1, [2]], [3]] recursive %}{% if part is iterable %}"
    "{{ loop(part) }}{% else %}{{ part }}{% endif %}{% endfor %}",
    "blocks": "{%- if true -%}\n  a\n  {%- endif %}\n  {% if false %}\n b\n {% endif %}\nc\n",
    "operators": "{{ 'a' + 'b' * 3 ~ 2 ** 10 ~ 7 % 4 ~ '%s-%d' % ('x', 3) }}{{ [1] + [2] }}",
    "set block": "{% set x %}a{{ 1 + 1 }}{% endset %}{{ x }}{{ x is defined }}{{ y is defined }}",
    "generation prompt": "{% if add_generation_prompt %}<go>{% endif %}{{ eos_token }}",
    "escaped braces": "{{ '{{a: {}}}'.format(3) }}{{ [1, 2.5] | sum }}{{ '%5d' % 3 }}",
    "dict": "{{ dict(a=1) }}{{ {'b': 2}.get('b') }}{{ 'abc'[::-1] }}{{ 'x'.join(['a', 'b']) }}"
    "{{ 'a'.center(5) }}{{ '{:>4}'.format(3) }}{{ range(3) | list }}",
}
ENDLESS = {
    "loops": "{% for i in range(3000) %}{% for j in range(3000) %}{% endfor %}{% endfor %}",
    "a loop over a text": "{% for i in 'a' * 900000 %}{% endfor %}",
    "a macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "twice as long": "{% set ns = namespace(x='ab') %}{% for i in range(99) %}"
    "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "twice as long by +": "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "a number": "{{ 10 ** 10000000 }}",
    "a number by *": "{% set ns = namespace(x=9) %}{% for i in range(99) %}"
    "{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "a text": "{{ 'a' * 3000000000 }}",
    "a list": "{{ 3000000000 * [1] }}",
    "output": "{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}",
    "set block": "{% set x %}{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}{% endset %}",
    "center": "{{ 'a'|center(3000000000) }}",
    "a method": "{{ 'a'.ljust(3000000000) }}",
    "tabs": "{{ ('\\t' * 100000).expandtabs(100000) }}",
    "a format": "{{ '{:>3000000000}'.format(1) }}",
    "a format of a format": "{{ '%3000000000d' % 1 }}",
    "the filter format": "{{ '%3000000000d' | format(1) }}",
    "replace": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "replace, a method": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "join": "{{ (['a'] * 99999) | join('b' * 99999) }}",
    "join, a method": "{{ ('b' * 99999).join(['a'] * 99999) }}",
    "indent": "{{ ('\\n' * 99999) | indent(99999) }}",
    "json": "{{ [[[1]]] | tojson(indent=3000000000) }}",
    "a range": "{{ range(10 ** 9) | list }}",
    "lipsum": "{{ lipsum(1000000) }}",
    "a width from elsewhere": "{{ '%*d' % (3000000000, 1) }}",
    "a width from elsewhere, in braces": "{{ '{:{w}}'.format(1, w=3000000000) }}",
    "tabs by name": "{{ ('\\t' * 99999).expandtabs(tabsize=99999) }}",
    "join of what a filter gives": "{{ ('b' * 99999).join(range(9999) | map('string')) }}",
    "translate": "{{ ('a' * 99999).translate({97: 'b' * 99999}) }}",
    "bytes": "{{ 'a'.encode().ljust(3000000000) }}",
    "bytes of a number": "{{ (1).to_bytes(3000000000, 'big') }}",
    "a sum of lists": "{{ ([[1] * 99999] * 99999) | sum(start=[]) | length }}",
    "many large texts": "{% set x = 'a' * 999999 %}"
    "{{ ([x] * 9999) | map('upper') | list | length }}",
    "many large texts in a loop": "{% set ns = namespace(all=[]) %}{% for i in range(9999) %}"
    "{% set ns.all = ns.all + ['a' * 999999] %}{% endfor %}",
}


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return transformers.AutoTokenizer.from_pretrained(str(tiny_folder("qwen3_vl", 2)))


def both(tokenizer, source, messages=MESSAGES, **settings):
    theirs = tokenizer.apply_chat_template(
        messages, chat_template=source, tokenize=False, **settings
    )
    given = {"tools": None, "documents": None, **tokenizer.special_tokens_map, **settings}
    return TemplateSandbox().render(source, messages=messages, **given), theirs


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_templates_are_made_of_writes_what_transformers_writes(tokenizer, name):
    ours, theirs = both(tokenizer, TEMPLATES[name], add_generation_prompt=True)
    assert ours == theirs and ours


@pytest.mark.parametrize("family", HERE)
@pytest.mark.parametrize("turns", [2, 3, 4])
def test_the_families_templates_write_what_transformers_writes(tiny_folder, family, turns):
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tiny_folder(family, 2)))
    if not tokenizer.chat_template:
        pytest.skip("a base model has none")
    plain = FAMILIES[family].vision is None
    messages = []
    for message in MESSAGES[:turns]:
        content = message["content"]
        if plain and not isinstance(content, str):
            content = "a blue one"
        elif not plain and isinstance(content, str):
            content = [{"type": "text", "text": content}]
        messages.append({**message, "content": content})
    ours, theirs = both(
        tokenizer, tokenizer.chat_template, messages, add_generation_prompt=turns != 3,
        **FAMILIES[family].chat_settings,
    )  # fmt: skip
    assert ours == theirs


@pytest.mark.parametrize("name", ENDLESS)
def test_everything_ends(name):
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(TemplateError):
        TemplateSandbox().render(ENDLESS[name], messages=MESSAGES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20
    assert time.process_time() - start < 5  # nothing here takes one


ERRORS = (
    "{{ 1/0 }}",
    "{{ [].x.y }}",
    "{% for %}",
    "{{ ''.__class__.__base__ }}",
    "{{ raise_exception('no') }}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{{ {}['a']['b'] }}",
)


@pytest.mark.parametrize("source", ERRORS)
def test_errors_are_the_templates(source):
    with pytest.raises(TemplateError):
        TemplateSandbox().render(source)


def test_the_bounds_are_those_of_one_rendering():
    sandbox = TemplateSandbox()
    source = "{% for i in range(9000) %}{{ i }}{% endfor %}"
    for _ in range(MOST_STEPS // 9000 + 2):
        assert len(sandbox.render(source)) > 9000
    assert len(sandbox.render("{{ 'a' * n }}", n=LARGEST)) == LARGEST


def test_the_library_says_that_it_is_the_template(tiny_folder, tmp_path):
    import json
    import shutil

    import vlm

    folder = shutil.copytree(tiny_folder("qwen3_vl", 2), tmp_path / "model")
    for file in folder.glob("chat_template*"):
        file.unlink()
    settings = folder / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    content["chat_template"] = ENDLESS["loops"]
    settings.write_text(json.dumps(content), encoding="utf-8")
    said = f"chat template cannot be used (it takes over {MOST_STEPS} steps)"
    with pytest.raises(ValueError, match=re.escape(said)):
        vlm.load(folder, dtype="float32").encode("a house", target="chat")
