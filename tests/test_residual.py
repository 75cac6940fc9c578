"""What a method adds to the base beside the adapter: chapters, and one in the place of all."""

import numpy as np
import pytest

from llmagentos.aggregation import chapters
from llmagentos.aggregation.factors import Factors
from llmagentos.aggregation.residual import extended, factors_of, rank_of
from tests.lora_world import LAYOUT, layout_of


def added_in(round_, rank=2):
    """A product of a rank for every layer, at a scale of 1."""
    rng = np.random.default_rng(round_)
    shapes = [(9, 8), (5, 8), (12, 9)]
    return [
        Factors(rng.normal(size=(rank, in_)), rng.normal(size=(out, rank))) for out, in_ in shapes
    ]


def sums_of(parts):
    """Dense products by layer, summed over chapters."""
    products = [factors_of(LAYOUT.fitting(vector), vector) for vector in parts.values()]
    return [sum(pair.dense() for pair in layer) for layer in zip(*products, strict=True)]


def summed_up(*rounds):
    return [sum(each.dense() for each in layer) for layer in zip(*rounds, strict=True)]


def test_chapters_are_in_the_order_of_their_rounds_and_not_of_their_names():
    rounds = (11, 2, 10, 1, 9)
    named = {f"residual.{round_}": np.float32([round_]) for round_ in rounds}
    found = chapters({"adapter": np.float32([0]), **named})
    assert list(found) == [f"residual.{round_}" for round_ in sorted(rounds)]


def test_chapters_up_to_the_highest_rank_are_kept_as_they_came():
    first = extended(LAYOUT, {}, added_in(1), 1, limit=4)
    both = extended(LAYOUT, first, added_in(2), 2, limit=4)
    assert list(both) == ["residual.1", "residual.2"]
    assert both["residual.1"].tobytes() == first["residual.1"].tobytes()
    for found, expected in zip(sums_of(both), summed_up(added_in(1), added_in(2)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_beyond_the_highest_rank_one_chapter_is_the_best_of_all_that_was_added():
    before = extended(LAYOUT, {}, added_in(1), 1, limit=5)
    before = extended(LAYOUT, before, added_in(2), 2, limit=5)
    after = extended(LAYOUT, before, added_in(3), 3, limit=5)
    assert list(after) == ["residual.3"]
    whole = summed_up(*map(added_in, (1, 2, 3)))
    for found, expected in zip(sums_of(after), whole, strict=True):
        beyond = np.linalg.norm(np.linalg.svd(expected, compute_uv=False)[5:])
        assert np.linalg.norm(found - expected) == pytest.approx(beyond, abs=1e-5)


def test_a_first_chapter_of_too_high_a_rank_is_cut_to_its_best():
    (vector,) = extended(LAYOUT, {}, added_in(1, rank=5), 1, limit=2).values()
    assert rank_of(LAYOUT.fitting(vector)) == 2
    for found, expected in zip(
        factors_of(LAYOUT.fitting(vector), vector), added_in(1, rank=5), strict=True
    ):
        beyond = np.linalg.norm(np.linalg.svd(expected.dense(), compute_uv=False)[2:])
        assert np.linalg.norm(found.dense() - expected.dense()) == pytest.approx(beyond, abs=1e-5)


def test_a_round_that_adds_nothing_leaves_the_chapters():
    before = extended(LAYOUT, {}, added_in(1), 1, limit=4)
    assert extended(LAYOUT, before, added_in(2, rank=0), 2, limit=4) == before


def test_a_single_pair_has_the_rank_of_all():
    assert rank_of(layout_of([(9, 8)], rank=2)) == 2
