"""Folds over messages: order book, candles, coverage. Pure."""
