"""The records of a linear-Gaussian state space model: its parameters, and what is known of its states."""

from typing import Any, NamedTuple


class LinearGaussian(NamedTuple):
    """Parameters of a state space model of s states, o observations and q inputs.

    initial_mean           (s,)    μ and
    initial_covariance     (s, s)  V of the first state, x_1 ~ N(μ, V)
    transition             (s, s)  A,
    transition_covariance  (s, s)  Q, and
    transition_input       (s, q)  B in x_t = A x_t-1 + B u_t + w_t, w_t ~ N(0, Q), for t ≥ 2
    emission               (o, s)  C,
    emission_covariance    (o, o)  R, or its diagonal (o,), and
    emission_input         (o, q)  D in y_t = C x_t + D u_t + v_t, v_t ~ N(0, R); B and D are None without inputs

    >>> import numpy as np
    >>> from jaxem import LinearGaussian
    >>> one = np.ones((1, 1))
    >>> LinearGaussian(np.zeros(1), one, one, one, one, one).transition_input is None
    True
    """

    initial_mean: Any
    initial_covariance: Any
    transition: Any
    transition_covariance: Any
    emission: Any
    emission_covariance: Any
    transition_input: Any = None
    emission_input: Any = None


class StateSpacePosterior(NamedTuple):
    """Moments of the states of each sequence given what was seen of it; zero beyond a sequence's length.

    means            (n, t, s)
    covariances      (n, t, s, s)
    lag_covariances  (n, t - 1, s, s)  Cov(x_t+1, x_t)

    >>> import numpy as np
    >>> from jaxem import StateSpacePosterior
    >>> StateSpacePosterior(np.zeros((1, 5, 2)), np.zeros((1, 5, 2, 2)), np.zeros((1, 4, 2, 2))).means.shape
    (1, 5, 2)
    """

    means: Any
    covariances: Any
    lag_covariances: Any
