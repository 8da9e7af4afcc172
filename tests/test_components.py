"""Components by their axes, against plain loops over the places of arrays."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxem import components
from jaxem.constraints import alike, contrasts, on_axes, positive, real, simplex

DOMAINS = {
    "shared": on_axes(real, ()),
    "rate": positive,
    "weights": simplex,
    "gate": on_axes(real, (1,)),
    "transitions": on_axes(simplex, (0, 1)),
}


def params_of(num_components, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "shared": rng.normal(size=(2, 2)),
        "rate": rng.uniform(1, 2, (num_components, 3)),
        "weights": rng.dirichlet(np.ones(num_components)),
        "gate": rng.normal(size=(4, num_components)),
        "transitions": rng.dirichlet(np.ones(num_components), num_components),
    }


def plainly_taken(params, places):
    """The parameters at the named places, entry by entry."""
    taken = {
        "shared": params["shared"],
        "rate": np.array([params["rate"][k] for k in places]),
        "weights": np.array([params["weights"][k] for k in places]),
        "gate": np.array([[row[k] for k in places] for row in params["gate"]]),
        "transitions": np.array([[params["transitions"][j, k] for k in places] for j in places]),
    }
    return taken | {
        "weights": taken["weights"] / taken["weights"].sum(),
        "transitions": np.array([row / sum(row) for row in taken["transitions"]]),
    }


def assert_same(received, expected):
    assert received.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_allclose(received[name], leaf, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("places", [[2, 0], [1], [0, 1, 2], [2, 1, 0], [1, 1]])
def test_what_is_taken_stands_in_the_order_named_and_simplexes_sum_to_one_again(places):
    params = params_of(3)
    assert_same(components.take(DOMAINS, params, jnp.array(places)), plainly_taken(params, places))


def test_order_puts_components_by_rising_keys():
    params, keys = params_of(3), np.array([0.3, -1.0, 0.1])
    assert_same(components.order(DOMAINS, params, jnp.array(keys)), plainly_taken(params, [1, 2, 0]))


def test_what_is_concatenated_stands_side_by_side_and_transitions_along_the_diagonal():
    one, two = params_of(2), params_of(3, seed=1)
    transitions = np.zeros((5, 5))
    for j in range(5):
        for k in range(5):
            if j < 2 and k < 2:
                transitions[j, k] = one["transitions"][j, k]
            if j >= 2 and k >= 2:
                transitions[j, k] = two["transitions"][j - 2, k - 2]
    expected = {
        "shared": one["shared"],
        "rate": np.array([*one["rate"], *two["rate"]]),
        "weights": np.array([*one["weights"], *two["weights"]]) / 2,
        "gate": np.array([[*a, *b] for a, b in zip(one["gate"], two["gate"], strict=True)]),
        "transitions": transitions,
    }
    assert_same(components.concatenate(DOMAINS, [one, two]), expected)


def test_components_taken_apart_and_concatenated_are_the_same_but_for_shares_of_one_another():
    params = params_of(3)
    received = components.concatenate(DOMAINS, [components.take(DOMAINS, params, jnp.array(k)) for k in ([0], [1, 2])])
    for name in ("shared", "rate", "gate"):
        np.testing.assert_allclose(received[name], params[name], rtol=1e-12)


def test_padding_repeats_the_first_component_behind():
    params = {name: leaf for name, leaf in params_of(2).items() if name != "weights"}
    domains = {name: domain for name, domain in DOMAINS.items() if name in params} | {"transitions": on_axes(real, (0, 1))}
    places = [0, 1, 0, 0]
    expected = {
        "shared": params["shared"],
        "rate": np.array([params["rate"][k] for k in places]),
        "gate": np.array([[row[k] for k in places] for row in params["gate"]]),
        "transitions": np.array([[params["transitions"][j, k] for k in places] for j in places]),
    }
    assert_same(components.pad(domains, params, 4), expected)


def test_components_taken_back_from_padding_are_the_ones_that_were_there():
    params = params_of(3)
    padded = components.pad(DOMAINS, params, 5)
    assert_same(components.take(DOMAINS, padded, jnp.arange(3)), params)


def test_empty_components_keep_the_old_parameters_and_what_all_share_is_new():
    old, new = params_of(3), params_of(3, seed=1)
    counts = np.array([2.0, 0.0, 1.0])
    received = components.keep_empty(DOMAINS, jnp.array(counts), new, old)
    np.testing.assert_array_equal(received["shared"], new["shared"])
    for k in range(3):
        kept = new if counts[k] > 0 else old
        np.testing.assert_array_equal(received["rate"][k], kept["rate"][k])
        np.testing.assert_array_equal(received["gate"][:, k], kept["gate"][:, k])


def test_transitions_from_an_empty_state_are_the_old_ones_and_all_others_the_new_ones():
    """Nothing is learnt about leaving a state that no one was in; that no one enters it is learnt from the others."""
    old, new = params_of(3)["transitions"], params_of(3, seed=1)["transitions"]
    new[:, 1] = 0
    new /= new.sum(1, keepdims=True)
    received = components.keep_empty(DOMAINS["transitions"], jnp.array([2.0, 0.0, 1.0]), new, old)
    np.testing.assert_array_equal(received, [new[0], old[1], new[2]])
    np.testing.assert_allclose(received.sum(1), 1, rtol=1e-12)


def test_nan_of_an_empty_component_does_not_pass():
    received = components.keep_empty(positive, jnp.array([1.0, 0.0]), jnp.array([[2.0], [np.nan]]), jnp.array([[1.0], [5.0]]))
    np.testing.assert_array_equal(received, [[2.0], [5.0]])


def test_what_components_have_alike_is_the_new_one_for_those_without_rows_too():
    new, old = jnp.array([[1.0, 9.0], [2.0, 9.0]]), jnp.array([[3.0, 5.0], [4.0, 5.0]])
    received = components.keep_empty(alike((1,)), jnp.array([2.0, 0.0]), new, old)
    np.testing.assert_array_equal(received, [[1.0, 9.0], [4.0, 9.0]])


def test_contrasts_are_taken_against_the_label_that_comes_first():
    received = components.take(contrasts, jnp.array([[0.0, 1.0, 3.0]]), jnp.array([2, 0]))
    np.testing.assert_array_equal(received, [[0.0, -3.0]])
