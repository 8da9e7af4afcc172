"""Pictures of fits, by matplotlib (`pip install 'jaxem[plot]'`), which is imported when the first is drawn.

Each draws into the axes that it is given by `ax=`, or into a new figure, and returns the axes. All have one style, also for
pictures of one's own: `plt.style.use("jaxem.plots.quiet")`.
"""

from jaxem.plots.mixtures import density as density
from jaxem.plots.mixtures import pairs as pairs
from jaxem.plots.mixtures import uncertainty as uncertainty
from jaxem.plots.searches import history as history
from jaxem.plots.searches import restarts as restarts
from jaxem.plots.searches import selection as selection
from jaxem.plots.sequences import forecast as forecast
from jaxem.plots.sequences import states as states

__all__ = ["density", "forecast", "history", "pairs", "restarts", "selection", "states", "uncertainty"]
