"""Small real data sets, shipped with the package, as arrays of the default float dtype."""

from importlib import resources
from importlib.resources.abc import Traversable

import jax.numpy as jnp
import numpy as np
from jax import Array


def csv_file(name: str) -> Traversable:
    """Return the shipped file `name`.csv: one header line, then numbers separated by commas.

    >>> from jaxem import datasets
    >>> datasets.csv_file("iris").read_text()[:12]
    'sepal_length'
    """
    return resources.files(__name__) / f"{name}.csv"


def _load(name: str) -> Array:
    with csv_file(name).open(encoding="utf-8") as lines:
        return jnp.asarray(np.loadtxt(lines, delimiter=",", skiprows=1))


def faithful() -> Array:
    """Return 272 eruptions of the Old Faithful geyser: (272, 2), duration and waiting time to the next one, both in minutes.

    Yellowstone National Park, Wyoming. The version of R's `datasets::faithful`, of the data of Azzalini & Bowman (1990), "A
    look at some data on the Old Faithful geyser", Applied Statistics 39, 357-365.

    >>> import jaxem
    >>> print(jaxem.datasets.faithful()[0])
    [ 3.6 79. ]
    """
    return _load("faithful")


def iris() -> Array:
    """Return 150 irises: (150, 4), sepal length, sepal width, petal length and petal width, all in centimetres.

    Fifty each of *Iris setosa*, *versicolor* and *virginica*, in this order. The version of R's `datasets::iris`: measured by
    Anderson (1935), "The irises of the Gaspe Peninsula", Bulletin of the American Iris Society 59, 2-5; published by Fisher
    (1936), "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7, 179-188.

    >>> import jaxem
    >>> jaxem.datasets.iris().shape
    (150, 4)
    """
    return _load("iris")


def london_times_deaths() -> tuple[Array, Array]:
    """Return notices of deaths of women of 80 and over in The Times of London, 1910-1912: counts (10,), frequencies (10,).

    On `frequencies[i]` of the 1096 days there were `counts[i]` notices; pass the frequencies as weights. Hasselblad (1969),
    "Estimation of finite mixtures of distributions from the exponential family", JASA 64, 1459-1471; Titterington, Smith &
    Makov (1985), "Statistical Analysis of Finite Mixture Distributions".

    >>> import jaxem
    >>> counts, frequencies = jaxem.datasets.london_times_deaths()
    >>> print(f"{frequencies.sum():.0f} days, {counts @ frequencies:.0f} notices")
    1096 days, 2364 notices
    """
    counts, frequencies = _load("london_times_deaths").T
    return counts, frequencies
