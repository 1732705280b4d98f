"""Markdown that grows: code is plain until its fence is closed, nothing is left out at the end, nothing is obeyed."""

from __future__ import annotations

from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Markdown

from mmagent.content import text
from mmagent.events import Citation, Event, TextDelta, ToolCalled, ToolFinished, TurnFailed, TurnFinished, Usage
from mmagent.tui.app import ChatApp
from mmagent.tui.markdown import BLOCKS, GrowingMarkdown, PlainFence, Section
from mmagent.tui.story import Story
from mmagent.tui.turns import Over
from tests.tui.driving import happen, maker, running, screen_text, shown, until

CODE = "Here:\n\n```python\ndef f(a):\n    return a\n"


def piece(words: str) -> TextDelta:
    return TextDelta(step=1, text=words)


def colours(fence: PlainFence) -> int:
    """How many kinds of styles stand in a fence."""
    return len({str(span.style) for span in fence._highlighted_code.spans})


async def asks(app: ChatApp, question: str = "?") -> None:
    await app.transcript.update([app.story.asked(question)])


async def test_a_fence_is_plain_while_it_is_open_and_has_colours_once_it_is_closed() -> None:
    app = ChatApp(maker())
    async with running(app):
        await asks(app)
        await happen(app, [piece(CODE)])
        (fence,) = app.query(PlainFence)
        assert not fence.finished and colours(fence) == 0
        await happen(app, [piece("    # more\n")])
        assert not app.query_one(PlainFence).finished
        await happen(app, [piece("```\n\nThat is it.")])
        fence = app.query_one(PlainFence)
        assert fence.finished and colours(fence) > 2
        await shown(app, "def f(a):", "# more", "That is it.")


async def test_a_fence_is_highlighted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    finish = PlainFence.finish

    def counted(self: PlainFence) -> None:
        if not self.finished:
            done.append(len(self.code))
        finish(self)

    monkeypatch.setattr(PlainFence, "finish", counted)
    app = ChatApp(maker())
    async with running(app):
        await asks(app)
        await happen(app, [piece("```python\n")])
        for number in range(20):
            await happen(app, [piece(f"x{number} = {number}\n")])
        assert not done
        await happen(app, [piece("```\n\nand "), piece("so")])
        await happen(app, [piece(" on.")])
        assert len(done) == 1


def finished(words: str) -> TurnFinished:
    return TurnFinished(text=words, usage=Usage(), steps=1, seconds=0.1)


WAYS: dict[str, list[Event | Over]] = {
    "finished": [finished(CODE + "the very end"), Over()],
    "failed": [TurnFailed(error="ModelError", message="gone"), Over()],
    "error": [Over("gone")],
    "call": [ToolCalled(step=1, id="1", name="act", args={})],
    "nothing said": [Over()],
}


@pytest.mark.parametrize("way", [*WAYS, "stop"])
async def test_however_it_ends_all_of_it_is_there_with_its_colours(way: str) -> None:
    app = ChatApp(maker())
    async with running(app):
        await asks(app)
        await happen(app, [piece(CODE)])
        assert not app.query_one(PlainFence).finished
        await happen(app, [piece("the very end")])
        if way == "stop":
            app.turns._future = app.background.submit(_nothing())
            app.do("stop", "")
        else:
            await happen(app, WAYS[way])
        await shown(app, "the very end", "return a")
        await until(lambda: app.query_one(PlainFence).finished)
        assert colours(app.query_one(PlainFence)) > 2


async def _nothing() -> None:
    pass


async def test_the_same_text_in_any_pieces_looks_the_same() -> None:
    whole = "# Title\n\nA *b* **c** `d`\n\n- one\n- two\n  - three\n\n1. x\n2. y\n"
    whole += "\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\n"
    whole += "\n```py\nx = 1\n```\n\nA [link](https://a.org) and the end\n"
    seen = []
    for size in (len(whole), 1, 7):
        app = ChatApp(maker())
        async with running(app, (80, 50)) as pilot:
            await asks(app)
            for at in range(0, len(whole), size):
                await happen(app, [piece(whole[at : at + size])])
            await happen(app, [finished(whole), Over()])
            await pilot.pause()
            seen.append([line.rstrip() for line in screen_text(app).splitlines() if line.strip()][1:-4])
    assert seen[1] == seen[0] and seen[2] == seen[0]


async def test_a_long_text_grows_in_its_last_section_only() -> None:
    whole = "".join(f"## {n}\n\nA *b*.\n\n- one\n- two\n\n```py\nx = {n}\n```\n\n" for n in range(12)) + "The end\n"
    seen, sections = [], []
    for size in (len(whole), 23):
        app = ChatApp(maker())
        async with running(app, (60, 180)) as pilot:
            await asks(app)
            for at in range(0, len(whole), size):
                await happen(app, [piece(whole[at : at + size])])
            await happen(app, [finished(whole), Over()])
            await pilot.pause()
            seen.append([line.strip() for line in screen_text(app).splitlines() if line.strip()][1:-4])
            sections.append([len(section.children) for section in app.query(Section)])
            assert all(fence.finished for fence in app.query(PlainFence))
    assert seen[1] == seen[0] and "x = 11" in seen[1] and "The end" in seen[1]
    assert sum(sections[0]) == sum(sections[1]) == 49 and max(sections[1]) <= BLOCKS + 1


async def test_a_line_end_that_is_cut_in_two_is_one() -> None:
    app = ChatApp(maker())
    async with running(app):
        await asks(app)
        for words in ("one\r", "\n\r", "\ntwo"):
            await happen(app, [piece(words)])
        await happen(app, [finished("one\r\n\r\ntwo"), Over()])
        await shown(app, "one", "two")
        assert "\\x0d" not in screen_text(app)


EVIL = "a\x1b]0;owned\x07b \x1b[2J \x9b31m \u202ecod.exe\u2066 [bold red]m[/] \ud800 `\x1b[1m`\n\n```\n\x1b[5m\n```\n"
OBEYED = {"\x1b", "\x07", "\x9b", "\u202e", "\u2066"}


class Only(App[None]):
    """A text and nothing else."""

    def compose(self) -> ComposeResult:
        yield GrowingMarkdown()


async def test_control_sequences_are_shown() -> None:
    app: Any = Only()
    async with app.run_test(size=(120, 20)) as pilot:
        await app.query_one(GrowingMarkdown).show(EVIL, more=True)
        await app.query_one(GrowingMarkdown).show(EVIL + EVIL, more=True)
        await pilot.pause()
        seen = screen_text(app)
        assert not set(seen) & OBEYED
        assert seen.count(r"\x1b]0;owned") == 2 and r"\x9b31m" in seen and "[bold red]m[/]" in seen
        assert r"\x1b[5m" in seen, "in code, too"


async def test_nothing_of_a_conversation_is_obeyed() -> None:
    """Questions, thoughts, names of tools, arguments, progress, results, errors, notes, plans, sources."""
    app = ChatApp(maker())
    evil = EVIL.replace("\ud800", "")
    cited = Citation(number=1, title=evil, uri=f"{evil}.md", quote=evil, kind="page", page=3)
    done = TurnFinished(text=evil, citations=(cited,), usage=Usage(), steps=1, seconds=0.1)
    async with running(app, (100, 60)) as pilot:
        await app.transcript.set_results("always")
        await asks(app, evil)
        calls: list[Event | Over] = []
        for number, (result, data, error) in enumerate(
            [(evil, None, None), ("", {evil: evil}, None), ("", [{evil: evil}], None), ("", None, evil)]
        ):
            name, id = f"t{evil}", str(number)
            calls += [
                ToolCalled(step=1, id=id, name=name, args={evil: evil}),
                ToolFinished(step=1, id=id, name=name, content=(text(result),), data=data, error=error, seconds=0.1),
            ]
        for events in (calls[:4], calls[4:], [piece(evil)], [done], [Over(evil)]):
            await happen(app, events)
            await pilot.pause()
            assert not set(screen_text(app)) & OBEYED
        await app.tell(evil, "error")
        app.status.figures.working = app.status.figures.session = evil
        app.status.show()
        await pilot.pause()
        assert not set(screen_text(app)) & OBEYED
        await shown(app, "[bold red]m[/]")
        app.work(_open(app, cited))
        await shown(app, "Esc closes")
        assert not set(screen_text(app)) & OBEYED


async def _open(app: ChatApp, citation: Citation) -> None:
    from mmagent.tui.panels import open_citation

    await open_citation(app, citation)


async def test_links_are_told_of_and_only_those_of_the_web_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    app = ChatApp(maker())
    async with running(app) as pilot:
        monkeypatch.setattr(app, "open_url", lambda url, **more: opened.append(url))
        story = Story()
        story.asked("?")
        await app.transcript.open(story)
        markdown = Section()
        for href in ("file:///etc/passwd", "javascript:alert(1)", "https://a.org/", "[bold]x"):
            app.on_markdown_link_clicked(Markdown.LinkClicked(markdown, href))
        await pilot.pause()
        assert opened == ["https://a.org/"]
        await shown(app, "file:///etc/passwd", "[bold]x")
