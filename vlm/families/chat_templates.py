"""The families' chat templates in Jinja, for files that come without one.

They render system, user and assistant turns as the published templates do, without tools.
"""

_DEFAULT_SYSTEM = """\
{%- if messages and messages[0].role != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
"""
_QWEN_TURNS = """\
{%- set seen = namespace(image=0, video=0) %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}
{{- message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part %}
{%- set seen.image = seen.image + 1 %}
{%- if add_vision_id %}{{- 'Picture ' ~ seen.image ~ ': ' }}{%- endif %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'video' or 'video' in part %}
{%- set seen.video = seen.video + 1 %}
{%- if add_vision_id %}{{- 'Video ' ~ seen.video ~ ': ' }}{%- endif %}
{{- '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- elif 'text' in part %}
{{- part.text }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
"""
QWEN3 = (
    _QWEN_TURNS
    + """\
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
)

# Qwen3.5 begins the thinking of the answer for the model.
QWEN3_5 = (
    _QWEN_TURNS
    + """\
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}
"""
)

# Qwen2-VL and Qwen2.5-VL bring a system turn where none is given.
QWEN2 = _DEFAULT_SYSTEM + QWEN3

# Qwen2.5-Omni's has other names for the tokens of pictures and videos, and sounds.
QWEN2_5_OMNI = (
    QWEN2.replace(
        "{%- elif 'text' in part %}",
        """\
{%- elif part.type == 'audio' or 'audio' in part or 'audio_url' in part %}
{%- set seen.audio = seen.audio + 1 %}
{%- if add_audio_id %}{{- 'Audio ' ~ seen.audio ~ ': ' }}{%- endif %}
{{- '<|audio_bos|><|AUDIO|><|audio_eos|>' }}
{%- elif 'text' in part %}""",
    )
    .replace("namespace(image=0, video=0)", "namespace(image=0, video=0, audio=0)")
    .replace("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_bos|><|IMAGE|><|vision_eos|>")
    .replace("<|vision_start|><|video_pad|><|vision_end|>", "<|vision_bos|><|VIDEO|><|vision_eos|>")
)
