"""`tallygate prices check`: known differences pass, any other is a fault with its figures."""

import time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.cli import run
from services.commands import price_check
from services.runtime.price_book import PriceBook

BOOK = PriceBook.load()


def litellm_file(tmp_path: Path, **changes: str) -> Path:
    """Write a file like LiteLLM's, with the book's own prices but for changes of Opus 5."""
    entries = {
        model.id: {
            "litellm_provider": "anthropic",
            "input_cost_per_token": Decimal(period.usd_per_mtok.input) / 1_000_000,
        }
        for model in BOOK.models
        if (period := BOOK.price_for(model.id, time.time_ns() // 1000)) is not None
    }
    encoder = msgspec.json.Encoder(decimal_format="number")
    text = encoder.encode(entries | {"gpt": {"litellm_provider": "openai"}}).decode()
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    path = tmp_path / "prices.json"
    path.write_text(text)
    return path


def test_every_difference_to_genai_prices_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    # Given the installed genai-prices, when the book is compared, then nothing is unexplained.
    assert run(["prices", "check"]) == 0
    out = capsys.readouterr().out
    assert "known   claude-mythos-5: only in tallygate's price book (limited" in out
    assert "4 known differences, 0 unknown, 0 gone" in out


def test_an_unlisted_difference_and_a_listed_one_that_is_gone_are_faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = dict(price_check.GENAI_DIFFERENCES)
    reason = listed.pop("claude-2: not in tallygate's price book")
    monkeypatch.setattr(price_check, "GENAI_DIFFERENCES", listed | {"claude-x: is odd": reason})
    assert run(["prices", "check"]) == 1
    out = capsys.readouterr().out
    assert "UNKNOWN claude-2: not in tallygate's price book\n" in out
    assert "GONE    claude-x: is odd" in out


def test_litellms_file_is_compared_digit_by_digit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a file with one other price and one new model, then both are told with their figures.
    path = litellm_file(tmp_path)
    assert run(["prices", "check", "--litellm", str(path)]) == 0
    other = litellm_file(
        tmp_path, **{'"claude-fable-5-2"': '"claude-fable-6"', "0.000004}": "0.0000041}"}
    )
    assert run(["prices", "check", "--litellm", str(other)]) == 1
    out = capsys.readouterr().out
    assert "UNKNOWN claude-fable-6: not in tallygate's price book\n" in out
    assert "UNKNOWN claude-opus-5-5: input is 4 here and 4.1 there\n" in out
    assert "known   claude-fable-5-2: only in tallygate's price book (newer" in out


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b"\xff", None])
def test_a_file_that_is_none_of_litellms_is_said_to_be_so(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    assert run(["prices", "check", "--litellm", str(path)]) == 78
    assert str(path) in capsys.readouterr().err
