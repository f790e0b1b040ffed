"""Assets under one name: the reviewed table of the largest, and how a source's numbers are read.

A source's symbol is no identity (several assets call themselves ``TON``), so an asset that is not in
the table has no canonical id, however well its symbol would fit.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_DOWN, Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from coinstream.adapters.fields import UNREADABLE
from coinstream.errors import FieldError, RefusedError
from coinstream.messages import AssetSnapshot, check, is_zero, plain, plain_digits

_TABLE: tuple[tuple[str, str, str], ...] = (
    # canonical id, CoinPaprika's, CoinGecko's
    ("aave", "aave-new", "aave"),
    ("algorand", "algo-algorand", "algorand"),
    ("aptos", "apt-aptos", "aptos"),
    ("arbitrum", "arb-arbitrum", "arbitrum"),
    ("avalanche", "avax-avalanche", "avalanche-2"),
    ("binance-coin", "bnb-binance-coin", "binancecoin"),
    ("bitcoin", "btc-bitcoin", "bitcoin"),
    ("bitcoin-cash", "bch-bitcoin-cash", "bitcoin-cash"),
    ("bittensor", "tao-bittensor", "bittensor"),
    ("cardano", "ada-cardano", "cardano"),
    ("chainlink", "link-chainlink", "chainlink"),
    ("cosmos", "atom-cosmos", "cosmos"),
    ("cronos", "cro-cryptocom-chain", "crypto-com-chain"),
    ("dai", "dai-dai", "dai"),
    ("dash", "dash-dash", "dash"),
    ("dogecoin", "doge-dogecoin", "dogecoin"),
    ("eos", "eos-eos", "eos"),
    ("ethereum", "eth-ethereum", "ethereum"),
    ("ethereum-classic", "etc-ethereum-classic", "ethereum-classic"),
    ("filecoin", "fil-filecoin", "filecoin"),
    ("hedera", "hbar-hedera-hashgraph", "hedera-hashgraph"),
    ("injective", "inj-injective-protocol", "injective-protocol"),
    ("internet-computer", "icp-internet-computer", "internet-computer"),
    ("leo-token", "leo-leo-token", "leo-token"),
    ("litecoin", "ltc-litecoin", "litecoin"),
    ("maker", "mkr-maker", "maker"),
    ("mantle", "mnt-mantle", "mantle"),
    ("monero", "xmr-monero", "monero"),
    ("near", "near-near-protocol", "near"),
    ("okb", "okb-okb", "okb"),
    ("optimism", "op-optimism", "optimism"),
    ("pepe", "pepe-pepe", "pepe"),
    ("polkadot", "dot-polkadot", "polkadot"),
    ("quant", "qnt-quant", "quant-network"),
    ("shiba-inu", "shib-shiba-inu", "shiba-inu"),
    ("solana", "sol-solana", "solana"),
    ("stacks", "stx-stacks", "blockstack"),
    ("stellar", "xlm-stellar", "stellar"),
    ("sui", "sui-sui", "sui"),
    ("tether", "usdt-tether", "tether"),
    ("tezos", "xtz-tezos", "tezos"),
    ("toncoin", "toncoin-the-open-network", "the-open-network"),
    ("tron", "trx-tron", "tron"),
    ("uniswap", "uni-uniswap", "uniswap"),
    ("usd-coin", "usdc-usdc", "usd-coin"),
    ("usd-coin", "usdc-usd-coin", "usd-coin"),  # its name before 2023
    ("vechain", "vet-vechain", "vechain"),
    ("wrapped-bitcoin", "wbtc-wrapped-bitcoin", "wrapped-bitcoin"),
    ("xrp", "xrp-xrp", "ripple"),
    ("zcash", "zec-zcash", "zcash"),
)

CANONICAL_IDS: dict[str, dict[str, str]] = {
    "coinpaprika": {paprika: canonical for canonical, paprika, _ in _TABLE},
    "coingecko": {gecko: canonical for canonical, _, gecko in _TABLE},
}
"""By source and the source's id."""

_CUT = Context(prec=80, rounding=ROUND_DOWN, traps=[InvalidOperation])
_SMALLEST = Decimal("1e-18")


class Fraction(str):
    """A JSON number with a point or exponent, as its own text: no float ever holds it."""

    __slots__ = ()


_decode = msgspec.json.Decoder(float_hook=Fraction).decode

AssetReader = Callable[[dict[str, Any]], AssetSnapshot]


def read_assets(body: bytes, read: AssetReader) -> list[AssetSnapshot | RefusedError]:
    """Read a source's list; an asset that cannot be accepted is refused, its neighbours are not.

    Args:
        body: The response: a JSON list of objects.
        read: Reads one of them; may raise `RefusedError`.
    """
    try:
        entries = _decode(body)
    except UNREADABLE as error:
        return [RefusedError(f"not JSON ({error})")]
    if not isinstance(entries, list):
        return [RefusedError(f"not a list of assets: {body[:120]!r}")]
    results: list[AssetSnapshot | RefusedError] = []
    for index, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise RefusedError("not an object")
            snapshot = read(entry)
            check(snapshot)
            results.append(snapshot)
        except FieldError as error:
            error.field, error.args = f"[{index}].{error.field}", (f"[{index}].{error}",)
            results.append(error)
        except RefusedError as error:
            results.append(RefusedError(f"[{index}]: {error}"))
    return results


def text(entry: dict[str, Any], field: str, *, longest: int = 256) -> str:
    """Return a field that must hold text.

    Raises:
        FieldError: It is missing, empty, too long or no text.
    """
    value = entry.get(field)
    if not isinstance(value, str) or isinstance(value, Fraction) or not 0 < len(value) <= longest:
        raise FieldError(field, f"must be text of 1 to {longest} characters", value)
    return value


def rank(entry: dict[str, Any], field: str) -> int | None:
    """Return a rank, ``None`` where the source gives none."""
    value = entry.get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise FieldError(field, "must be a whole number of zero or above", value)
    return value


def digits(value: Any, field: str) -> str | None:
    """Return a source's number in plain notation, cut toward zero to 18 decimals; ``None`` for null.

    Sources compute their figures, prices too, as floats and print up to 17 digits of them: what
    stands beyond the 18th decimal is noise.

    Raises:
        FieldError: It is no number, or has over 16 integer digits.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise FieldError(field, "must be a number", value)
    source = str(value)
    try:
        return plain_digits(source, field)
    except FieldError:
        try:
            number = Decimal(source)
            cut = plain(number.quantize(_SMALLEST, context=_CUT)) if number.is_finite() else ""
        except InvalidOperation:
            cut = ""
        if not cut:
            raise
        return plain_digits(cut, field)


def price(value: Any, field: str) -> str:
    """Return a price that must be there.

    Raises:
        FieldError: It is null or absent, `digits` refuses it, or it is not zero but under 1e-18:
            nothing that is worth something becomes worth nothing.
    """
    found = digits(value, field)
    if found is None:
        raise FieldError(field, "is missing")
    if is_zero(found) and Decimal(value):
        raise FieldError(field, "must be 0, or 1e-18 at least", value)
    return found


def limit(value: Any, field: str) -> str | None:
    """Return a greatest supply; zero, as null, is how sources say that there is none."""
    found = digits(value, field)
    return None if found is None or is_zero(found) else found


def attributes(entry: dict[str, Any], *, without: frozenset[str]) -> dict[str, Any]:
    """Return whatever else a source said: its own names, fractions as their digits in strings, no nulls."""
    return {key: _plain_json(value) for key, value in entry.items() if key not in without and value is not None}


def _plain_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_json(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain_json(item) for item in value]
    if isinstance(value, str):
        return "".join(value)  # a plain str of a Fraction, whose exponent stays as the source wrote it
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)  # no store holds it as an integer
    return value
