"""The REST routes of the simulated sources: a path in, a status and a JSON body out. Pure.

The venue's own routes are its protocol's matter; here are the two asset sources, CoinPaprika's tickers and CoinGecko's
markets, all of the same moving market, and what every server answers that is asked too much or for nothing it has.
"""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from coinstream.simulator import assets
from coinstream.simulator.publisher import Publisher, Reply
from coinstream.simulator.schedule import Schedule

__all__ = ["count", "reply_to"]

_MOST_PER_PAGE = 250


def reply_to(target: str, publisher: Publisher) -> Reply:
    """Answer a GET.

    Args:
        target: The path, with its query if there is one.
        publisher: Whose market to show.
    """
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    path = unquote(parts.path).rstrip("/")
    schedule = publisher.schedule
    if path == "/v1/tickers":
        body = assets.coinpaprika_tickers(schedule.market.instruments, time_us=schedule.time_us)
        return Reply(HTTPStatus.OK, body)
    if path == "/api/v3/coins/markets":
        return _coingecko(query, schedule)
    reply = publisher.reply(path, query)
    if reply is None:
        return _error(HTTPStatus.NOT_FOUND, {"error": "NOT_FOUND", "message": f"no route {path}"})
    return reply


def _error(status: HTTPStatus, body: object) -> Reply:
    return Reply(status, msgspec.json.encode(body))


def _coingecko(query: Mapping[str, str], schedule: Schedule) -> Reply:
    if "vs_currency" not in query:
        return _error(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "Missing parameter vs_currency"})
    if query["vs_currency"].lower() != "usd":
        return _error(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "invalid vs_currency"})
    page, per_page = count(query, "page", 1), min(count(query, "per_page", 100), _MOST_PER_PAGE)
    body = assets.coingecko_markets(schedule.market.instruments, time_us=schedule.time_us, page=page, per_page=per_page)
    return Reply(HTTPStatus.OK, body)


def count(query: Mapping[str, str], name: str, default: int) -> int:
    """Return a positive number of a query. As the sources do: what is none is as good as absent."""
    text = query.get(name, "")
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 10 else default
