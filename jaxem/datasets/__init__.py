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


def _columns(name: str) -> dict[str, Array]:
    """Return a shipped file as its columns, whole numbers as integers."""
    with csv_file(name).open(encoding="utf-8") as lines:
        names = lines.readline().strip().split(",")
        table = np.loadtxt(lines, delimiter=",").T
    whole = [(column == column.round()).all() for column in table]
    return {name: jnp.asarray(x.astype(int) if is_whole else x) for name, x, is_whole in zip(names, table, whole, strict=True)}


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


def candy() -> tuple[Array, Array]:
    """Return packages of hard candy bought in a week by 456 people: counts (21,), frequencies (21,).

    `frequencies[i]` people bought `counts[i]` packages; pass the frequencies as weights. Dillon & Kumar (1994), "Latent
    structure and other mixture models in marketing", in Bagozzi (ed.), "Advanced Methods of Marketing Research", 352-388.

    >>> import jaxem
    >>> counts, frequencies = jaxem.datasets.candy()
    >>> print(f"{frequencies.sum():.0f} people, {counts @ frequencies:.0f} packages")
    456 people, 1820 packages
    """
    counts, frequencies = _load("candy").T
    return counts, frequencies


def galaxies() -> Array:
    """Return the velocities at which 82 galaxies in the region of Corona Borealis recede from ours: (82,), in km/s.

    Postman, Huchra & Geller (1986), "Probes of large-scale structure in the Corona Borealis region", Astronomical Journal
    92, 1238-1247; the 82 that Roeder (1990) made known, "Density estimation with confidence sets exemplified by superclusters
    and voids in the galaxies", JASA 85, 617-624, with the 78th as it was measured, 26960, where copies often have 26690.

    >>> import jaxem
    >>> print(f"{jaxem.datasets.galaxies().mean():.0f}")
    20831
    """
    return _load("galaxies")


def device_lifetimes() -> Array:
    """Return how long 50 devices on a life test worked: (50,), in weeks, sorted.

    Aarset (1987), "How to identify a bathtub hazard rate", IEEE Transactions on Reliability 36, 106-108.

    >>> import jaxem
    >>> weeks = jaxem.datasets.device_lifetimes()
    >>> print(weeks[:4], f"{weeks.mean():.1f} weeks on average")
    [0.1 0.2 1.  1. ] 45.7 weeks on average
    """
    return _load("device_lifetimes")


def turtles() -> Array:
    """Return the directions that 76 turtles took after laying their eggs: (76,), in degrees, clockwise from north.

    Gould's data, as given by Stephens (1969), "Techniques for directional data", Technical Report 150, Stanford University,
    and by Mardia & Jupp (2000), "Directional Statistics", §1.1.

    >>> import jaxem
    >>> print(jaxem.datasets.turtles()[:3])
    [ 8.  9. 13.]
    """
    return _load("turtles")


def house_votes() -> tuple[Array, Array]:
    """Return sixteen votes in the U.S. House of Representatives, 1984: votes (435, 16), parties (435,), whole numbers.

    Votes are 1 for, 0 against, -1 where none is on record; parties are 0 for Democrats, 1 for Republicans. "Congressional
    Voting Records", UCI Machine Learning Repository, by Schlimmer (1987), from the Congressional Quarterly Almanac of the
    98th Congress, 2nd session.

    >>> import jaxem
    >>> votes, parties = jaxem.datasets.house_votes()
    >>> print(votes[0], f"{(votes == -1).mean():.1%} missing")
    [ 0  1  0  1  1  1  0  0  0  1 -1  1  1  1  0  1] 5.6% missing
    """
    party, *votes = _columns("house_votes").values()
    return jnp.stack(votes, 1), party


def npreg() -> dict[str, Array]:
    """Return artificial responses of two groups of a hundred to one number, as columns (200,).

    `x` in [0, 10]; `yn` Gaussian, about 5 x in one group and about 40 - (x - 5)² in the other; `yp` Poisson; `yb` zero or one;
    `class` the group, 1 or 2; `id2` numbers the fifty fours of rows that share a group. The data set NPreg of flexmix: Grün &
    Leisch (2008), "FlexMix version 2: finite mixtures with concomitant variables and varying and constant parameters",
    Journal of Statistical Software 28(4).

    >>> import jaxem
    >>> columns = jaxem.datasets.npreg()
    >>> print(list(columns), columns["yp"][:5])
    ['x', 'yn', 'yp', 'yb', 'class', 'id2'] [4 3 9 3 4]
    """
    return _columns("npreg")


def ethanol() -> dict[str, Array]:
    """Return exhaust of an engine that burns ethanol, 88 runs, as columns (88,).

    `nitric_oxide` the peak concentration of oxides of nitrogen, in μg per joule; `equivalence` the ratio of fuel to air, one
    where both burn up. Brinkman (1981), "Ethanol fuel: a single-cylinder engine study of efficiency and exhaust emissions",
    SAE Transactions 90, 1410-1424.

    >>> import jaxem
    >>> print({name: f"{column.mean():.2f}" for name, column in jaxem.datasets.ethanol().items()})
    {'equivalence': '0.93', 'nitric_oxide': '1.96'}
    """
    return _columns("ethanol")


def beta_blockers() -> dict[str, Array]:
    """Return deaths after a heart attack in 22 clinical centres, with beta-blockers and without, as columns (44,).

    `deaths` of `total` patients of the `center`, 1 to 22, of whom all were `treated`, 1, or none, 0. Yusuf, Peto, Lewis,
    Collins & Sleight (1985), "Beta blockade during and after myocardial infarction: an overview of the randomized trials",
    Progress in Cardiovascular Diseases 27, 335-371.

    >>> import jaxem
    >>> columns = jaxem.datasets.beta_blockers()
    >>> print(f"{columns['deaths'].sum()} of {columns['total'].sum()} died")
    1811 of 20290 died
    """
    return _columns("beta_blockers")


def earthquakes() -> dict[str, Array]:
    """Return how many earthquakes of magnitude 7 and more there were in the world, year by year: (107,) each.

    The keys are year, from 1900 to 2006, and count. Zucchini, MacDonald & Langrock (2016), "Hidden Markov Models for Time
    Series", table 1.1.

    >>> import jaxem
    >>> x = jaxem.datasets.earthquakes()
    >>> print(x["year"][0], x["count"].max())
    1900 41
    """
    return _columns("earthquakes")


def nile() -> dict[str, Array]:
    """Return the yearly flow of the Nile at Aswan in 10⁸ m³: (100,) each.

    The keys are year, from 1871 to 1970, and volume. R's `datasets::Nile`; Cobb (1978), "The problem of the Nile", Biometrika
    65, 243-251; Durbin & Koopman (2012), "Time Series Analysis by State Space Methods", §2.2.

    >>> import jaxem
    >>> x = jaxem.datasets.nile()
    >>> print(x["year"][0], x["volume"][0])
    1871 1120
    """
    return _columns("nile")
