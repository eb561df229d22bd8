"""What each arm may earn beyond sending nothing, as draws: a normal hierarchy from all arms to an arm to its leaves.

Per arm: what control earns in a leaf ~ N(base, level^2), what treatment adds there ~ N(uplift, differ^2), and both are
seen with noise. Given `level` and `differ` everything is normal and in closed form (Gelman et al., "Bayesian Data
Analysis", chapter 5). Which of a grid of the two is right is weighed by how well it explains an arm's outcomes, times
how often it is right among all arms (empirical Bayes; Efron, "Large-Scale Inference", chapter 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist

import numpy as np

from orchestrator.learning.evidence import Evidence
from orchestrator.learning.outcomes import Array

DIFFER = (0.01, 0.03, 0.06, 0.1, 0.16, 0.25, 0.4, 0.7)
"""By how much leaves may differ in uplift, in standard deviations of one outcome."""

LEVEL = (0.01, 0.05, 0.12, 0.25, 0.5)
"""By how much leaves may differ in what control earns, in the same measure."""

ALONE = 1.0
"""The same where nothing is pooled: every leaf stands for itself."""

_EM_STEPS = 12


@dataclass(frozen=True, slots=True)
class Posterior:
    """Draws of the uplift, minor units, by [arm, leaf, draw] and of the arm over all leaves by [arm, draw].

    `mean` and `deviation` describe [arm, leaf]; `control` is the variance of what is known of control there.
    """

    leaves: Array
    arms: Array
    mean: Array
    deviation: Array
    control: Array


def posterior_of(
    evidence: Evidence,
    names: Sequence[str],
    parents: Mapping[str, str],
    draws: int,
    seed: str,
    *,
    pooling: bool = True,
) -> Posterior:
    """Return the posterior of arms by name; an arm with a parent begins where that one's posterior is."""
    differ, level = _grid(evidence.spread, pooling)
    offset = np.zeros(evidence.mean[0].shape)
    nothing = np.zeros(len(names))
    free = _solve(evidence, offset, differ, level, _Prior(nothing, nothing + evidence.unknown, nothing))
    prior = _among_arms(free, evidence, pooling)
    fit = _solve(evidence, offset, differ, level, prior)
    place = {name: number for number, name in enumerate(names)}
    for child, parent in parents.items():  # in the order of descent, so that a grandchild finds its parent renewed
        mine, theirs = place[child], place[parent]
        mean, variance = fit.moments()
        prior.centre[mine] = mean[theirs]
        prior.width[mine] = variance[theirs] + (differ[theirs] ** 2 * fit.shares[theirs]).sum()
        prior.unsure[mine] = 0.0  # that is in the width: the variance of what it grew from has it
        offset[mine] = fit.cell_means()[theirs] - mean[theirs]
        fit = _solve(evidence, offset, differ, level, prior)
    return fit.sample(names, draws, seed)


@dataclass(frozen=True, slots=True)
class _Prior:
    """What each arm's uplift is before its own outcomes: N(centre, width), and the variance of the centre itself.

    The centre is learned from the same arms. With few of them it is not well known, and all arms share that error.
    """

    centre: Array
    width: Array
    unsure: Array


@dataclass(frozen=True, slots=True)
class _Fit:
    """Each arm's posterior for every pair on the grid: [arm, pair] and [arm, leaf, pair]."""

    shares: Array
    base: Array
    uplift: Array
    base_variance: Array
    uplift_variance: Array
    both: Array
    pull: tuple[Array, Array, Array]
    """What a leaf's uplift is: constant + pull on base x base + pull on uplift x uplift."""
    leaf_variance: Array
    control_variance: Array
    offset: Array
    prior: _Prior

    def moments(self) -> tuple[Array, Array]:
        """Return mean and variance of each arm's uplift."""
        mean = (self.shares * self.uplift).sum(axis=1)
        _, follows = self._following()
        variance = self.uplift_variance + follows**2 * self.prior.unsure[:, None]
        second = (self.shares * (variance + self.uplift**2)).sum(axis=1)
        return mean, np.maximum(second - mean**2, 0.0)

    def _following(self) -> tuple[Array, Array]:
        """Return how much base and uplift of an arm move with the centre of all arms, by [arm, pair]."""
        return self.both / self.prior.width[:, None], self.uplift_variance / self.prior.width[:, None]

    def cell_means(self) -> Array:
        """Return the mean uplift of each arm in each leaf."""
        constant, on_base, on_uplift = self.pull
        means = constant + on_base * self.base[:, None] + on_uplift * self.uplift[:, None]
        result: Array = (self.shares[:, None] * means).sum(axis=2) + self.offset
        return result

    def cell_variances(self) -> Array:
        """Return the variance of the uplift of each arm in each leaf."""
        constant, on_base, on_uplift = self.pull
        means = constant + on_base * self.base[:, None] + on_uplift * self.uplift[:, None]
        base, uplift = self._following()
        follows = on_base * base[:, None] + on_uplift * uplift[:, None]
        shared = _carried(on_base, on_uplift, self.base_variance, self.both, self.uplift_variance)
        shared = shared + follows**2 * self.prior.unsure[:, None, None]
        second = (self.shares[:, None] * (self.leaf_variance + shared + means**2)).sum(axis=2)
        first = (self.shares[:, None] * means).sum(axis=2)
        variances: Array = np.maximum(second - first**2, 0.0)
        return variances

    def sample(self, names: Sequence[str], draws: int, seed: str) -> Posterior:
        """Return draws that depend on names and the seed only, however many other arms there are."""
        constant, on_base, on_uplift = self.pull
        arms, leaves, _ = constant.shape
        of_leaves, of_arms = np.empty((arms, leaves, draws)), np.empty((arms, draws))
        levels = _normal_levels(draws)
        centre = generator("posterior", seed, "all arms").permutation(levels)
        base_follows, uplift_follows = self._following()
        for arm, name in enumerate(names):
            chance = generator("posterior", seed, name)
            pair = np.searchsorted(np.cumsum(self.shares[arm]), (chance.permutation(draws) + 0.5) / draws)
            pair = np.minimum(pair, self.shares.shape[1] - 1)
            first, second = chance.permutation(levels), chance.permutation(levels)
            deviation = np.sqrt(self.uplift_variance[arm, pair])
            uplift = self.uplift[arm, pair] + deviation * first
            slope = np.divide(self.both[arm, pair], deviation, out=np.zeros(draws), where=deviation > 0)
            rest = np.maximum(self.base_variance[arm, pair] - slope**2, 0.0)
            base = self.base[arm, pair] + slope * first + np.sqrt(rest) * second
            moved = np.sqrt(self.prior.unsure[arm]) * centre
            base, uplift = base + base_follows[arm, pair] * moved, uplift + uplift_follows[arm, pair] * moved
            own = chance.permuted(np.tile(levels, (leaves, 1)), axis=1)
            of_arms[arm] = uplift
            of_leaves[arm] = (
                constant[arm][:, pair]
                + on_base[arm][:, pair] * base
                + on_uplift[arm][:, pair] * uplift
                + np.sqrt(self.leaf_variance[arm][:, pair]) * own
                + self.offset[arm][:, None]
            )
        return Posterior(
            of_leaves,
            of_arms,
            self.cell_means(),
            np.sqrt(self.cell_variances()),
            (self.shares[:, None] * self.control_variance).sum(axis=2),
        )


def generator(*cause: str) -> np.random.Generator:
    """Return a counter-based generator whose numbers follow from their cause."""
    digest = blake2b("\x1f".join(cause).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "big")))


def _normal_levels(draws: int) -> Array:
    """Return as many quantiles of the normal distribution, scaled so that their variance is 1: draws without luck."""
    normal = NormalDist()
    levels = np.array([normal.inv_cdf((number + 0.5) / draws) for number in range(draws)])
    scaled: Array = levels / levels.std()
    return scaled


def _grid(spread: Array, pooling: bool) -> tuple[Array, Array]:
    """Return each arm's grid of both deviations, minor units."""
    if not pooling:
        alone = ALONE * spread[:, None]
        return alone, alone
    pairs = np.array([(differ, level) for differ in DIFFER for level in LEVEL])
    return spread[:, None] * pairs[:, 0], spread[:, None] * pairs[:, 1]


def _solve(evidence: Evidence, offset: Array, differ: Array, level: Array, prior: _Prior) -> _Fit:
    """Return the posterior given what each arm's uplift is before its outcomes, and leaves' known offsets from it."""
    (z0, z1), (v0, v1) = evidence.mean, evidence.variance
    z0, z1, v0, v1 = z0[..., None], (z1 - offset * (evidence.rows[1] > 0))[..., None], v0[..., None], v1[..., None]
    t, t0 = differ[:, None] ** 2, level[:, None] ** 2
    # What is seen of a leaf, (control, treatment), has covariance [[a, b], [b, d]] given the arm.
    a, b, d = v0 + t0, t0, v1 + t0 + t
    determinant = a * d - b * b
    p00, p01, p11 = d / determinant, -b / determinant, a / determinant
    # The arm's (base, uplift): control is base, treatment base + uplift.
    q00 = (p00 + 2 * p01 + p11).sum(axis=1)
    q01 = (p01 + p11).sum(axis=1)
    q11 = p11.sum(axis=1) + 1 / prior.width[:, None]
    r0 = ((p00 + p01) * z0 + (p01 + p11) * z1).sum(axis=1)
    r1 = (p01 * z0 + p11 * z1).sum(axis=1) + (prior.centre / prior.width)[:, None]
    q00 = q00 + 1 / evidence.unknown
    det = q00 * q11 - q01 * q01
    base, uplift = (q11 * r0 - q01 * r1) / det, (q00 * r1 - q01 * r0) / det
    fitted = (p00 * z0 * z0 + 2 * p01 * z0 * z1 + p11 * z1 * z1 + np.log(determinant)).sum(axis=1)
    likelihood = -0.5 * (fitted - (base * r0 + uplift * r1) + np.log(det))
    # A leaf, given its arm: (own base, own uplift) with precision [[e, f], [f, g]].
    e, f, g = 1 / t0 + 1 / v0 + 1 / v1, 1 / v1, 1 / t + 1 / v1
    own = e * g - f * f
    seen0, seen1 = z0 / v0 + z1 / v1, z1 / v1
    base_variance, uplift_variance, both = q11 / det, q00 / det, -q01 / det
    # How well a leaf's base is known: given its arm, and as far as the arm's is not known.
    arm_unknown = _carried(g / t0 / own, -f / t / own, base_variance, both, uplift_variance)
    return _Fit(
        shares=_shares(likelihood),
        base=base,
        uplift=uplift,
        base_variance=base_variance,
        uplift_variance=uplift_variance,
        both=both,
        pull=((e * seen1 - f * seen0) / own, -f / t0 / own, e / t / own),
        leaf_variance=e / own,
        control_variance=g / own + arm_unknown,
        offset=offset,
        prior=prior,
    )


def _carried(on_base: Array, on_uplift: Array, base: Array, both: Array, uplift: Array) -> Array:
    """Return the variance in leaves that comes of not knowing their arms, by [arm, leaf, pair]."""
    variance: Array = (
        on_base**2 * base[:, None] + 2 * on_base * on_uplift * both[:, None] + on_uplift**2 * uplift[:, None]
    )
    return variance


def _shares(likelihood: Array) -> Array:
    """Return how probable each pair is for each arm, with what is usual among arms learned from all of them."""
    relative = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    pairs = likelihood.shape[1]
    usual = np.full(pairs, 1 / pairs)
    for _ in range(_EM_STEPS):
        shares = relative * usual
        shares /= shares.sum(axis=1, keepdims=True)
        usual = (shares.sum(axis=0) + 1 / pairs) / (len(shares) + 1)
    shares = relative * usual
    result: Array = shares / shares.sum(axis=1, keepdims=True)
    return result


def _among_arms(fit: _Fit, evidence: Evidence, pooling: bool) -> _Prior:
    """Return mean and variance of the uplift among arms, by the moments of DerSimonian and Laird (1986)."""
    wide = float((evidence.spread**2).max(initial=1.0))
    mean, variance = fit.moments()
    known = (evidence.rows[0].sum(axis=1) > 1) & (evidence.rows[1].sum(axis=1) > 1)
    nothing = np.zeros(len(mean))
    if not pooling or known.sum() < 3:
        return _Prior(nothing, nothing + wide, nothing.copy())
    mean, weight = mean[known], 1 / variance[known]
    total = weight.sum()
    middle = float((weight * mean).sum() / total)
    excess = float((weight * (mean - middle) ** 2).sum() - (known.sum() - 1))
    varied = max(excess / float(total - (weight**2).sum() / total), 0.0025 * wide)
    weight = 1 / (variance[known] + varied)
    centre = float((weight * mean).sum() / weight.sum())
    return _Prior(nothing + centre, nothing + varied, nothing + 1 / float(weight.sum()))
