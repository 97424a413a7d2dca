# SPDX-License-Identifier: MIT
"""Where tensors lie in the arena: `pymlk.compile.plan.place`."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pymlk.compile.plan import place

lives = st.tuples(st.integers(-1, 40), st.integers(0, 12)).map(lambda x: (x[0], sum(x)))
blocks = st.lists(
    st.tuples(st.integers(1, 300).map(lambda n: 16 * n), lives), min_size=1, max_size=30
)


def load(sizes, spans, at):
    """Bytes that are in use in one step."""
    return sum(
        n for n, (first, last) in zip(sizes, spans, strict=True) if first <= at <= last
    )


@settings(max_examples=300, deadline=None)
@given(blocks)
def test_no_two_blocks_meet(chosen):
    """Neither in space nor, else, in time; and the peak is where the last one ends."""
    sizes, spans = zip(*chosen, strict=True)
    offsets, peak = place(list(sizes), list(spans))
    assert peak == max(o + n for o, n in zip(offsets, sizes, strict=True))
    assert min(offsets) >= 0
    placed = list(zip(offsets, sizes, spans, strict=True))
    for i, (at, size, (first, last)) in enumerate(placed):
        assert at % 16 == 0
        for other, length, (start, end) in placed[:i]:
            apart = at + size <= other or other + length <= at
            assert apart or last < start or end < first


@settings(max_examples=300, deadline=None)
@given(blocks)
def test_the_peak_is_near_the_least(chosen):
    """Nobody can do with less than what is in use at the same time."""
    sizes, spans = zip(*chosen, strict=True)
    _, peak = place(list(sizes), list(spans))
    least = max(load(sizes, spans, at) for at in range(-1, 60))
    assert least <= peak <= least * 1.5


def test_largest_first_is_not_always_best():
    """With equal sizes that order is one by number, which leaves a hole here."""
    assert place([80, 80, 80, 80], [(1, 2), (4, 5), (2, 3), (3, 5)])[1] == 160
