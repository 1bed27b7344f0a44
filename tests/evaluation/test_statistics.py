import numpy as np
import pytest

from egohoi.evaluation import statistics


def test_ratio_of_sums_not_mean_of_ratios():
    assert statistics.bootstrap([1, 0], [1, 9]).value == pytest.approx(0.1)
    assert statistics.ratio([], []) is None


def test_interval_covers_and_narrows_with_more_groups():
    chance = np.random.default_rng(0)
    few, many = (statistics.bootstrap(chance.random(n) < 0.3, np.ones(n)) for n in (50, 5000))
    assert few.low <= few.value <= few.high
    assert many.high - many.low < few.high - few.low
    # Binomial standard error at n = 5000: sqrt(0.3 * 0.7 / 5000) = 0.0065, so a 95 % interval is about 0.0254 wide.
    assert many.high - many.low == pytest.approx(0.0254, rel=0.15)


def test_balanced_is_the_mean_of_two_ratios():
    found = statistics.bootstrap([[4, 0], [0, 1]], [[5, 0], [0, 4]])
    assert found.value == pytest.approx((0.8 + 0.25) / 2)


def test_nothing_to_draw_from_gives_no_bounds():
    assert statistics.bootstrap([3], [4]) == statistics.Interval(0.75, None, None)
    assert statistics.bootstrap([], []).value is None


def test_seed_decides_the_bounds_and_blocks_do_not():
    values = np.random.default_rng(1).random(30)
    a, b = (statistics.bootstrap(values, np.ones(30), resamples=200, seed=5) for _ in range(2))
    assert a == b


def test_paired_finds_a_real_difference_and_none_where_there_is_none():
    chance = np.random.default_rng(2)
    first = (chance.random(400) < 0.5).astype(float)
    better = np.maximum(first, chance.random(400) < 0.2)
    found = statistics.paired(first, better, np.ones(400), resamples=2000)
    assert found.p < 0.001 and found.low > 0
    assert found.difference == pytest.approx(float(better.mean() - first.mean()))
    same = statistics.paired(first, first, np.ones(400), resamples=200)
    assert same.p == 1.0 and same.difference == 0


def test_paired_p_by_hand():
    # Three groups that all favour the second model by one: of the 8 sign patterns 2 reach |3|, so p is about 1/4.
    found = statistics.paired([0, 0, 0], [1, 1, 1], [1, 1, 1], resamples=20_000)
    assert found.p == pytest.approx(0.25, abs=0.02)


def test_paired_needs_the_same_groups():
    with pytest.raises(ValueError, match="same groups"):
        statistics.paired([1], [1, 0], [1, 1])
