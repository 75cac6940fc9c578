"""What every method makes of the agents' products, held to its row in the table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from llmagentos.aggregation.factors import Factors, decomposed, difference, norm, summed
from llmagentos.aggregation.methods import METHODS
from llmagentos.aggregation.rules import averaged, hetlora_shares, lora_fair

OUT, IN, RANK = 9, 8, 3
FLOAT32 = 2.0**-22

EVERY_RULE = {name: method.rule or averaged for name, method in METHODS.items()}
EXACT = [name for name, method in METHODS.items() if method.exact == "exact"]


def drawn(seed, rank=RANK, scale=2.0, out=OUT, in_=IN):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=shape).astype(np.float32) for shape in ((rank, in_), (out, rank)))
    a, b = (each.astype(np.float64) for each in values)
    return Factors(a, b, scale)


def cohort(method, agents, seed, ranks=None, scales=None, **shape):
    """Local factors as the method lets them be: what is not trained is common to all."""
    common = drawn([seed, 99], **shape)
    trained = METHODS[method].trained[0]
    found = []
    for k in range(agents):
        own = drawn([seed, k], (ranks or {}).get(k, RANK), (scales or {}).get(k, 2.0), **shape)
        found.append(own._replace(a=common.a) if trained == "B" else own)
    return found


def shares_of(weights):
    return list(np.array(weights) / np.sum(weights))


WEIGHTS = st.lists(st.floats(0.05, 20), min_size=1, max_size=6)


@pytest.mark.parametrize("method", EXACT)
@settings(deadline=None, max_examples=40)
@given(WEIGHTS, st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12))
def test_exact_methods_give_the_mean_of_the_products(method, weights, seed, out, in_):
    local, shares = cohort(method, len(weights), seed, out=out, in_=in_), shares_of(weights)
    ideal = summed(local, shares)
    missed = norm(difference(ideal, EVERY_RULE[method](local, shares, RANK).product))
    bound = sum(p * norm(each) for p, each in zip(shares, local, strict=True))
    assert missed <= FLOAT32 * bound


@pytest.mark.parametrize("method", METHODS)
def test_one_agents_product_comes_back(method):
    local = cohort(method, 1, 5)
    given_back = EVERY_RULE[method](local, [1.0], RANK).product
    assert norm(difference(local[0], given_back)) <= FLOAT32 * norm(local[0])


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=20)
@given(WEIGHTS, st.integers(0, 2**32))
def test_equal_agents_lose_nothing(method, weights, seed):
    local, shares = [drawn(seed)] * len(weights), shares_of(weights)
    given_back = EVERY_RULE[method](local, shares, RANK).product
    assert norm(difference(local[0], given_back)) <= FLOAT32 * norm(local[0])


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 2**32), st.floats(0.1, 8))
def test_naive_is_off_by_its_closed_form(weights, seed, scale):
    shares = shares_of(weights)
    local = [drawn([seed, k], scale=scale) for k in range(len(weights))]
    mean = averaged(local, shares, RANK).pair
    closed = sum(
        scale * p * (each.b - mean.b) @ (each.a - mean.a)
        for p, each in zip(shares, local, strict=True)
    )
    missed = difference(summed(local, shares), mean)
    assert np.allclose(missed.dense(), closed, atol=1e-11 * scale)


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 2**32), st.integers(1, 8))
def test_flexlora_is_off_by_the_singular_values_beyond_its_rank(weights, seed, rank):
    shares = shares_of(weights)
    local = [drawn([seed, k], rank=1 + (seed + k) % 5, scale=1 + k) for k in range(len(weights))]
    ideal = summed(local, shares)
    pair = METHODS["flexlora"].rule(local, shares, rank).pair
    beyond = np.linalg.norm(decomposed(ideal)[1][rank:])
    assert pair.rank == rank
    assert norm(difference(ideal, pair)) == pytest.approx(beyond, abs=1e-10 * norm(ideal))


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**32))
def test_fedex_residual_has_at_most_rank_n_minus_one_times_r(agents, seed):
    local = [drawn([seed, k], rank=2, out=40, in_=30) for k in range(agents)]
    merged = METHODS["fedex"].rule(local, shares_of([1.0] * agents), 2)
    assert merged.residual.rank <= (agents - 1) * 2
    assert np.allclose(merged.pair.a, np.mean([each.a for each in local], axis=0), atol=1e-6)


@pytest.mark.parametrize(("small", "rank"), [(1.5 * 2.0**-24, 2), (0.75 * 2.0**-24, 1)])
def test_what_float32_rounds_away_has_no_place_in_a_residual(small, rank):
    one = Factors(np.eye(2, IN), np.diag([1.0, small]), 2.0)
    assert METHODS["flora"].rule([one], [1.0], 2).residual.rank == rank


def test_the_pair_of_fedex_is_the_one_that_is_sent():
    pair = METHODS["fedex"].rule([drawn(k) for k in range(3)], [0.2, 0.3, 0.5], RANK).pair
    for factor in (pair.a, pair.b):
        assert factor.dtype == np.float64
        assert np.array_equal(factor, factor.astype(np.float32))


def test_fedex_and_flora_leave_no_rounding_behind():
    equal = [drawn(1)] * 3
    assert METHODS["fedex"].rule(equal, [0.2, 0.3, 0.5], RANK).residual.rank == 0
    assert METHODS["flora"].rule(equal, [0.2, 0.3, 0.5], RANK).residual.rank == RANK


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2**32))
def test_flora_stacks_ranks_and_counts_weights_once(ranks, seed):
    local = [drawn([seed, k], rank=r, scale=1 + k, out=40, in_=30) for k, r in enumerate(ranks)]
    merged = METHODS["flora"].rule(local, shares_of([1.0 + k for k in range(len(ranks))]), RANK)
    assert merged.residual.rank == sum(ranks)
    assert not merged.pair.b.any()
    dense = sum(
        p * each.scale * each.b @ each.a
        for p, each in zip(shares_of([1.0 + k for k in range(len(ranks))]), local, strict=True)
    )
    assert np.allclose(merged.product.dense(), dense, atol=1e-5)


def test_fedsvd_keeps_the_product_and_turns_a_into_orthonormal_rows():
    local = cohort("fedsvd", 4, 3)
    merged = METHODS["fedsvd"].rule(local, [0.1, 0.2, 0.3, 0.4], RANK)
    assert np.allclose(merged.pair.a @ merged.pair.a.T, np.eye(RANK))
    assert norm(difference(summed(local, [0.1, 0.2, 0.3, 0.4]), merged.pair)) < 1e-12


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 2**32), st.floats(1e-6, 10))
def test_lora_fair_lies_between_naive_and_the_best(weights, seed, ridge):
    shares = shares_of(weights)
    local = [drawn([seed, k]) for k in range(len(weights))]
    ideal = summed(local, shares)
    naive = norm(difference(ideal, averaged(local, shares, RANK).pair))
    fair = norm(difference(ideal, lora_fair(local, shares, RANK, ridge=ridge).pair))
    best = norm(difference(ideal, METHODS["flexlora"].rule(local, shares, RANK).pair))
    slack = 1e-9 * norm(ideal)
    assert best - slack <= fair <= naive + slack


def test_lora_fair_without_a_ridge_is_the_projection_on_the_averaged_a():
    shares, local = [0.5, 0.3, 0.2], [drawn(k) for k in range(3)]
    ideal, pair = summed(local, shares).dense(), lora_fair(local, shares, RANK, ridge=1e-12).pair
    projector = np.linalg.pinv(pair.a) @ pair.a
    assert np.allclose(pair.dense(), ideal @ projector, atol=1e-8)


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 2**32), st.floats(0.1, 8), st.floats(0.01, 10))
def test_lora_fair_minimises_what_is_missed_and_what_it_takes(weights, seed, scale, ridge):
    """As least squares: s A^T D^T = (M - s B A)^T above sqrt(ridge t) D^T = 0."""
    shares = shares_of(weights)
    local = [drawn([seed, k], scale=scale) for k in range(len(weights))]
    a, b, _ = averaged(local, shares, RANK).pair
    missing = (summed(local, shares).dense() - scale * b @ a).T
    size = scale**2 * np.mean(np.sum(a**2, axis=1))
    left = np.vstack([scale * a.T, np.sqrt(ridge * size) * np.eye(RANK)])
    moved = np.linalg.lstsq(left, np.vstack([missing, np.zeros((RANK, OUT))]), rcond=None)[0].T
    found = lora_fair(local, shares, RANK, ridge=ridge).pair
    assert np.array_equal(found.a, a)
    np.testing.assert_allclose(found.b, b + moved, atol=1e-9)


def test_lora_fair_leaves_the_averages_where_a_is_nothing():
    flat = [drawn(k)._replace(a=np.zeros((RANK, IN))) for k in range(2)]
    found = lora_fair(flat, [0.5, 0.5], RANK).pair
    assert np.array_equal(found.b, (flat[0].b + flat[1].b) / 2)


def test_hetlora_with_equal_norms_is_the_plain_average():
    one = [drawn(0), drawn(1)]
    shares = hetlora_shares([[layer] * 3 for layer in one], [0.2, 0.3, 0.5])
    assert shares == pytest.approx([0.2, 0.3, 0.5])


def test_hetlora_has_the_same_bits_in_every_order_of_agents():
    agents = [drawn(k) for k in range(20)]
    shares = np.random.default_rng(20).dirichlet(np.ones(20)).tolist()
    found = hetlora_shares([agents], shares)
    assert hetlora_shares([agents[::-1]], shares[::-1]) == found[::-1]


def test_hetlora_weighs_by_the_norms_of_the_products():
    one = drawn(0)
    double = one._replace(b=2 * one.b)
    assert hetlora_shares([[one, double]], [0.5, 0.5]) == pytest.approx([1 / 3, 2 / 3])
    flat = one._replace(b=0 * one.b)
    assert hetlora_shares([[flat, flat]], [0.25, 0.75]) == [0.25, 0.75]


def test_zero_padding_adds_products_of_unequal_ranks_in_one_frame():
    small, large = drawn(0, rank=1), drawn(1, rank=3)
    pair = averaged([small, large], [0.5, 0.5], 3).pair
    assert np.allclose(pair.a[1:], large.a[1:] / 2)
    assert np.allclose(pair.a[0], (small.a[0] + large.a[0]) / 2)


class OneLayer(nn.Module):
    """A model of a single linear layer, for PEFT to adapt."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(IN, OUT, bias=False)


def in_peft(local, ranks) -> PeftModel:
    """PEFT's model with one adapter an agent."""
    model = None
    for k, (each, rank) in enumerate(zip(local, ranks, strict=True)):
        config = LoraConfig(r=rank, lora_alpha=each.scale * rank, target_modules=["layer"])
        if model is None:
            model = get_peft_model(OneLayer(), config, adapter_name=f"a{k}")
        else:
            model.add_adapter(f"a{k}", config)
        layer = model.base_model.model.layer
        layer.lora_A[f"a{k}"].weight.data = torch.tensor(each.a, dtype=torch.float32)
        layer.lora_B[f"a{k}"].weight.data = torch.tensor(each.b, dtype=torch.float32)
    return model


@pytest.mark.parametrize("ranks", [(3, 3, 3), (1, 2, 4)])
def test_peft_combines_the_same_way(ranks):
    shares = [0.2, 0.5, 0.3]
    local = [drawn(k, rank=rank, scale=1.0 + k) for k, rank in enumerate(ranks)]
    model, names = in_peft(local, ranks), ["a0", "a1", "a2"]
    layer = model.base_model.model.layer
    model.add_weighted_adapter(names, shares, "cat", combination_type="cat")
    model.add_weighted_adapter(names, shares, "svd", combination_type="svd", svd_rank=2)
    stacked = METHODS["flora"].rule(local, shares, 3).product
    best = METHODS["flexlora"].rule(local, shares, 2).product
    for name, ours in (("cat", stacked), ("svd", best)):
        theirs = layer.get_delta_weight(name).detach().numpy()
        assert np.allclose(ours.dense(), theirs, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_parts_are_half_of_the_bytes_where_the_table_says_so(method):
    from tests.lora_world import LAYOUT

    found = METHODS[method]
    sizes = [found.values_up(LAYOUT, round_) for round_ in (1, 2)]
    halves = {"A": LAYOUT.only("A").size, "B": LAYOUT.only("B").size, "both": LAYOUT.size}
    assert sizes == [halves[found.sent_in(1)], halves[found.sent_in(2)]]
    assert halves["A"] + halves["B"] == LAYOUT.size
