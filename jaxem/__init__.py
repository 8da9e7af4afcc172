"""Expectation-Maximization for any latent-variable model, in JAX."""

from jaxem import components as components
from jaxem import constraints as constraints
from jaxem import datasets as datasets
from jaxem import families as families
from jaxem import plots as plots
from jaxem import seeds as seeds
from jaxem import starts as initialize
from jaxem import testing as testing
from jaxem.blocks import chunked as chunked
from jaxem.bound import lower_bound as lower_bound
from jaxem.buckets import exact_shapes as exact_shapes
from jaxem.certificate import Certificate as Certificate
from jaxem.certificate import Stationarity as Stationarity
from jaxem.certificate import certify as certify
from jaxem.certificate import escape as escape
from jaxem.certificate import polish as polish
from jaxem.charts import parameter_names as parameter_names
from jaxem.choice import Chosen as Chosen
from jaxem.choice import Mixtures as Mixtures
from jaxem.choice import Selection as Selection
from jaxem.choice import mixtures as mixtures
from jaxem.choice import select as select
from jaxem.criteria import aic as aic
from jaxem.criteria import aicc as aicc
from jaxem.criteria import bic as bic
from jaxem.criteria import icl as icl
from jaxem.criteria import num_free_parameters as num_free_parameters
from jaxem.each import Each as Each
from jaxem.each import fit_each as fit_each
from jaxem.errors import StandardErrors as StandardErrors
from jaxem.errors import standard_errors as standard_errors
from jaxem.files import load as load
from jaxem.files import save as save
from jaxem.fitting import Fit as Fit
from jaxem.fitting import fit as fit
from jaxem.forecasting import Forecast as Forecast
from jaxem.forecasting import filtering as filtering
from jaxem.forecasting import forecast as forecast
from jaxem.forecasting import predictive_log_prob as predictive_log_prob
from jaxem.forecasting import viterbi as viterbi
from jaxem.freezing import freeze as freeze
from jaxem.freezing import thaw as thaw
from jaxem.gradient import gradient_m_step as gradient_m_step
from jaxem.impute import impute as impute
from jaxem.influence import influence as influence
from jaxem.likelihood_ratio import Test as Test
from jaxem.likelihood_ratio import likelihood_ratio_test as likelihood_ratio_test
from jaxem.marginal import conditional as conditional
from jaxem.marginal import marginal as marginal
from jaxem.matching import match_components as match_components
from jaxem.matching import sort_components as sort_components
from jaxem.model import Family as Family
from jaxem.model import Model as Model
from jaxem.models.enumerated import from_log_joint as from_log_joint
from jaxem.models.hmm import HMM as HMM
from jaxem.models.hmm import HMMPosterior as HMMPosterior
from jaxem.models.hmm import hmm as hmm
from jaxem.models.linear_gaussian import linear_gaussian as linear_gaussian
from jaxem.models.mixture import Mixture as Mixture
from jaxem.models.mixture import mixture as mixture
from jaxem.models.single import single as single
from jaxem.models.state_space.records import LinearGaussian as LinearGaussian
from jaxem.models.state_space.records import StateSpacePosterior as StateSpacePosterior
from jaxem.prior import with_prior as with_prior
from jaxem.reparametrize import reparametrize as reparametrize
from jaxem.reports import summary as summary
from jaxem.resampling import Bootstrap as Bootstrap
from jaxem.resampling import bootstrap as bootstrap
from jaxem.restarts import Restarts as Restarts
from jaxem.restarts import fit_restarts as fit_restarts
from jaxem.restarts import num_reached as num_reached
from jaxem.sequences import Sequences as Sequences
from jaxem.sequences import sequences as sequences
from jaxem.sequences import sequences_from as sequences_from
from jaxem.solvers import Solver as Solver
from jaxem.solvers import anderson as anderson
from jaxem.solvers import em as em
from jaxem.solvers import squarem as squarem
from jaxem.starts import jitter as jitter
from jaxem.stopping import Status as Status
from jaxem.trees import Shared as Shared
from jaxem.validation import cross_validate as cross_validate

__version__ = "0.2.0"
__all__ = [
    "HMM",
    "Bootstrap",
    "Certificate",
    "Chosen",
    "Each",
    "Family",
    "Fit",
    "Forecast",
    "HMMPosterior",
    "LinearGaussian",
    "Mixture",
    "Mixtures",
    "Model",
    "Restarts",
    "Selection",
    "Sequences",
    "Shared",
    "Solver",
    "StandardErrors",
    "StateSpacePosterior",
    "Stationarity",
    "Status",
    "Test",
    "aic",
    "aicc",
    "anderson",
    "bic",
    "bootstrap",
    "certify",
    "chunked",
    "components",
    "conditional",
    "constraints",
    "cross_validate",
    "datasets",
    "em",
    "escape",
    "exact_shapes",
    "families",
    "filtering",
    "fit",
    "fit_each",
    "fit_restarts",
    "forecast",
    "freeze",
    "from_log_joint",
    "gradient_m_step",
    "hmm",
    "icl",
    "impute",
    "influence",
    "initialize",
    "jitter",
    "likelihood_ratio_test",
    "linear_gaussian",
    "load",
    "lower_bound",
    "marginal",
    "match_components",
    "mixture",
    "mixtures",
    "num_free_parameters",
    "num_reached",
    "parameter_names",
    "plots",
    "polish",
    "predictive_log_prob",
    "reparametrize",
    "save",
    "seeds",
    "select",
    "sequences",
    "sequences_from",
    "single",
    "sort_components",
    "squarem",
    "standard_errors",
    "summary",
    "testing",
    "thaw",
    "viterbi",
    "with_prior",
]


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
