"""Prices that differ from the book: which entry decides, and that every cost is the exact one."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import us_from_time
from schemas.prices import ContextTier, PriceOverlay, PricePeriod, SomeTokenPrices, TokenPrices
from schemas.usage import IterationUsage, Usage
from services.runtime.price_book import PriceBook
from services.runtime.price_overlays import Overlays
from services.runtime.pricing import Cost, cost_picos

BOOK = PriceBook.load()
MODELS = [model.id for model in BOOK.models]
NAMES = [name for model in BOOK.models for name in (model.id, *model.aliases)]
NEW = "our-fine-tune"
DAY = date(2026, 11, 1)
KINDS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
PICOS = 10**12


def at_us(day: date) -> int:
    return us_from_time(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))


def entry(model: str, multiplier: str | None = None, **fields: object) -> PriceOverlay:
    return PriceOverlay(model=model, multiplier=multiplier, **fields)  # type: ignore[arg-type]


def price(book: PriceBook, model: str, day: date = DAY) -> Fraction | None:
    """Return dollars per million input tokens, None where there is no price."""
    cost = cost_picos(book, Usage(input_tokens=1000), model, at_us(day)).cost
    return None if cost is None else Fraction(cost.total * 1000, PICOS)


def with_file(*entries: PriceOverlay) -> PriceBook:
    return BOOK.with_overlays(Overlays(file=entries))


def test_of_several_entries_the_one_that_says_most_exactly_which_model_decides() -> None:
    # Given entries for all models, for a family and for one model, in any order,
    entries = (entry("*", "0.9"), entry("claude-opus-5", "0.5"), entry("claude-opus-*", "0.8"))
    for book in (with_file(*entries), with_file(*reversed(entries))):
        # when models are priced, then one entry decides by itself: nothing is multiplied twice.
        assert price(book, "claude-opus-5") == Fraction("2.5")
        assert price(book, "claude-opus-4-8[1m]") == 4
        assert price(book, "claude-sonnet-5") == Fraction("1.8")
        assert price(book, "gpt-4") is None
    # Of two entries under two names of one model, which no configuration may have, the first.
    twice = (entry("claude-opus-4", "0.5"), entry("claude-opus-4-0", "0.25"))
    assert price(with_file(*twice), "claude-opus-4-0") == Fraction("7.5")
    assert price(with_file(*reversed(twice)), "claude-opus-4-0") == Fraction("3.75")


def test_an_entry_of_the_api_goes_before_those_of_the_file() -> None:
    book = BOOK.with_overlays(
        Overlays(file=(entry("claude-opus-5", "0.5"),), api=(entry("claude-*", "0.9"),))
    )
    assert price(book, "claude-opus-5") == Fraction("4.5")


def test_an_entry_holds_for_every_name_of_its_model_and_from_day_to_day() -> None:
    # Given an entry by a dated name with both bounds, when requests start around them.
    prices = SomeTokenPrices(input="1")
    book = with_file(
        entry(
            "claude-sonnet-4-20250514",
            usd_per_mtok=prices,
            valid_from=DAY,
            valid_to=DAY + timedelta(days=2),
        )
    )
    by_day = [price(book, "claude-sonnet-4-0", DAY + timedelta(days=n)) for n in (-1, 0, 1, 2)]
    assert by_day == [3, 1, 1, 3]


def test_a_model_that_entries_alone_know_is_priced_by_them() -> None:
    whole = entry(
        NEW,
        usd_per_mtok=SomeTokenPrices(
            input="3", output="15", cache_read="0.3", cache_write_5m="3.75", cache_write_1h="6"
        ),
        batch_multiplier="0.5",
        usd_per_1000_web_searches="10",
    )
    book = with_file(whole)
    assert (book.canonical_name(NEW), BOOK.canonical_name(NEW)) == (NEW, None)
    assert price(book, NEW) == 3
    unpriced = cost_picos(book, Usage(input_tokens=1, speed="fast"), NEW, at_us(DAY)).unpriced
    assert unpriced == f"the model {NEW!r} has no price for fast mode"


def test_a_fraction_of_a_pico_dollar_is_rounded_once_half_up() -> None:
    # Given a price of half a pico-dollar for a token, when one, two and three are used.
    book = with_file(entry("claude-opus-5", "0.5", usd_per_mtok=SomeTokenPrices(output="0.000001")))
    costs = [
        cost_picos(book, Usage(output_tokens=count), "claude-opus-5", at_us(DAY)).cost
        for count in (1, 2, 3)
    ]
    assert [cost.output for cost in costs if cost is not None] == [1, 1, 2]


amounts = st.one_of(
    st.sampled_from(["0", "0.000001", "3", "999999.999999", "0.925"]),
    st.decimals(min_value=0, max_value=1000, places=6).map(lambda value: f"{value:f}"),
)
some_tokens = st.builds(SomeTokenPrices, **{kind: st.one_of(st.none(), amounts) for kind in KINDS})
tiers = st.builds(
    lambda above, tokens: (ContextTier(above_prompt_tokens=above, usd_per_mtok=tokens),),
    st.integers(1, 400_000),
    st.builds(TokenPrices, **dict.fromkeys(KINDS, amounts)),
)
overlays = st.builds(
    PriceOverlay,
    model=st.sampled_from([*NAMES, "*", "claude-*", "claude-opus-*"]),
    valid_from=st.one_of(st.none(), st.dates(DAY - timedelta(days=400), DAY)),
    valid_to=st.one_of(st.none(), st.dates(DAY - timedelta(days=100), DAY + timedelta(days=9))),
    usd_per_mtok=st.one_of(st.none(), some_tokens),
    context_tiers=st.one_of(st.none(), st.just(()), tiers),
    batch_multiplier=st.one_of(st.none(), amounts),
    fast_multiplier=st.one_of(st.none(), amounts),
    inference_geo_multipliers=st.one_of(st.none(), st.just({}), st.just({"us": "1.07"})),
    usd_per_1000_web_searches=st.one_of(st.none(), amounts),
    multiplier=st.one_of(st.none(), amounts),
)
counts = st.one_of(st.integers(0, 300_000), st.integers(0, 10**9))
usages = st.builds(
    Usage,
    **{f"{kind}_tokens": counts for kind in KINDS},
    web_search_requests=st.integers(0, 1000),
    service_tier=st.sampled_from([None, "standard", "priority", "batch"]),
    speed=st.sampled_from([None, "standard", "fast"]),
    inference_geo=st.sampled_from([None, "global", "us", "not_available"]),
    iterations=st.one_of(
        st.just(()),
        st.tuples(
            st.builds(
                IterationUsage,
                type=st.just("compaction"),
                model=st.one_of(st.none(), st.sampled_from(NAMES)),
                **{f"{kind}_tokens": counts for kind in KINDS},
            )
        ),
    ),
)


def expected_cost(
    usage: Usage, model: str, day: date, entries: list[PriceOverlay]
) -> list[Fraction] | None:
    """Work the six components out again, in dollars, from the data alone; None: unpriced."""
    parts = [(usage, model)] + [(part, part.model or model) for part in usage.iterations]
    sums = [Fraction(0)] * 6
    for number, (part, name) in enumerate(parts):
        worked = expected_part(part, usage, name, day, entries)
        if worked is None:
            return None
        five, search, overall = worked
        sums = [
            before + rounded(amount * overall)
            for before, amount in zip(sums, [*five, Fraction(0)], strict=True)
        ]
        if number == 0:
            sums[5] = rounded(search * usage.web_search_requests * overall)
    return sums


def rounded(dollars: Fraction) -> Fraction:
    return Fraction((dollars * PICOS + Fraction(1, 2)).__floor__(), PICOS)


def expected_part(
    part: Usage | IterationUsage, usage: Usage, model: str, day: date, entries: list[PriceOverlay]
) -> tuple[list[Fraction], Fraction, Fraction] | None:
    known = next(each for each in BOOK.models if model in (each.id, *each.aliases))
    period = next(
        each
        for each in known.periods
        if (each.valid_from or date.min) <= day < (each.valid_to or date.max)
    )
    values = {name: getattr(period, name) for name in PricePeriod.__struct_fields__}
    tokens = {kind: getattr(period.usd_per_mtok, kind) for kind in KINDS}
    decisive = decisive_entry(known.id, {known.id, *known.aliases}, day, entries)
    if decisive is not None:
        for name in values.keys() - {"valid_from", "valid_to", "usd_per_mtok"}:
            if getattr(decisive, name) is not None:
                values[name] = getattr(decisive, name)
        for kind in KINDS:
            given_price = getattr(decisive.usd_per_mtok, kind, None)
            tokens[kind] = given_price if given_price is not None else tokens[kind]
    used = {kind: getattr(part, f"{kind}_tokens") for kind in KINDS}
    for tier in values["context_tiers"]:
        if sum(used.values()) - used["output"] > tier.above_prompt_tokens:
            tokens = {kind: getattr(tier.usd_per_mtok, kind) for kind in KINDS}
    factor = Fraction(1)
    if usage.service_tier == "batch":
        factor *= Fraction(values["batch_multiplier"])
    if usage.speed == "fast":
        if values["fast_multiplier"] is None:
            return None
        factor *= Fraction(values["fast_multiplier"])
    regions = values["inference_geo_multipliers"]
    if usage.inference_geo == "us" and regions:
        factor *= Fraction(regions["us"])
    five = [Fraction(tokens[kind]) * used[kind] * factor / 10**6 for kind in KINDS]
    overall = Fraction((decisive and decisive.multiplier) or "1")
    return five, Fraction(values["usd_per_1000_web_searches"]) / 1000, overall


def decisive_entry(
    model_id: str, names: set[str], day: date, entries: list[PriceOverlay]
) -> PriceOverlay | None:
    found = [
        each
        for each in entries
        if (each.valid_from or date.min) <= day < (each.valid_to or date.max)
        and (
            each.model in names
            or (each.model.endswith("*") and model_id.startswith(each.model[:-1]))
        )
    ]
    exact = [each for each in found if "*" not in each.model]
    by_length = sorted(found, key=lambda each: -len(each.model))
    return (exact or by_length or [None])[0]


@settings(max_examples=400, deadline=None)
@given(
    usage=usages,
    model=st.sampled_from(NAMES),
    entries=st.lists(overlays, max_size=4),
    day=st.dates(DAY - timedelta(days=300), DAY + timedelta(days=20)),
)
def test_every_cost_is_the_exact_one_rounded_at_most_once(
    usage: Usage, model: str, entries: list[PriceOverlay], day: date
) -> None:
    # Given any usage of any model under any entries, when it is priced and worked out again in
    # fractions from the data, then each component is the same to the last pico-dollar.
    priced = cost_picos(with_file(*entries), usage, model, at_us(day))
    expected = expected_cost(usage, model, day, entries)
    if expected is None:
        assert priced.cost is None
        assert "fast mode" in (priced.unpriced or "")
        return
    assert priced.cost is not None, priced.unpriced
    wanted = Cost(*(int(dollars * PICOS) for dollars in expected))
    assert priced.cost == wanted
