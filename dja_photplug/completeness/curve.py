"""The model of the completeness of injected sources, and what they say of its parameters.

A source that lies on none brighter than itself is detected where its flux exceeds a threshold in the noise around it:
its completeness falls with its magnitude less the depth of its place, by a curve between an error function and a
logistic with a free asymmetry. Places beside others, and those on the segment of a brighter source, lose sources by the
light of these and not by noise: there the completeness falls slowly. All of it has a free asymptote.

Injected into the two UDS mosaics (400 realisations, F444W and F115W), magnitude less depth put the eight depth zones
together to 0.04 mag; their sum is no logistic but has a shelf, which one curve for all missed by 0.3 mag.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

__all__ = ["Posterior", "Trials", "fit_posterior", "predict"]

Floats = NDArray[np.float64]

# Centre and standard deviation of what is believed of each parameter before a source is injected. `middle` gets those
# of the range of magnitudes.
#   width: from 80 to 20 % of the curve of clear places, ln mag. Noise alone makes it 1.83 / s mag at a threshold of s
#     sigma in the light of the source: 0.37 at 5 sigma; galaxies of many sizes widen it.
#   asymmetry: ln of Richards' exponent, 0 for a symmetric curve.
#   tails: logit of the share of the logistic, which has wider tails than the error function of Gaussian noise.
#   asymptote: its logit; 4.5 is 0.99, and 0.82 is two standard deviations off.
#   beside: logit of the share of clear places where others' light counts: 0.03.
#   offset: of the middle of the slow curve from `middle`, mag; -1.8 and -2.2 in the UDS.
#   slow: its width, ln mag; 2.3 mag in the UDS.
#   slope: of the limit with depth; 1 where the detection's threshold follows the noise of the background.
#   zone: by how much the limit of one depth zone is off what its depth tells, mag; 0.03 in the UDS.
PRIOR: dict[str, tuple[float, float]] = {
    "middle": (np.nan, np.nan),
    "width": (np.log(0.5), 0.6),
    "asymmetry": (0.0, 0.5),
    "tails": (0.0, 1.5),
    "asymptote": (4.5, 1.5),
    "beside": (-3.5, 1.0),
    "offset": (-2.0, 3.0),
    "slow": (np.log(3.0), 0.5),
    "slope": (1.0, 0.1),
}
ZONE_SCATTER = 0.05

LOG16 = np.log(16)  # a logistic falls from 0.8 to 0.2 within this many of its scales

# Draws of the parameters, picked from more of them by how probable they are.
DRAWS, CANDIDATES, FREEDOM = 500, 4000, 6.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trials:
    """Injected sources: their magnitudes and places, and what became of them; all (n,).

    Attributes
    ----------
    mag : ndarray
        AB magnitude.
    depth : ndarray
        How much deeper the place is than others, mag.
    zone : ndarray
        Number of its depth zone, from 0.
    blended : ndarray of bool
        Whether it lies on a source that is brighter.
    recovered : ndarray
        Sources that were recovered, of `n`.
    n : ndarray
        Sources of this kind that were injected.
    """

    mag: Floats
    depth: Floats
    zone: NDArray[np.intp]
    blended: NDArray[np.bool_]
    recovered: Floats
    n: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """What is known of the parameters.

    Attributes
    ----------
    best : ndarray
        The most probable ones, (p,).
    draws : ndarray
        Some that are as probable as they come, (`DRAWS`, p).
    """

    best: Floats
    draws: Floats


def predict(parameters: Floats, mag: Floats, depth: Floats, zone: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return the completeness of sources that are not blended, and of those that are.

    Parameters
    ----------
    parameters : ndarray
        (..., p): those of `PRIOR` in their order, then the offsets of the depth zones.
    mag, depth : ndarray
        AB magnitude and depth of each source, mag, (n,).
    zone : ndarray of int
        Its depth zone, (n,).

    Returns
    -------
    clear, blended : ndarray
        (..., n).
    """
    middle, width, asymmetry, tails, asymptote, beside, offset, slow, slope = np.moveaxis(
        parameters[..., : len(PRIOR), None], -2, 0
    )
    asymptote, beside, tails = expit(asymptote), expit(beside), expit(tails)
    drop = (mag - slope * depth - middle - parameters[..., len(PRIOR) :][..., zone]) * np.exp(-width)
    blended = asymptote * expit((middle + offset - mag) * LOG16 * np.exp(-slow))
    narrow = _fall(drop, np.exp(np.clip(asymmetry, -2.5, 2.5)), tails)  # beyond it nothing changes
    return (1 - beside) * asymptote * narrow + beside * blended, blended


def _fall(drop: Floats, power: Floats, tails: Floats) -> Floats:
    """Return a curve of 1/2 at 0, which falls from 0.8 to 0.2 within 1.

    Logistic and Gaussian cumulative distributions to the power of 1 / `power`, shifted and stretched; symmetric for 1.
    """
    upper, half, lower = 0.8**power, 0.5**power, 0.2**power
    logistic = expit(logit(half) - drop * (logit(upper) - logit(lower)))
    gaussian = ndtr(ndtri(half) - drop * (ndtri(upper) - ndtri(lower)))
    return tails * logistic ** (1 / power) + (1 - tails) * gaussian ** (1 / power)


def fit_posterior(trials: Trials, magnitudes: tuple[float, float], zones: int, deff: float = 1.0) -> Posterior:
    """Return what injected sources say of the parameters.

    The most probable parameters by Fisher's scoring; draws around them from a t distribution with the information
    there, picked by their true probability, so that skewed limits of few sources come out skewed.

    Parameters
    ----------
    trials : Trials
    magnitudes : tuple of float
        Brightest and faintest that were injected; the middle of the curve is believed to be in or near them.
    zones : int
        Number of depth zones.
    deff : float, optional
        By what the variance is larger than that of independent sources; it divides the log likelihood (Rao & Scott
        1981, JASA 76, 221).

    Returns
    -------
    Posterior
    """
    low, high = magnitudes
    centre, scatter = np.array([*PRIOR.values(), *[(0, ZONE_SCATTER)] * zones], dtype=np.float64).T
    centre[0], scatter[0] = (low + high) / 2, high - low
    trials = _gather(trials)
    density = _Density(trials=trials, centre=centre, scatter=scatter, deff=deff)
    start = np.tile(centre, (41, 1))
    start[:, 0] = np.linspace(low - 1, high + 1, 41)
    best, information = _climb(density, start[np.argmax(density(start))])
    rng = np.random.default_rng(0)  # the same draws for the same sources
    step = rng.standard_normal((CANDIDATES, len(best))) @ np.linalg.inv(np.linalg.cholesky(information))
    step *= np.sqrt(FREEDOM / rng.chisquare(FREEDOM, (CANDIDATES, 1)))
    distance = np.einsum("ij,jk,ik->i", step, information, step)
    proposed = -(FREEDOM + len(best)) / 2 * np.log1p(distance / FREEDOM)
    weight = np.concatenate([density(best + part) for part in np.array_split(step, 20)]) - proposed
    weight = np.exp(weight - weight.max())
    return Posterior(best=best, draws=best + step[rng.choice(CANDIDATES, DRAWS, p=weight / weight.sum())])


def _gather(trials: Trials) -> Trials:
    """Return the sources that the model takes for alike, within 0.02 mag, as one of each kind."""
    shift = trials.mag - np.where(trials.blended, 0, trials.depth)
    kind = np.stack([np.floor(shift / 0.02).astype(int), trials.zone, trials.blended])
    _, first, index = np.unique(kind, axis=1, return_index=True, return_inverse=True)
    index = index.ravel()  # numpy 2.0 returns (1, n)
    n = np.bincount(index, trials.n).astype(np.float64)
    mag, depth = (np.bincount(index, values * trials.n) / n for values in (trials.mag, trials.depth))
    recovered = np.bincount(index, trials.recovered).astype(np.float64)
    return Trials(
        mag=mag,
        depth=depth,
        zone=trials.zone[first],
        blended=trials.blended[first],
        recovered=recovered,
        n=n,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Density:
    """The log of the probability of parameters (..., p), but for a constant."""

    trials: Trials
    centre: Floats
    scatter: Floats
    deff: float

    def completeness(self, parameters: Floats) -> Floats:
        """Return that of each trial, (..., n), never quite 0 or 1."""
        trials = self.trials
        clear, blended = predict(parameters, trials.mag, trials.depth, trials.zone)
        return np.clip(np.where(trials.blended, blended, clear), 1e-6, 1 - 1e-6)

    def __call__(self, parameters: Floats) -> Floats:
        p, trials = self.completeness(parameters), self.trials
        likelihood = (trials.recovered * np.log(p) + (trials.n - trials.recovered) * np.log1p(-p)).sum(axis=-1)
        return likelihood / self.deff - (((parameters - self.centre) / self.scatter) ** 2).sum(axis=-1) / 2

    def slope(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return the gradient (p,) and Fisher's information (p, p)."""
        step = 1e-4 * np.eye(len(parameters))
        jacobian = (self.completeness(parameters + step) - self.completeness(parameters - step)) / 2e-4
        p = self.completeness(parameters)
        variance = self.deff * p * (1 - p)
        gradient = jacobian @ ((self.trials.recovered - self.trials.n * p) / variance)
        information = (jacobian * (self.trials.n / variance)) @ jacobian.T
        prior = (parameters - self.centre) / self.scatter**2
        return gradient - prior, information + np.diag(1 / self.scatter**2)


def _climb(density: _Density, parameters: Floats) -> tuple[Floats, Floats]:
    """Return the most probable parameters near some (p,), and the information there (p, p): Levenberg's method."""
    value, damping = density(parameters), 1e-3
    gradient, information = density.slope(parameters)
    for _ in range(200):
        step = np.linalg.solve(information + damping * np.diag(np.diag(information)), gradient)
        higher = density(parameters + step)
        if higher >= value:
            gain, value, damping = higher - value, higher, max(damping / 10, 1e-8)
            parameters = parameters + step
            gradient, information = density.slope(parameters)
            if gain < 1e-6:
                break
        elif damping > 1e8:
            break
        else:
            damping *= 10
    return parameters, information
