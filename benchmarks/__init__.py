"""Benchmarks of whole units of work; `make bench` runs them and writes `docs/benchmarks.md`.

Each figure stands beside a ceiling or a peer measured in the same run, in turns with it: a machine's
own speed, and what else it was doing, then weigh on both alike. No test depends on a time measured here.
"""
