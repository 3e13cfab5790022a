from __future__ import annotations

import io

import pytest

from resight import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track("abc", "letters", 3)) == ["a", "b", "c"]
    with progress.bar("work", None) as running:
        running.advance(2)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_bar_counts_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress.track(range(3), "chips", 3)) == [0, 1, 2]
    assert "chips" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_the_bar_ends_with_the_error_that_ended_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    with pytest.raises(LookupError), progress.bar("work", 2):
        raise LookupError
    # A bar that still ran would refuse the next one.
    assert list(progress.track("ab", "letters")) == ["a", "b"]


def test_a_bar_within_a_bar_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.bar("outer", 1):
        assert list(progress.track("abc", "inner", 3)) == ["a", "b", "c"]
    assert "outer" in terminal.getvalue()
    assert "inner" not in terminal.getvalue()
    assert list(progress.track("abc", "after", 3)) == ["a", "b", "c"]
    assert "after" in terminal.getvalue()
