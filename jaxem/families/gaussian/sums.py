"""What families on the geometries share: sums about old means taken about others, starts, and draws."""

import jax.numpy as jnp
from jax import Array, lax

from jaxem.families.gaussian.centred import Centred
from jaxem.families.gaussian.forms import Form
from jaxem.families.gaussian.geometry import Geometry
from jaxem.matrices import cholesky
from jaxem.model import PyTree
from jaxem.numerics import positive
from jaxem.seeds import column_variances

LOST = 1e3  # ulps of the squares about old means far away, in which the variances of all the data are lost


def moved(geometry: Geometry, counts: Array, shift: Array, scatter: Array, delta: Array) -> Array:
    """Return the scatter about means moved by delta (k, d): S - δsᵀ - sδᵀ + N δδᵀ, s the shift."""
    return scatter - geometry.outer(2 * shift - counts[:, None] * delta, delta)


def total_variances(geometry: Geometry, mean: Array, counts: Array, shift: Array, scatter: Array) -> Array:
    """Return the variances of all the data, (d,), or as many as the geometry has, from sums about `mean`."""
    total_mean = (counts @ (mean - mean[:1]) + shift.sum(0)) / counts.sum() + mean[0]
    total = geometry.diagonal(moved(geometry, counts, shift, scatter, total_mean[None] - mean)).sum(0)
    least = LOST * jnp.finfo(counts.dtype).eps * geometry.diagonal(scatter).sum(0)
    return jnp.maximum(total, least) / counts.sum()


def begun(form: Form, x: Centred, responsibilities: Array) -> tuple[Array, PyTree]:
    """Return means and covariances from responsibilities, with one more row for each, spread as all: no floor is needed."""
    geometry, centre, counts = form.geometry, x.centre.value, responsibilities.sum(0)
    rows = x.x - centre
    mean = responsibilities.T @ rows / positive(counts)[:, None]
    variances = column_variances(rows, responsibilities.sum(1))
    one_more = geometry.guess(variances, mean.shape[0])
    shift, scatter = geometry.evaluate(geometry.spread(one_more), rows, mean)[2](responsibilities)
    about_mean = moved(geometry, counts, shift, scatter, shift / positive(counts)[:, None])
    return mean + centre, form.begin(about_mean + one_more, counts + 1, variances)


def coloured(noise: Array, covariances: Array, labels: Array) -> Array:
    """Return noise (n, d) with the covariance (k, d, d) of the component that each of the labels (n,) names."""
    factors = cholesky(covariances)[0]

    def shape(k: Array, rows: Array) -> Array:
        return jnp.where((labels == k)[:, None], noise @ factors[k].T, rows)

    return lax.fori_loop(0, len(factors), shape, noise)
