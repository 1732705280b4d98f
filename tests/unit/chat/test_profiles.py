from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image as Pillow
from transformers import AutoTokenizer

from mmagent.chat import ModelRequest, ToolSpec
from mmagent.chat.conversation import conversation
from mmagent.chat.profiles import Profile, profile_of
from mmagent.content import Image, Message, text
from mmagent.engine.grammar.formats import HERMES, LLAMA3, MMAGENT, SMOLLM2
from mmagent.engine.processors import load_processor
from mmagent.errors import ContextOverflow, ModelError
from mmagent.media import BlobStore
from mmagent.settings import settings
from mmagent.testing import tiny_checkpoint
from mmagent.testing.templates import TEMPLATES
from mmagent.testing.tiny import byte_tokenizer

LOOK = ToolSpec("look", "Look.", {"type": "object", "properties": {"id": {"type": "string"}}})
WORDS = Profile("llava", HERMES)


def profile(family: str, template: str) -> Profile:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return profile_of(SimpleNamespace(model_type=family), tokenizer)


def call(id: str) -> Any:
    return {"type": "tool_call", "id": id, "name": "look", "args": {"id": id}}


def said(role: Any, *blocks: Any, **more: Any) -> Message:
    return Message(role=role, content=tuple(text(b) if isinstance(b, str) else b for b in blocks), **more)


TURN = (
    said("user", "where?"),
    said("assistant", "I look.", call("a"), call("b")),
    said("tool", "here", tool_call_id="a", name="look"),
    said("tool", "there", tool_call_id="b", name="look"),
)


def rendered(profile: Profile, *messages: Message, tools: tuple[ToolSpec, ...] = (LOOK,)) -> list[tuple[str, str]]:
    request = ModelRequest(messages, BlobStore(Path("nowhere")), tools)
    made = conversation(request, profile, "m", sees=False)
    assert made.tools == [] or profile.takes_tools
    return [(message["role"], message["content"]) for message in made.messages]


def test_the_template_tells_what_it_knows() -> None:
    own = byte_tokenizer()
    assert profile_of(SimpleNamespace(model_type="mmagent"), own) == Profile("mmagent", MMAGENT, takes_tools=True)
    assert profile("qwen2", TEMPLATES["qwen2"]) == Profile("qwen2", HERMES, takes_tools=True)
    assert profile("llama", TEMPLATES["llama"]) == Profile("llama", LLAMA3, takes_tools=True, one_call=True)
    assert profile("llama", TEMPLATES["smollm"]) == Profile("llama", SMOLLM2)
    assert not profile("gemma3_text", TEMPLATES["gemma3_text"]).takes_tools


def test_thoughts_are_those_that_the_template_speaks_of() -> None:
    thinking = profile("qwen3", TEMPLATES["qwen3"])
    assert (thinking.reasoning, thinking.reasoning_open) == (("<think>", "</think>"), False)
    begins = TEMPLATES["qwen2"] + "{%- if add_generation_prompt -%}{{ '<think>\\n' }}{%- endif -%}"
    assert profile("qwen3", begins).reasoning_open
    assert profile("qwen2", TEMPLATES["qwen2"]).reasoning is None


def test_calls_that_no_grammar_writes_are_described_in_words() -> None:
    """A template may show tools and still write calls in a way of its own."""
    own_way = "{{ tools }}{% for m in messages %}{{ m.content }}{{ m.tool_calls }}{% endfor %}"
    assert profile("qwen2", own_way) == Profile("qwen2", HERMES)


def test_an_unknown_family_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert profile("some_new_family", "{{ messages }}").format == HERMES
    assert [record.message for record in caplog.records if "some_new_family" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1


def test_a_template_without_tools_is_told_of_them_in_words() -> None:
    system, user, assistant, results = rendered(WORDS, said("system", "Be brief."), *TURN)
    assert system[0] == "system" and system[1].startswith("Be brief.\n\nYou can call functions.")
    assert '"name": "look"' in system[1]
    assert '<tool_call>\n{"name": "<name>", "arguments": <arguments>}\n</tool_call>' in system[1]
    assert user == ("user", "where?")
    one, other = (f'<tool_call>\n{{"name": "look", "arguments": {{"id": "{id}"}}}}\n</tool_call>' for id in "ab")
    assert assistant == ("assistant", f"I look.\n{one}\n{other}")
    one, other = (f"<tool_response>\n{words}\n</tool_response>" for words in ("here", "there"))
    assert results == ("user", f"{one}\n{other}")


def test_the_tools_make_a_system_message_where_there_is_none() -> None:
    assert [role for role, _ in rendered(WORDS, said("user", "x"))] == ["system", "user"]
    assert rendered(WORDS, said("user", "x"), tools=()) == [("user", "x")]


def test_a_list_of_calls_stands_in_one_pair_of_marks() -> None:
    said = rendered(Profile("smolvlm", SMOLLM2), *TURN)[2][1]
    calls = ('{"name": "look", "arguments": {"id": "a"}}', '{"name": "look", "arguments": {"id": "b"}}')
    assert said == f"I look.\n<tool_call>[{', '.join(calls)}]</tool_call>"


def test_user_and_assistant_alternate_after_results() -> None:
    roles = [role for role, _ in rendered(WORDS, *TURN, said("user", "well?"), said("assistant", "ok"), tools=())]
    assert roles == ["user", "assistant", "user", "assistant"]


def test_a_template_of_one_call_gets_each_with_its_result() -> None:
    request = ModelRequest(TURN, BlobStore(Path("nowhere")), (LOOK,))
    made = conversation(request, Profile("llama", LLAMA3, takes_tools=True, one_call=True), "m", sees=False)
    calls = [[c["function"]["arguments"]["id"] for c in m.get("tool_calls", ())] for m in made.messages]
    assert [m["role"] for m in made.messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert calls == [[], ["a"], [], ["b"], []]
    assert [m["content"] for m in made.messages] == ["where?", "I look.", "here", "", "there"]


def test_thoughts_are_not_given_back() -> None:
    thought: Any = {"type": "reasoning", "reasoning": "secret"}
    made = rendered(WORDS, said("user", "x"), said("assistant", thought, "yes", call("a")))
    assert "secret" not in str(made)


def test_more_pictures_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAGENT_MAX_IMAGES_PER_TURN", "2")
    settings.cache_clear()
    blobs = BlobStore(tmp_path)
    block = blobs.admit(Image(Pillow.new("RGB", (8, 8))), settings())
    three = said("user", "x", block, block, block)

    def build(*messages: Message, sees: bool = True) -> int:
        return len(conversation(ModelRequest(messages, blobs), WORDS, "m", sees=sees).pictures)

    with pytest.raises(ContextOverflow, match=r"has 3 pictures, the limit is 2; .*MMAGENT_MAX_IMAGES_PER_TURN"):
        build(three)
    assert build(three, said("assistant", "a"), said("user", "y", block)) == 4  # earlier turns have their own limit
    with pytest.raises(ModelError, match="m takes no image"):
        build(said("user", "x", block), sees=False)


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl", "internvl", "llava_onevision"])
def test_processors_that_want_torchvision_load_without_it(family: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    folder = tiny_checkpoint(family, tmp_path / family)
    processor = load_processor(folder, AutoConfig.from_pretrained(folder), local_files_only=True)
    assert processor.chat_template == TEMPLATES[family]
    with pytest.raises(ValueError, match="videos cannot be taken"):
        processor.video_processor(None)


@pytest.mark.parametrize("family", ["llava", "idefics3", "gemma3"])
def test_a_mended_processor_makes_what_transformers_own_makes(family: str, tmp_path: Path) -> None:
    """Of those that load without torchvision; the others' picture parts are the same classes."""
    from transformers import AutoConfig, AutoProcessor

    folder = tiny_checkpoint(family, tmp_path / family)
    mended = load_processor(folder, AutoConfig.from_pretrained(folder), local_files_only=True)
    pictures = [Pillow.linear_gradient("L").resize(size).convert("RGB") for size in ((40, 30), (200, 50))]
    blocks = [{"type": "image", "image": picture} for picture in pictures]
    messages = [{"role": "user", "content": [*blocks, {"type": "text", "text": "What are these?"}]}]
    made, theirs = (
        maker.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
        for maker in (mended, AutoProcessor.from_pretrained(folder))
    )
    assert set(made) == set(theirs)
    assert all((made[name] == theirs[name]).all() for name in theirs)


def test_a_tiny_checkpoint_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    files = [
        tiny_checkpoint("qwen3", tmp_path / str(n), seed) / "model.safetensors" for n, seed in enumerate((1, 1, 2))
    ]
    same, again, other = (file.read_bytes() for file in files)
    assert same == again != other
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "0")
    assert tokenizer.decode(tokenizer.encode("naïve 猫 <tool_call>")) == "naïve 猫 <tool_call>"
    with pytest.raises(ValueError, match="there is no family 'x'; there are: nano, llava"):
        tiny_checkpoint("x", tmp_path / "x")
