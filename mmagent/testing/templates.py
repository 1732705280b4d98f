"""Chat templates in the shape that each family's checkpoints have. It knows Jinja, no network and no tokenizer.

The words are our own. What matters is kept: control tokens, which roles and blocks are rendered, how tools and calls
are written, which conversations are refused, and what is left out (most vision templates know no tools).
"""

from __future__ import annotations

_SAY = r"""
{%- macro say(content) -%}
  {%- if content is string -%}{{ content }}
  {%- else -%}
    {%- for block in content or [] -%}
      {%- if block.type == 'image' -%}{{ 'PICTURE' }}{%- elif block.type == 'text' -%}{{ block.text }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
"""
"""A message's blocks in their order; ``PICTURE`` is replaced by the family's placeholder."""

_CHATML = (
    _SAY
    + r"""
{%- for message in messages -%}
  {{ '<|im_start|>' + message.role + '\n' + say(message.content) + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""
)

_SMOLLM = r"""
{%- if messages[0].role != 'system' -%}
  {{ '<|im_start|>system\nYou are SmolLM, a small and helpful model.<|im_end|>\n' }}
{%- endif -%}
"""

_HERMES = (
    _SAY
    + r"""
{%- set rest = messages -%}
{%- set system = '' -%}
{%- if messages[0].role == 'system' -%}
  {%- set system = say(messages[0].content) -%}
  {%- set rest = messages[1:] -%}
{%- endif -%}
{%- if tools -%}
  {{ '<|im_start|>system\n' + (system + '\n\n' if system else '') + '# Tools\n\nFunctions you may call:\n<tools>' }}
  {%- for tool in tools -%}{{ '\n' + (tool | tojson) }}{%- endfor -%}
  {{ '\n</tools>\n\nWrite each call as:\n<tool_call>\n{"name": <name>, "arguments": <object>}\n</tool_call>' }}
  {{- '<|im_end|>\n' }}
{%- elif system -%}
  {{ '<|im_start|>system\n' + system + '<|im_end|>\n' }}
{%- endif -%}
{%- for message in rest -%}
  {%- if message.role == 'tool' -%}
    {%- if loop.first or loop.previtem.role != 'tool' -%}{{ '<|im_start|>user' }}{%- endif -%}
    {{ '\n<tool_response>\n' + say(message.content) + '\n</tool_response>' }}
    {%- if loop.last or loop.nextitem.role != 'tool' -%}{{ '<|im_end|>\n' }}{%- endif -%}
  {%- else -%}
    {%- set words = say(message.content) -%}
    {{ '<|im_start|>' + message.role + '\n' + words }}
    {%- for call in message.tool_calls or [] -%}
      {%- if words or not loop.first -%}{{ '\n' }}{%- endif -%}
      {{ '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
      {{- (call.function.arguments | tojson) + '}\n</tool_call>' }}
    {%- endfor -%}
    {{ '<|im_end|>\n' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""
)

_THINKING = r"""
{%- if add_generation_prompt and enable_thinking is defined and not enable_thinking -%}
  {{ '<think>\n\n</think>\n\n' }}
{%- endif -%}
"""

_LLAMA3 = (
    _SAY
    + r"""
{{- '<|begin_of_text|>' -}}
{%- set rest = messages -%}
{%- set system = '' -%}
{%- if messages[0].role == 'system' -%}
  {%- set system = say(messages[0].content) -%}
  {%- set rest = messages[1:] -%}
{%- endif -%}
{{ '<|start_header_id|>system<|end_header_id|>\n\n' + ('Environment: ipython\n' if tools else '') }}
{{- system + '<|eot_id|>' }}
{%- for message in rest -%}
  {%- if loop.first and tools and message.role == 'user' -%}
    {{ '<|start_header_id|>user<|end_header_id|>\n\nFunctions you may call, as ' }}
    {{- '{"name": <name>, "parameters": <object>}:\n\n' }}
    {%- for tool in tools -%}{{ (tool | tojson(indent=4)) + '\n\n' }}{%- endfor -%}
    {{ say(message.content) + '<|eot_id|>' }}
  {%- elif message.tool_calls -%}
    {%- if message.tool_calls | length != 1 -%}{{ raise_exception('one call at a time') }}{%- endif -%}
    {%- set call = message.tool_calls[0].function -%}
    {{ '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "' + call.name + '", "parameters": ' }}
    {{- (call.arguments | tojson) + '}<|eot_id|>' }}
  {%- else -%}
    {%- set role = 'ipython' if message.role == 'tool' else message.role -%}
    {{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' + say(message.content) + '<|eot_id|>' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%}
"""
)

_GEMMA = (
    _SAY
    + r"""
{{- '<bos>' -}}
{%- set rest = messages -%}
{%- set first = '' -%}
{%- if messages[0].role == 'system' -%}
  {%- set first = say(messages[0].content) + '\n\n' -%}
  {%- set rest = messages[1:] -%}
{%- endif -%}
{%- for message in rest -%}
  {%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
    {{ raise_exception('roles must alternate: user, assistant, user, assistant') }}
  {%- endif -%}
  {%- set role = 'model' if message.role == 'assistant' else message.role -%}
  {{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}
  {{- (say(message.content) | trim) + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
"""
)

_IDEFICS = r"""
{{- 'START' -}}
{%- for message in messages -%}
  {{ message.role | capitalize }}
  {%- if message.content[0].type == 'image' -%}{{ ':' }}{%- else -%}{{ ': ' }}{%- endif -%}
  {%- for block in message.content -%}
    {%- if block.type == 'text' -%}{{ block.text }}{%- elif block.type == 'image' -%}{{ '<image>' }}{%- endif -%}
  {%- endfor -%}
  {{ '<end_of_utterance>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}
"""

_LLAVA = r"""
{%- for message in messages -%}
  {%- if message.role != 'system' -%}{{ message.role | upper + ': ' }}{%- endif -%}
  {%- for block in message.content if block.type == 'image' -%}{{ '<image>\n' }}{%- endfor -%}
  {%- for block in message.content if block.type == 'text' -%}{{ block.text + ' ' }}{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""

_LLAVA_ONEVISION = r"""
{%- for message in messages -%}
  {{ '<|im_start|>' + message.role + ' ' }}
  {%- for block in message.content if block.type == 'image' -%}{{ '<image>' }}{%- endfor -%}
  {%- for block in message.content if block.type == 'text' -%}{{ '\n' + block.text }}{%- endfor -%}
  {{ '<|im_end|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""

_QWEN_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"

TEMPLATES: dict[str, str] = {
    "llava": _LLAVA,
    "llava_onevision": _LLAVA_ONEVISION,
    "smolvlm": _IDEFICS.replace("START", "<|im_start|>"),
    "idefics3": _IDEFICS.replace("START", "<|begin_of_text|>"),
    "internvl": _CHATML.replace("PICTURE", "<IMG_CONTEXT>\\n"),
    "qwen2_5_vl": _CHATML.replace("PICTURE", _QWEN_PICTURE),
    "qwen3_vl": _HERMES.replace("PICTURE", _QWEN_PICTURE),
    "gemma3": _GEMMA.replace("PICTURE", "<start_of_image>"),
    "llama": _LLAMA3,
    "qwen2": _HERMES,
    "qwen3": _HERMES + _THINKING,
    "smollm": _SMOLLM + _CHATML,
    "gemma3_text": _GEMMA,
}
"""By family."""
