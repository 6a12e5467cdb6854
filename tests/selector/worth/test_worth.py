"""Claims about which models are worth their bytes: the best set, as a device stores and follows it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selector.worth.best_set import TaskWorth, Way, _Choice, worth
from tests.support.small_releases import index_of
from zoo.errors import ModelNotFoundError
from zoo.releases.release import Index

NAMES = ("a", "b", "c", "d", "e")
ZOO = index_of(
    {"small": {"s": 100}, "big": {"l": 1000}, "turned": {"l": 1000, "head": 40}}, {"birds": ("small", "big")}
)
BIRDS = TaskWorth(
    name="birds",
    ways=(Way(models=("small", "big"), gain=1.6), Way(models=("small",), gain=0.2, unserved=0.8)),
    singles={"big": 0.9, "small": 0.7},
)


def test_a_device_follows_the_first_way_that_its_models_allow() -> None:
    assert BIRDS.gain(("small", "big")) == 1.6
    assert BIRDS.gain(("small",)) == pytest.approx(0.2 + 0.8 * 0.7)
    assert BIRDS.gain(("big",)) == 0.9
    assert BIRDS.gain(()) == 0


def test_the_budget_decides_and_the_bundle_counts_too() -> None:
    chosen = {}
    for budget in (1124, 1125, 114, 115):
        found = worth([BIRDS], ZOO, budget_bytes=budget)
        assert found.size_bytes <= budget
        assert found.exact
        assert found.gain == found.bound
        chosen[budget] = (found.models, found.bundles, found.size_bytes)
    assert chosen == {
        1124: (("big",), ("birds",), 1015),
        1125: (("big", "small"), ("birds",), 1125),
        114: ((), (), 0),
        115: (("small",), ("birds",), 115),
    }


def test_what_two_models_share_is_stored_once_for_two_tasks() -> None:
    zoo = index_of({"big": {"l": 1000}, "turned": {"l": 1000, "head": 40}}, {"x": ("big",), "y": ("turned",)})
    tasks = [
        TaskWorth(name="x", ways=(Way(models=("big",), gain=1.0),), singles={}),
        TaskWorth(name="y", ways=(Way(models=("turned",), gain=1.0),), singles={}, answers=0.5),
    ]
    found = worth(tasks, zoo, budget_bytes=1100)
    assert (found.models, found.bundles, found.size_bytes) == (("big", "turned"), ("x", "y"), 1070)
    assert worth(tasks, zoo, budget_bytes=1069).bundles == ("x",)


def test_of_equal_sets_the_one_with_less_to_fetch_wins() -> None:
    zoo = index_of({"a": {"a": 10}, "b": {"b": 10}, "c": {"c": 9}}, {"x": ("a", "b", "c")})
    task = TaskWorth(name="x", ways=(), singles={"a": 0.5, "b": 0.5, "c": 0.5})
    assert worth([task], zoo, budget_bytes=1000).models == ("c",)
    held = zoo.models["b"].blobs
    found = worth([task], zoo, budget_bytes=1000, held=held)
    assert (found.models, found.missing_bytes) == (("b",), 5)


def test_bytes_with_a_price_have_to_pay() -> None:
    def chosen(price: float) -> tuple[str, ...]:
        return worth([BIRDS], ZOO, budget_bytes=2000, price_per_mb=price).models

    assert chosen(100.0) == ("big", "small")
    assert chosen(900.0) == ("small",)
    assert chosen(1e4) == ()


def test_models_that_are_not_published_are_left_out() -> None:
    task = TaskWorth(
        name="birds", ways=(Way(models=("gone", "big"), gain=2.0),), singles={"gone": 2.0, "big": 0.5}
    )
    assert worth([task], ZOO, budget_bytes=10_000).models == ("big",)
    with pytest.raises(ModelNotFoundError, match=r"expected the bundle 'fish' among .* got: birds"):
        worth([TaskWorth(name="fish", ways=(), singles={})], ZOO, budget_bytes=1)
    assert worth([], ZOO, budget_bytes=1).gain_per_mb == 0


def test_gain_per_mb_is_that_of_the_bytes_that_are_stored() -> None:
    found = worth([BIRDS], ZOO, budget_bytes=2000)
    assert found.gain_per_mb == pytest.approx(1.6 / 1125e-6)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[TaskWorth], Index, int]:
    """Up to two tasks over five models that share weights."""
    weights = st.dictionaries(st.sampled_from("uvwxyz"), st.integers(1, 30), max_size=3)
    sizes = draw(st.fixed_dictionaries({name: weights for name in NAMES}))
    names = ["x", "y"][: draw(st.integers(1, 2))]
    gains = st.integers(0, 8).map(lambda gain: gain / 4)
    ways = st.builds(
        lambda models, gain, unserved: Way(models=tuple(models), gain=gain, unserved=unserved / 4),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
        gains,
        st.integers(0, 4),
    )
    tasks = [
        TaskWorth(
            name=name,
            ways=tuple(draw(st.lists(ways, max_size=4))),
            singles=draw(st.dictionaries(st.sampled_from(NAMES), gains, max_size=5)),
            answers=draw(st.integers(1, 3)),
        )
        for name in names
    ]
    return tasks, index_of(sizes, {name: NAMES for name in names}), draw(st.integers(0, 250))


def stored(tasks: tuple[TaskWorth, ...], models: tuple[str, ...], index: Index) -> int:
    releases = [*(index.models[name] for name in models), *(index.bundles[task.name] for task in tasks)]
    return sum({digest: size for release in releases for digest, size in release.blobs.items()}.values())


def best_gain(tasks: list[TaskWorth], index: Index, budget: int) -> float:
    """Every set of bundles with every set of models."""
    some = [list(itertools.combinations(tasks, n)) for n in range(len(tasks) + 1)]
    sets = [list(itertools.combinations(NAMES, n)) for n in range(len(NAMES) + 1)]
    return max(
        sum(task.answers * task.gain(models) for task in chosen)
        for chosen in itertools.chain(*some)
        for models in itertools.chain(*sets)
        if stored(chosen, models, index) <= budget
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems())
def test_no_other_set_within_the_budget_gains_more(problem: tuple[list[TaskWorth], Index, int]) -> None:
    tasks, index, budget = problem
    found = worth(tasks, index, budget_bytes=budget)
    served = tuple(task for task in tasks if task.name in found.bundles)
    assert found.size_bytes == stored(served, found.models, index) <= budget
    assert found.gain == pytest.approx(sum(task.answers * task.gain(found.models) for task in served))
    assert found.gain == pytest.approx(best_gain(tasks, index, budget))
    assert worth(tasks, index, budget_bytes=budget) == found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems())
def test_a_set_that_was_grown_fits_and_the_bound_holds(problem: tuple[list[TaskWorth], Index, int]) -> None:
    tasks, index, budget = problem
    grown = worth(tasks, index, budget_bytes=budget, most_models=0)
    served = tuple(task for task in tasks if task.name in grown.bundles)
    best = best_gain(tasks, index, budget)
    assert grown.size_bytes == stored(served, grown.models, index) <= budget
    assert grown.gain <= best + 1e-9 <= grown.bound + 2e-9
    if len(tasks) == 1:  # a single task uses one way and one model: no more has to be tried
        assert grown.gain == pytest.approx(best)
        assert grown.exact


def test_of_twenty_models_for_two_tasks_a_set_grows_that_is_near_its_bound() -> None:
    names = [f"m{i:02d}" for i in range(20)]
    zoo = index_of({name: {name: 100 + i} for i, name in enumerate(names)}, dict.fromkeys("xy", tuple(names)))
    ways = tuple(Way(models=(name,), gain=1 + i / 40) for i, name in reversed(list(enumerate(names))))
    tasks = [TaskWorth(name="x", ways=ways, singles={}), TaskWorth(name="y", ways=ways[10:], singles={})]
    found = worth(tasks, zoo, budget_bytes=350)
    assert found.models == ("m09", "m19")
    assert found.gain == found.bound
    assert found.exact
    less = worth(tasks, zoo, budget_bytes=200)
    assert not less.exact
    assert less.models == ("m09",)  # both tasks can use it
    assert less.gain < less.bound


def plainly_grown(choice: _Choice) -> int:
    """What grows where every step is looked at in full."""
    every = sum(task.bundle for task in choice._tasks)
    steps = [both for task in choice._tasks for step in task.steps() for both in (step, step | every)]
    chosen = 0
    while True:
        paying = []
        for both in {chosen | step for step in steps}:
            gained, added = choice.gain(both) - choice.gain(chosen), choice.size(both) - choice.size(chosen)
            if gained > 0 and choice.fits(both):
                paying.append((-gained / max(added, 1), added, both))
        if not paying:
            break
        chosen = min(paying)[2]
    best = min((chosen, *filter(choice.fits, steps)), key=choice.rank)
    for i in range(len(choice.items)):
        best = min(best, best & ~(1 << i), key=choice.rank)
    return best


@given(problems(), st.sampled_from((0.0, 5000.0)))
@settings(max_examples=60, deadline=None)
def test_steps_that_are_looked_at_in_part_grow_the_same_set(
    problem: tuple[list[TaskWorth], Index, int], price: float
) -> None:
    tasks, index, budget = problem
    choice = _Choice(tasks, index, budget, {}, price)
    assert choice.grown() == plainly_grown(choice)
