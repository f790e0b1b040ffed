"""What reads the outside world and publishes it: live feeds, polled sources, recordings."""

from coinstream.ingest.feed import run_feed
from coinstream.ingest.normalise import Summary, normalise
from coinstream.ingest.poll import run_poll
from coinstream.ingest.record import Recorder
from coinstream.ingest.recording import read_frames
from coinstream.ingest.replay import ReplaySummary, run_replay

__all__ = ["Recorder", "ReplaySummary", "Summary", "normalise", "read_frames", "run_feed", "run_poll", "run_replay"]
