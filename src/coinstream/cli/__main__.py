"""``python -m coinstream.cli``: how the demo starts its processes with its own interpreter."""

from coinstream.cli import main

main()
