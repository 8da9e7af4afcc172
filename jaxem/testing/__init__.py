"""The laws of `jaxem.model`, as checks that a model or a family of one's own can be put to."""

from jaxem.testing.families import check_family as check_family
from jaxem.testing.laws import check_ascent as check_ascent
from jaxem.testing.laws import check_fisher_identity as check_fisher_identity
from jaxem.testing.laws import check_honest_end as check_honest_end
from jaxem.testing.laws import check_lanes as check_lanes
from jaxem.testing.laws import check_linearity as check_linearity
from jaxem.testing.laws import check_model as check_model
from jaxem.testing.laws import check_one_voice as check_one_voice
from jaxem.testing.laws import check_stationarity as check_stationarity
from jaxem.testing.laws import check_tightness as check_tightness
