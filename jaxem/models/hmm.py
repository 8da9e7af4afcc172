"""Hidden Markov models: one latent chain of states per sequence, whose steps a family says what is seen of."""

import operator
from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import constraints
from jaxem.arrays import as_params, at_least_one
from jaxem.at_once import smooth_at_once
from jaxem.boundary import as_key
from jaxem.chains import Chain, alone, drawn_path, entropy, smooth_alone
from jaxem.families.priors import updated
from jaxem.model import Family, Model, PyTree, check_family, require
from jaxem.models.building import build
from jaxem.models.mixture import seeded
from jaxem.models.moves import Moves, checked_concentration, log_prior_of, mode, of_gate, of_shares, sticky, treats_alike, walks
from jaxem.models.steps import Steps, by_step, most_steps, over_rows, prepared_steps, there, weigh
from jaxem.models.streams import expect
from jaxem.numerics import in_full_precision, log_share, weighted_log
from jaxem.programs import compiled
from jaxem.sequences import Sequences, pair_of
from jaxem.trees import Gated, by_row, dtype_of_weights, flat


class HMM(NamedTuple):
    """Parameters of a hidden Markov model of k states.

    initial     (k,) probabilities of the first state, on the simplex
    transition  (k, k) rows on the simplex: row i is p(z_t | z_t-1 = i)
    components  the family's parameters, one component for each state

    >>> import jaxem
    >>> params = jaxem.HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], jaxem.families.Poisson([1.0, 3.0]))
    >>> print(params.components.rate)
    [1.0, 3.0]
    """

    initial: Any
    transition: Any
    components: PyTree


class HMMPosterior(NamedTuple):
    """What is known of the states of each sequence.

    states       (n, t, k) p(z_t = j | x), zero beyond a sequence's length
    transitions  (n, k, k) Σ_t p(z_t-1 = i, z_t = j | x)

    >>> import numpy as np, jaxem
    >>> model = jaxem.hmm(jaxem.families.poisson(), 2)
    >>> params = jaxem.HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], jaxem.families.Poisson([1.0, 3.0]))
    >>> q = model.posterior(params, jaxem.sequences([[0, 1, 6], [4]]))
    >>> print(q.states.shape, np.round(q.transitions.sum((1, 2)), 3))
    (2, 3, 2) [2. 0.]
    """

    states: Array
    transitions: Any


class HMMStats(NamedTuple):
    """Expected numbers of first states (k,) and of steps in each state (k,), and statistics of moves and of the family."""

    initial: Array
    states: Array
    moves: PyTree
    components: PyTree


def hmm(
    family: Family,
    num_states: int,
    *,
    gate: Family | None = None,
    parallel: bool | None = None,
    initial_concentration: Any = 1,
    transition_concentration: Any = 1,
) -> Model:
    """Return the hidden Markov model of `num_states` states, each of which shows itself by a component of `family`.

    p(x, z) = p(z_1) p(x_1 | z_1) Π_t p(z_t | z_t-1) p(x_t | z_t);  data `jaxem.sequences([x1, x2, …])`, weights (n,) of whole
    sequences, posterior `HMMPosterior`, latents of `sample` (n, t) states, of which those beyond a length mean nothing; its
    `like` is a pair (n, t), or data. Steps with holes, or all of which is missing: `families.observed`; states that are known
    at some steps: `families.labelled`.
    Zeros in `initial` and `transition` stay zero under EM: left-right and banded chains are a matter of the start.
    With a `gate`, a Family whose components are the states, `transition` is its parameters stacked, one for each state that
    a step comes from, and data are sequences of `families.Gated(gate (t, q), data)`: row t drives the step from t - 1 to t,
    and the first of a sequence is not looked at (Bengio & Frasconi 1996).
    `parallel` True computes over all of time at once, by an associative scan (Särkkä & García-Fernández 2020), with the same
    numbers; False step by step; None chooses: step by step on a CPU.
    Concentrations α ≥ 1 put Dirichlet priors on `initial` and the rows of `transition`, as if α - 1 of each had been seen: a
    number, one for each state, or (k, k) for the transitions; 1 is none.
    Baum et al. (1970); Rabiner (1989). Raises ValueError for fewer than one state, what is no family, a concentration below
    one, and one of transitions beside a gate.

    >>> import numpy as np, jaxem
    >>> from jaxem import families
    >>> model = jaxem.hmm(families.poisson(), 2)
    >>> x = jaxem.sequences([[0, 1, 0, 0, 7, 9, 8, 8, 6, 1], [9, 7, 0, 1]])
    >>> best = jaxem.fit_restarts(model, 0, x, num_restarts=8).best
    >>> print(np.sort(best.params.components.rate).round(1))
    [0.4 7.7]
    """
    check_family(family)
    num_states = at_least_one("num_states", num_states)
    if gate is not None:
        check_family(gate, "gate")
    if parallel not in (None, True, False):
        raise ValueError(f"parallel must be True, False or None, got {parallel!r}.")
    initial = checked_concentration("initial_concentration", initial_concentration, num_states, 1)
    transition = checked_concentration("transition_concentration", transition_concentration, num_states, 2)
    if gate is not None and transition is not None:
        raise ValueError("transition_concentration is a prior of probabilities, and a gate stands in their place.")
    return _hmm(family, num_states, gate, parallel, initial, transition)


@cache
def _hmm(
    family: Family, num_states: int, gate: Family | None, parallel: bool | None, of_initial: Any, of_transition: Any
) -> Model:
    """Return what `hmm` does, from arguments that have been checked."""
    moves = of_shares(of_transition) if gate is None else of_gate(gate)
    parts_of = (family,) if gate is None else (family, gate)
    in_parallel = jax.default_backend() != "cpu" if parallel is None else parallel
    smooth = smooth_at_once if in_parallel else smooth_alone

    def infer(params: HMM, data: Steps) -> tuple[HMMPosterior, Array, Callable[[Array, HMMPosterior], HMMStats]]:
        chain, log_density, summarize, summarize_moves = look(family, gate, moves, params, data)
        found = over_rows(smooth, chain, log_density, data.lengths)

        def statistics(weights: Array, q: HMMPosterior) -> HMMStats:
            shares, moved = (weigh(weights, leaf) for leaf in q)
            each = shares.reshape(-1, num_states)
            return HMMStats(shares[:, 0].sum(0), each.sum(0), summarize_moves(moved), summarize(each))

        transitions = found.transitions if gate is None else found.transitions[:, 1:]
        return HMMPosterior(found.states, transitions), found.log_prob.sum(1), statistics

    def streamed(params: HMM, data: Steps, weights: Array) -> tuple[HMMStats, Array]:
        chain = Chain(log_share(params.initial), log_share(params.transition))
        shape = data.lengths.shape[0], most_steps(data)
        evaluate = partial(family.evaluate, params.components)
        counts, components, log_prob = expect(evaluate, chain, flat(data.rows), shape, data.lengths, weights)
        return HMMStats(counts.initial, counts.states, counts.moves, components), log_prob

    def m_step(params: HMM, stats: HMMStats) -> HMM:
        components = updated(family, stats.states, params.components, stats.components)
        initial = mode(params.initial, stats.initial, of_initial)
        return HMM(initial, moves.m_step(params.transition, stats.moves), components)

    def expected_log_joint(params: HMM, stats: HMMStats) -> Array:
        chain = weighted_log(stats.initial, params.initial).sum() + moves.expected_log_prob(params.transition, stats.moves)
        return chain + family.expected_log_prob(params.components, stats.components)

    def entropies(params: HMM, data: Steps) -> Array:
        chain, log_density, _, _ = look(family, gate, moves, params, data)
        return over_rows(lambda chain, log_p, length: entropy(chain, alone(log_p, length)), chain, log_density, data.lengths)

    def begin(key: Array, data: Steps, weights: Array) -> HMM:
        """Draw seeds among all time steps, and transitions that stay more often than not."""
        key_seeds, key_moves = jax.random.split(key)
        covariates, x = split_steps(gate, data)
        each = (weights[:, None] * there(data).astype(weights.dtype)).ravel()
        _, some, responsibilities = seeded(family, key_seeds, ((), x), each, num_states)
        components = family.init(some, responsibilities)
        transition = moves.begin(sticky(key_moves, num_states, weights.dtype), covariates, each)
        return HMM(jnp.full(num_states, 1 / num_states, weights.dtype), transition, components)

    def draw(shape: tuple[int, int] | int, key: Array, params: HMM, like: Any) -> tuple[Sequences, Array]:
        shape = shape if isinstance(shape, tuple) else (shape, most_steps(like))
        key_states, key_data = jax.random.split(key)
        covariates, x = (None, None) if like is None else split_steps(gate, like)
        log_transition = by_step(moves.look(params.transition, covariates)[0], shape)
        states = walks(key_states, log_share(params.initial), log_transition, shape)
        values = by_row(require(family, "sample")(key_data, params.components, states.ravel(), x), shape)
        lengths = jnp.full(shape[0], shape[1], jnp.int32) if like is None else like.lengths
        return Sequences(values if gate is None else Gated(like.rows.gate, values), lengths), states

    def prepare(data: Any, weights: Array | None) -> Steps:
        return data if isinstance(data, Steps) else prepared_steps(family, gate, num_states, data, weights)

    def size(data: Steps) -> Array:
        x = split_steps(gate, data)[1]
        if family.size is None:
            return data.lengths.astype(dtype_of_weights(x))
        return jnp.where(there(data), family.size(x).reshape(there(data).shape), 0).sum(1)

    def log_prior(params: HMM) -> Array:
        """Return log p(θ), in nats: that of the components, of the first states and of the moves."""
        terms = [family.log_prior(params.components)] if family.log_prior else []
        terms += [log_prior_of(params.initial, of_initial)] if of_initial is not None else []
        terms += [moves.log_prior(params.transition)] if moves.log_prior else []
        return reduce(operator.add, terms)

    def degenerate(params: HMM, stats: HMMStats) -> Array:
        floors = [family.degenerate(params.components, stats.components)] if family.degenerate else []
        floors += [moves.degenerate(params.transition, stats.moves)] if moves.degenerate else []
        return reduce(operator.or_, floors)

    domains = HMM(constraints.simplex, moves.constraints, family.constraints)
    additive = all(part.additive for part in parts_of)
    model = build(
        infer,
        m_step,
        expected_log_joint,
        prepare=prepare,
        begin=begin,
        draw=draw,
        size=size,
        log_prior=log_prior if family.log_prior or of_initial is not None or moves.log_prior else None,
        degenerate=degenerate if family.degenerate or moves.degenerate else None,
        constraints=domains if treats_alike(of_initial) and treats_alike(of_transition) else constraints.told_apart(domains),
        additive=additive,
        exact=all(part.exact for part in parts_of),
        streamed=streamed if additive and gate is None and not in_parallel else None,
        entropy=entropies,
        parts=(_hmm, (family, num_states, gate, parallel, of_initial, of_transition)),
    )
    return model._replace(sample=_sample(model, draw, gate) if family.sample else None)


of_states = _hmm  # by which the parts of such a model are known


def split_steps(gate: Family | None, data: Steps) -> tuple[PyTree, PyTree]:
    """Return the gate's covariates and the family's rows, (n t, *event)."""
    return (None, flat(data.rows)) if gate is None else (flat(data.rows.gate), flat(data.rows.data))


def look(family: Family, gate: Family | None, moves: Moves, params: HMM, data: Steps) -> tuple[Chain, Array, Any, Any]:
    """Return the chain, log-densities (n, t, k), and what takes responsibilities, and moves, to statistics."""
    covariates, x = split_steps(gate, data)
    log_density, summarize = family.evaluate(params.components, x)
    log_transition, summarize_moves = moves.look(params.transition, covariates)
    shape = data.lengths.shape[0], most_steps(data)
    chain = Chain(log_share(params.initial), by_step(log_transition, shape))
    return chain, log_density.reshape(*shape, -1), summarize, summarize_moves


def gate_of(model: Model) -> Family | None:
    """Return the gate of a model of states."""
    return model.parts[1][2]  # type: ignore[index]


def chain_of(model: Model, params: HMM, data: Steps) -> tuple[Chain, Array]:
    """Return the chain of a model of states, and log-densities (n, t, k)."""
    family, gate = model.parts[1][0], gate_of(model)  # type: ignore[index]
    return look(family, gate, of_gate(gate) if gate else of_shares(None), params, data)[:2]


def moves_of(model: Model, params: HMM, covariates: PyTree, shape: tuple[int, int]) -> Array:
    """Return log p(z_t | z_t-1), (n, t, k, k), of a model whose gate has these covariates of n t steps."""
    gate = gate_of(model)
    assert gate is not None
    return by_step(of_gate(gate).look(params.transition, covariates)[0], shape)


@partial(compiled, static_argnums=0)
@in_full_precision
def drawn_states(model: Model, key: Array, params: HMM, data: Steps) -> Array:
    """Return states of each sequence drawn together given all that was seen of it, (n, t)."""
    chain, log_density = chain_of(model, params, data)
    keys = jax.random.split(key, data.lengths.shape[0])

    def of_row(chain: Chain, given: tuple[Array, Array], length: Array) -> Array:
        return drawn_path(given[1], chain, alone(given[0], length))

    return over_rows(of_row, chain, (log_density, keys), data.lengths)


def _sample(model: Model, draw: Callable[..., tuple[Sequences, Array]], gate: Family | None) -> Callable[..., Any]:
    """Return the model's `sample`, which takes a pair (n, t) too."""
    like_data, drawn = require(model, "sample"), compiled(in_full_precision(draw), static_argnums=0)

    def sample(key: Any, params: HMM, like: Any) -> tuple[Sequences, Array]:
        """Return draws of (Sequences, states (n, t)); `like` is a pair (n, t), or data whose lengths and gaps are kept."""
        if hasattr(like, "__index__") and np.ndim(like) == 0:
            raise ValueError(f"like must be a pair (n, t), so many sequences of so many steps, or data, got {like!r}.")
        shape = pair_of(like)
        if shape is None:
            return like_data(key, params, like)
        if gate is not None:
            raise ValueError("like must be data: moves depend on the gate's covariates, which a pair of numbers has not.")
        return drawn(shape, as_key(key), as_params(params), None)

    return sample
