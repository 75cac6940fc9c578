"""One corpus dealt out to agents: nothing lost, nothing twice, the same every time."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmagentos.corpus import Example, read_silos
from llmagentos.corpus.partition import deal, dirichlet_shares
from llmagentos.errors import CorpusError
from llmagentos.settings import CorpusSettings, PartitionSettings

GROUPS = ("red", "green", "blue")
EXAMPLES = [Example(f"q{i}", "a", group=GROUPS[i % 3]) for i in range(200)]


def _texts(rows):
    return [(row.prompt, row.group) for row in rows]


def _sizes(silos):
    return {name: len(rows) for name, rows in silos.items()}


@settings(deadline=None)
@given(
    by=st.sampled_from(["iid", "dirichlet", "quantity"]),
    agents=st.integers(1, 12),
    alpha=st.floats(0.3, 10),
    seed=st.integers(0, 99),
)
def test_every_example_goes_to_exactly_one_agent(by, agents, alpha, seed):
    silos = deal(EXAMPLES, PartitionSettings(by, agents=agents, alpha=alpha), (), seed)
    dealt = [example for rows in silos.values() for example in rows]
    assert len(silos) == agents
    assert len(dealt) == len(EXAMPLES)
    assert set(dealt) == set(EXAMPLES)
    assert min(map(len, silos.values())) >= 2
    assert list(silos) == sorted(silos)


@pytest.mark.parametrize("by", ["iid", "dirichlet", "quantity"])
def test_repeated_rows_are_dealt_out_once_as_the_first_of_them(by):
    partition = PartitionSettings(by, agents=5, alpha=5.0)
    elsewhere = [replace(example, group="blue") for example in EXAMPLES]
    repeated = deal([*EXAMPLES, *elsewhere, *EXAMPLES[:7]], partition, (), 3)
    once = deal(EXAMPLES, partition, (), 3)
    assert list(map(_texts, repeated.values())) == list(map(_texts, once.values()))


@pytest.mark.parametrize("by", ["iid", "dirichlet", "quantity"])
def test_the_same_seed_deals_the_same_and_another_differs(by):
    partition = PartitionSettings(by)
    assert deal(EXAMPLES, partition, (), 1) == deal(EXAMPLES, partition, (), 1)
    assert deal(EXAMPLES, partition, (), 1) != deal(EXAMPLES, partition, (), 2)


def test_iid_shares_are_even():
    assert _sizes(deal(EXAMPLES, PartitionSettings("iid", agents=3), (), 0)) == {
        "agent-1": 67,
        "agent-2": 67,
        "agent-3": 66,
    }


def test_a_large_alpha_is_even_and_a_small_one_is_skewed():
    labels = np.repeat(np.arange(5), 200)

    def largest_share(alpha):
        shares = dirichlet_shares(labels, 5, alpha, np.random.default_rng(0))
        return np.mean([np.bincount(labels[share]).max() / len(share) for share in shares])

    assert largest_share(1000) < 0.25
    assert largest_share(0.1) > 0.5


def shares_of_colours(by, alpha):
    """How large a part of each agent's rows its commonest colour is, and the agents' sizes."""
    rows = [Example(f"q{i}", "a", group=GROUPS[i % 3]) for i in range(3000)]
    silos = deal(rows, PartitionSettings(by, agents=4, alpha=alpha), (), 0)
    counts = [Counter(row.group for row in own) for own in silos.values()]
    return [max(c.values()) / c.total() for c in counts], [c.total() for c in counts]


def test_dirichlet_skews_the_groups_and_quantity_the_sizes_alone():
    commonest, _ = shares_of_colours("dirichlet", 0.3)
    assert max(commonest) > 0.7
    commonest, sizes = shares_of_colours("quantity", 1.0)
    assert max(commonest) < 0.45
    assert max(sizes) > 1.5 * min(sizes)


def test_two_rows_for_everyone_are_enough():
    shares = dirichlet_shares(np.zeros(4, np.int64), 2, 100.0, np.random.default_rng(0))
    assert sorted(len(share) for share in shares) == [2, 2]
    assert set(_sizes(deal(EXAMPLES, PartitionSettings("iid", agents=100), (), 0)).values()) == {2}


def test_rows_without_a_group_are_a_group_of_their_own():
    rows = [Example(f"q{i}", "a", group=None if i % 2 else "red") for i in range(100)]
    silos = deal(rows, PartitionSettings("dirichlet", agents=2, alpha=5.0), (), 0)
    assert sum(_sizes(silos).values()) == 100
    with pytest.raises(CorpusError, match=r"no row has 'gold'; there are None, red$"):
        deal(rows, PartitionSettings(groups=["gold"]), (), 0)


def test_a_field_gives_its_largest_values_and_a_corpus_its_own_first():
    uneven = [*EXAMPLES, Example("more", "a", group="blue")]
    partition = PartitionSettings(agents=2)
    assert _sizes(deal(uneven, partition, (), 0)) == {"blue": 67, "green": 67}
    assert list(deal(uneven, partition, ("red",), 0)) == ["red", "blue"]


def test_groups_that_take_no_part_are_told(caplog):
    fewer = PartitionSettings("field", agents=2)
    deal(EXAMPLES, fewer, ("blue", "red"), 0)
    deal(EXAMPLES, replace(fewer, groups=["blue"]), (), 0)
    assert caplog.text == ""
    assert list(deal(EXAMPLES, fewer, (), 0)) == ["green", "red"]
    assert "corpus.partition.agents leaves out 66 rows of blue; raise it, or name" in caplog.text


def test_named_values_become_the_agents_in_their_order():
    assert list(deal(EXAMPLES, PartitionSettings(groups=["green", "red"]), (), 0)) == [
        "green",
        "red",
    ]


def test_named_values_limit_the_other_partitions():
    silos = deal(EXAMPLES, PartitionSettings("iid", groups=["red"], agents=2), (), 0)
    assert {row.group for rows in silos.values() for row in rows} == {"red"}


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (PartitionSettings(groups=["gren"]), "no row has 'gren'; did you mean 'green'?"),
        (PartitionSettings(agents=4), "the field has 3 values (green, red, blue); deal"),
        (
            PartitionSettings("iid", agents=101),
            "200 rows are too few; every agent needs 2, and rep",
        ),
        (PartitionSettings("dirichlet", agents=50, alpha=0.01), "raise alpha or ask for fewer"),
    ],
)
def test_a_partition_that_cannot_be_is_told(partition, message):
    with pytest.raises(CorpusError) as caught:
        deal(EXAMPLES * 2, partition, (), 0)
    assert message in str(caught.value)


def test_the_invented_organisations_are_four_silos_of_120_short_rows():
    silos = read_silos(CorpusSettings("invented"), 0)
    assert _sizes(silos) == dict.fromkeys(["hospital", "bank", "factory", "city"], 120)
    rows = [example for rows in silos.values() for example in rows]
    assert max(len(row.prompt) + len(row.response) for row in rows) < 64
    answers = [{row.response for row in rows} for rows in silos.values()]
    assert not set.intersection(*answers)
    assert all(len(answer) == 5 for answer in answers)


def test_a_named_corpus_has_its_own_column():
    partition = CorpusSettings("invented", partition=PartitionSettings(column="ward"))
    with pytest.raises(CorpusError, match="is dealt out by 'organisation'; leave the setting out"):
        read_silos(partition, 0)
