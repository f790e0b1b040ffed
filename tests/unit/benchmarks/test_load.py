from __future__ import annotations

import pytest

from benchmarks.load import Snapshot, foreign_cores, of_tree


def test_tree_holds_every_descendant_and_nobody_else() -> None:
    own = {1: 100.0, 10: 1.0, 11: 2.0, 12: 4.0, 20: 8.0}
    assert of_tree(10, own, {1: [10, 20], 10: [11], 11: [12]}) == 7.0
    assert of_tree(99, own, {}) == 0.0


def test_foreign_is_what_the_machine_used_beyond_our_tree() -> None:
    before = Snapshot(at_s=100.0, machine_s=50.0, tree_s={7: 5.0})
    after = Snapshot(at_s=104.0, machine_s=57.0, tree_s={7: 10.0})
    assert foreign_cores(before, after, 7) == pytest.approx(0.5)


def test_clock_ticks_make_no_negative_load() -> None:
    before = Snapshot(at_s=0.0, machine_s=1.0, tree_s={7: 1.0})
    after = Snapshot(at_s=1.0, machine_s=1.99, tree_s={7: 2.0})
    assert foreign_cores(before, after, 7) == 0.0
