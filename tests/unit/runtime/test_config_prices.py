"""`prices:` and LiteLLM's price keys: read exactly, checked whole, with lines and nearest names."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from schemas.prices import ContextTier, PriceOverlay, SomeTokenPrices, TokenPrices
from services.runtime.config import read_config
from services.runtime.price_checks import OVERLAYS_MAX

WHOLE = """\
prices:
  - model: claude-sonnet-5
    valid_from: 2026-01-01
    valid_to: 2027-01-01
    usd_per_mtok: {input: 1.80, output: "9", cache_read: 0.1, cache_write_5m: 2, cache_write_1h: 3}
    context_tiers:
      - above_prompt_tokens: 200000
        usd_per_mtok: {input: 4, output: 20, cache_read: 0.4, cache_write_5m: 5, cache_write_1h: 8}
    batch_multiplier: 0.4
    fast_multiplier: 2
    inference_geo_multipliers: {us: 1.1, eu: 1.2}
    usd_per_1000_web_searches: 9.5
    multiplier: 0.925
    source: a contract
"""
MODEL = "model_list:\n  - model_name: m\n    litellm_params: {model: anthropic/%s, api_key: k%s}\n"


def read(text: str) -> tuple[PriceOverlay, ...]:
    return read_config(text.encode(), "config.yaml", {}).prices


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(text)
    return [line.removeprefix("config.yaml:") for line in str(raised.value).split("\n")[1:]]


def test_every_component_is_read_as_it_is_written() -> None:
    # Given an entry with all there is, quoted or not, then nothing of it is lost or rounded.
    assert read(WHOLE) == (
        PriceOverlay(
            model="claude-sonnet-5",
            valid_from=date(2026, 1, 1),
            valid_to=date(2027, 1, 1),
            usd_per_mtok=SomeTokenPrices(
                input="1.80", output="9", cache_read="0.1", cache_write_5m="2", cache_write_1h="3"
            ),
            context_tiers=(
                ContextTier(
                    above_prompt_tokens=200000,
                    usd_per_mtok=TokenPrices(
                        input="4",
                        output="20",
                        cache_read="0.4",
                        cache_write_5m="5",
                        cache_write_1h="8",
                    ),
                ),
            ),
            batch_multiplier="0.4",
            fast_multiplier="2",
            inference_geo_multipliers={"us": "1.1", "eu": "1.2"},
            usd_per_1000_web_searches="9.5",
            multiplier="0.925",
            source="a contract",
        ),
    )


@given(st.decimals(min_value=0, max_value=999_999, places=6))
def test_an_amount_never_goes_through_a_float(price: Decimal) -> None:
    # Given any amount of six decimals, when it stands in the file unquoted, then it is that one.
    (entry,) = read(f"prices: [{{model: claude-opus-5, usd_per_mtok: {{input: {price:f}}}}}]\n")
    assert entry.usd_per_mtok is not None
    assert entry.usd_per_mtok.input is not None
    assert Decimal(entry.usd_per_mtok.input) == price


WRONG = {
    "unknown model": (
        "prices:\n  - model: claude-sonet-5\n    multiplier: 0.9\n",
        (
            "2: prices[0] (claude-sonet-5) names a model that the price book does not know: did "
            "you mean claude-sonnet-5? A new one needs usd_per_mtok.input, "
        ),
    ),
    "pattern of nothing": (
        "prices: [{model: gpt-*, multiplier: 0.9}]\n",
        "1: prices[0] (gpt-*) matches no model of the price book; a new model needs ",
    ),
    "unknown key": (
        "prices:\n  - {model: claude-opus-5, multipler: 0.9}\n",
        "2: prices[0].multipler is not known: did you mean multiplier?",
    ),
    "unknown component": (
        "prices:\n  - model: claude-opus-5\n    usd_per_mtok:\n      inptu: 3\n",
        "4: prices[0].usd_per_mtok.inptu is not known: did you mean input?",
    ),
    "component in the wrong place": (
        "prices:\n  - {model: claude-opus-5, cache_read: 3}\n",
        "2: prices[0].cache_read is not known here: it belongs into usd_per_mtok",
    ),
    "no model": ("prices: [{multiplier: 0.9}]\n", "1: prices[0].model is missing"),
    "no entry": ("prices: [claude-opus-5]\n", "1: prices[0] must be a mapping"),
    "no list": ("prices: {model: claude-opus-5}\n", "1: prices must be a list"),
    "changes nothing": (
        "prices: [{model: claude-opus-5, source: x}]\n",
        "1: prices[0] (claude-opus-5) changes no price",
    ),
    "negative": (
        "prices: [{model: claude-opus-5, multiplier: -1}]\n",
        "1: prices[0].multiplier must be an amount such as 3 or 0.25",
    ),
    "not a number": (
        "prices: [{model: claude-opus-5, usd_per_mtok: {input: .nan}}]\n",
        "1: prices[0].usd_per_mtok.input must be an amount",
    ),
    "a truth": (
        "prices: [{model: claude-opus-5, multiplier: true}]\n",
        "1: prices[0].multiplier must be an amount",
    ),
    "too fine": (
        "prices: [{model: claude-opus-5, usd_per_mtok: {input: 0.0000001}}]\n",
        "1: prices[0].usd_per_mtok.input must have six digits before the point and six decimals",
    ),
    "no day": (
        "prices: [{model: claude-opus-5, multiplier: 1, valid_from: 2026-02-30}]\n",
        "1: prices[0].valid_from must be a day such as 2026-12-31",
    ),
    "ends before it begins": (
        (
            "prices: [{model: claude-opus-5, multiplier: 1, valid_from: 2026-02-02, "
            "valid_to: 2026-02-02}]\n"
        ),
        "1: prices[0] (claude-opus-5) ends on 2026-02-02 (valid_to), not after it begins",
    ),
    "tier with a gap": (
        "prices:\n  - model: claude-opus-5\n    context_tiers:\n      - {above_prompt_tokens: 5}\n",
        "4: prices[0].context_tiers[0] lacks input, output, cache_read, cache_write_5m",
    ),
    "the same model under two names": (
        (
            "prices:\n"
            "  - {model: claude-sonnet-4-0, multiplier: 0.9, valid_to: 2026-06-02}\n"
            "  - {model: claude-sonnet-4-20250514, multiplier: 0.8, valid_from: 2026-06-01}\n"
        ),
        (
            "3: prices[1] (claude-sonnet-4-20250514) holds for claude-sonnet-4-0 on the same days "
            "as prices[0] (claude-sonnet-4-0): end one of them"
        ),
    ),
}


@pytest.mark.parametrize(("text", "problem"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_entry_is_told_with_its_line_and_what_to_do(text: str, problem: str) -> None:
    found = problems(text)
    assert any(line.startswith(problem) for line in found), found


def test_patterns_of_the_same_weight_must_not_meet() -> None:
    # Given two patterns with as many letters that match one model on one day, both are named.
    text = "prices: [{model: '*-opus-5', multiplier: 1}, {model: 'claude-*', multiplier: 2}]\n"
    found = problems(text)
    assert found == [
        (
            "1: prices[1] (claude-*) holds for claude-opus-5 on the same days as prices[0] "
            "(*-opus-5): end one of them (valid_to) before the other begins (valid_from)"
        )
    ]


def test_entries_that_follow_each_other_or_differ_in_weight_are_no_overlap() -> None:
    # Given adjoining periods, a name beside patterns, and patterns of different length.
    text = (
        "prices:\n"
        "  - {model: claude-opus-5, multiplier: 0.9, valid_to: 2026-06-01}\n"
        "  - {model: claude-opus-5, multiplier: 0.8, valid_from: 2026-06-01}\n"
        "  - {model: 'claude-*', multiplier: 0.7}\n"
        "  - {model: '*', multiplier: 0.6}\n"
    )
    assert len(read(text)) == 4


def test_too_many_entries_are_refused() -> None:
    days = [f"  - {{model: x{n}, multiplier: 1}}\n" for n in range(OVERLAYS_MAX + 1)]
    (problem,) = problems("prices:\n" + "".join(days))
    assert problem.startswith(f"{OVERLAYS_MAX + 2}: prices[{OVERLAYS_MAX}]")
    assert "one too many" in problem


def test_prices_of_litellm_make_an_entry_of_the_model() -> None:
    # Given LiteLLM's prices of a token, as its files have them, then they are the same per million.
    params = (
        ", input_cost_per_token: 0.000003, output_cost_per_token: 1.5e-05, "
        "cache_read_input_token_cost: 3e-7, cache_creation_input_token_cost: 3.75e-06, "
        "cache_creation_input_token_cost_above_1hr: 0.000006"
    )
    (entry,) = read(MODEL % ("claude-sonnet-4-5", params))
    assert entry.model == "claude-sonnet-4-5"
    tokens = entry.usd_per_mtok
    assert tokens is not None
    amounts = [getattr(tokens, name) for name in SomeTokenPrices.__struct_fields__]
    assert [Decimal(each) for each in amounts] == [3, 15, Decimal("0.3"), Decimal("3.75"), 6]


def test_prices_of_a_deployment_alone_are_refused() -> None:
    # Given two ways to one model with different prices, then the file is refused: a model has one.
    other = MODEL.partition("\n")[2] % ("claude-opus-5", "")
    (problem,) = problems(MODEL % ("claude-opus-5", ", input_cost_per_token: 0.000001") + other)
    assert problem.startswith("3: the entries of model_list for claude-opus-5 have different")


def test_prices_of_a_pattern_in_model_list_are_refused() -> None:
    text = MODEL.replace("name: m", "name: '*'") % ("*", ", input_cost_per_token: 0.000001")
    assert any("prices of a model with *" in problem for problem in problems(text))


def test_discount_and_margin_of_litellm_are_one_multiplier() -> None:
    # Given five percent off and ten on top of it, then every cost is multiplied by both.
    text = (
        "litellm_settings:\n"
        "  cost_discount_config: {anthropic: 0.05, openai: 0.2}\n"
        "  cost_margin_config: {global: 0.10}\n"
    )
    (entry,) = read(text)
    assert (entry.model, entry.multiplier) == ("*", "1.045")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "litellm_settings:\n  cost_margin_config:\n    anthropic: {fixed_amount: 0.001}\n",
            "3: litellm_settings.cost_margin_config: an amount per request is not supported",
        ),
        (
            (
                "litellm_settings:\n  cost_discount_config: {anthropic: 0.1}\n"
                "prices: [{model: claude-opus-5, multiplier: 1}]\n"
            ),
            "2: a discount or margin for all models beside prices of single ones",
        ),
    ],
)
def test_what_litellm_means_otherwise_is_refused(text: str, problem: str) -> None:
    assert problems(text)[0].startswith(problem)
