"""Llama 3, 3.1, 3.2 (1B, 3B) and 3.3 Instruct: text only."""

from __future__ import annotations

from .family import Family

# As the template of Llama 3.1 and later renders without tools.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- if date_string is not defined %}
{%- set date_string = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}
{%- endif %}
{%- set system = '' %}
{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content | trim %}
{%- set messages = messages[1:] %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n' }}
{{- 'Today Date: ' + date_string + '\\n\\n' + system + '<|eot_id|>' }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
{{- message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

FAMILY = Family(
    title="Llama 3",
    model_type="llama",
    architecture="LlamaForCausalLM",
    chat_template=CHAT_TEMPLATE,
    stop_tokens=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
    pad_tokens=("<|finetune_right_pad_id|>", "<|end_of_text|>"),  # Llama 3.0 has the second
    # The date that the template of Llama 3.1 has by itself. Later ones write today's, and then
    # the same prompt would be other tokens every day.
    chat_settings={"date_string": "26 Jul 2024"},
)
