"""`plan`: from outcomes to a policy snapshot, a pure function: the same outcomes give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from orchestrator.arbitration.campaign import Campaign
from orchestrator.events import DAY
from orchestrator.learning.evidence import Evidence, evidence_of, half_life_weights
from orchestrator.learning.intervals import errors_wide
from orchestrator.learning.journey import Moves, earning_rate, opportunities_of, values_of
from orchestrator.learning.outcomes import Array, Columns, Outcomes
from orchestrator.learning.posterior import Posterior, posterior_of
from orchestrator.program import Definitions
from orchestrator.valuation import (
    COLD,
    EVERYBODY,
    PROVEN,
    START,
    STOPPED,
    ArmValue,
    LeafValue,
    PolicySnapshot,
    arm_of,
    records_of,
)

DRAWS = 32
"""In how many possible worlds each arm's value is told."""

ENOUGH = {"treated": 50, "responders": 15, "control": 30, "control responders": 5}
"""Outcomes of an arm from which it is served at scale: below, only those few who explore get it."""

ENOUGH_CONTROL = 300.0
"""Outcomes in control, or what tells as much, from which an arm's control in a leaf may come down to its floor."""

SAFE_CONTROL_BP = 1_000
"""The least share of control until then, basis points, or where it starts when that is less."""

UNSETTLED, SETTLED = 2.0, 4.0
"""Deviations from nothing at which what an arm is worth begins to be settled, and is: then it needs least control."""

EXPLORE_UNTIL, EXPLORE_LESS = 60 * DAY, 120 * DAY
"""How long after the first decision exploration stays at its start, and when it has come down to its floor."""

LATELY = 60 * DAY
"""After which time what slots earned counts half for what they are worth: learning changes what they are used for."""

FOLLOW_ON_WITHIN = 90 * DAY
"""How long a stage lasts where no campaign says within what time it comes after another."""


@dataclass(frozen=True, slots=True)
class Model:
    """What the learner makes use of; switched off one at a time to see what each is worth (docs/learning.md)."""

    own_history: bool = True
    pooling: bool = True
    slot_price: bool = True
    follow_ons: bool = True
    against_control: bool = True
    money: str = ""
    draws: int = DRAWS


def plan(
    outcomes: Outcomes, definitions: Definitions, as_of: int, effective_from: int, model: Model = Model()
) -> PolicySnapshot:
    """Return what was learned up to an instant, to count from another one on."""
    book = _Book(definitions)
    columns = outcomes.as_of(as_of, definitions.campaigns, book.arms)
    weights = half_life_weights(columns, as_of, definitions.policy.half_life)
    offered = [book.campaign_of(arm) for arm in columns.arms]
    control = [0.1 if campaign is None else campaign.control_bp / 10_000 for campaign in offered]
    money = model.money or ("revenue" if definitions.policy.metric == "revenue" else "margin")
    evidence = evidence_of(columns, weights, control, money=money, own_history=model.own_history)
    if not model.against_control:
        evidence = _gross(evidence)
    parents = book.parents(columns.arms)
    posterior = posterior_of(evidence, columns.arms, parents, model.draws, f"{as_of}", pooling=model.pooling)
    return _Planner(book, columns, weights, evidence, posterior, as_of, model).snapshot(effective_from, parents)


class _Book:
    """The definitions as the learner reads them: arms, and what comes after what."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.campaigns: Mapping[str, Campaign] = {
            name: campaign for name, campaign in sorted(definitions.campaigns.items()) if not campaign.exempt
        }
        self._by_arm = {
            arm_of(name, offer, campaign.send.channel): campaign
            for name, campaign in self.campaigns.items()
            for offer in (("",) if campaign.offer is None else campaign.offer.choices)
        }

    @property
    def arms(self) -> Sequence[str]:
        return list(self._by_arm)

    def campaign_of(self, arm: str) -> Campaign | None:
        return self._by_arm.get(arm)

    def stage_after(self, campaign: str) -> str | None:
        """Return the stage that a response to a campaign leads to, None where it leads nowhere."""
        found = self.campaigns.get(campaign)
        return campaign if found is not None and found.leads_to else None

    def lasts(self, stage: str) -> int:
        """Return how long a stage lasts: as long as any campaign may still come after it."""
        within = [c.after.within for c in self.campaigns.values() if c.after is not None and c.after.campaign == stage]
        return max(within, default=FOLLOW_ON_WITHIN)

    def gated(self, campaign: str) -> bool:
        """Return whether only this campaign opens what follows it: those who come by themselves do not get there."""
        following = [self.campaigns.get(name) for name in self.campaigns[campaign].leads_to]
        return all(one is not None and one.after is not None and one.after.campaign == campaign for one in following)

    def parents(self, arms: Sequence[str]) -> dict[str, str]:
        """Return each arm's parent, grandparents first: the same offer and channel of what the campaign grew from."""
        found: dict[str, str] = {}
        for arm in arms:
            campaign = self.campaign_of(arm)
            if campaign is None or not campaign.grew_from:
                continue
            _, _, rest = arm.partition(campaign.name)
            parent = f"{campaign.grew_from}{rest}"
            alike = [parent] if parent in arms else [one for one in arms if _name_of(one) == campaign.grew_from]
            if alike and alike[0] != arm:
                found[arm] = alike[0]
        return dict(sorted(found.items(), key=lambda pair: (_generation(pair[0], found), pair[0])))


def _name_of(arm: str) -> str:
    return arm.rpartition("@")[0].partition("+")[0]


def _generation(arm: str, parents: Mapping[str, str]) -> int:
    seen = {arm}
    while (parent := parents.get(arm)) is not None and parent not in seen:
        seen.add(parent)
        arm = parent
    return len(seen)


def _gross(evidence: Evidence) -> Evidence:
    """Return evidence as if whatever those earned who got a campaign were its merit: what is not to be done."""
    nothing, certain = np.zeros_like(evidence.mean[0]), np.ones_like(evidence.variance[0])
    return replace(evidence, mean=(nothing, evidence.mean[1]), variance=(certain, evidence.variance[1]))


class _Planner:
    """One plan: everything known by arm and leaf, put together."""

    def __init__(
        self,
        book: _Book,
        columns: Columns,
        weights: Array,
        evidence: Evidence,
        posterior: Posterior,
        as_of: int,
        model: Model,
    ) -> None:
        self.book, self.columns, self.weights, self.as_of = book, columns, weights, as_of
        self.evidence, self.posterior, self.model = evidence, posterior, model
        self.policy = book.definitions.policy
        self.names = [arm for arm in columns.arms if book.campaign_of(arm) is not None]
        self.index = np.array([place for place, arm in enumerate(columns.arms) if arm in set(self.names)], dtype=int)
        self.campaigns = [campaign for arm in self.names if (campaign := book.campaign_of(arm)) is not None]
        self.stages = list(columns.stages)
        self.stages += sorted({one for name in book.campaigns if (one := book.stage_after(name))} - set(self.stages))
        self.alone = list(columns.leaves) == [EVERYBODY]

    def snapshot(self, effective_from: int, parents: Mapping[str, str]) -> PolicySnapshot:
        gain, moves = self._gains(), self._moves()
        proven = self._proven(parents)
        values = self._values(np.where(proven[:, None, None], gain, -np.inf), moves)
        stopped = self._stopped(gain, moves, values)
        if stopped.any():
            values = self._values(np.where((proven[:, None] & ~stopped)[:, :, None], gain, -np.inf), moves)
        control = self._control(gain, moves, values, proven)
        leaves = {}
        for place, leaf in enumerate([*self.columns.leaves, EVERYBODY]):
            if leaf == EVERYBODY and (place == len(self.columns.leaves)) == self.alone:
                continue  # all together, unless nobody is told apart: then the only leaf is that
            arms = {}
            for number, arm in enumerate(self.names):
                following = moves.following[number]
                arms[arm] = ArmValue(
                    gain=_packed(gain[number, place]),
                    hold=_rounded(moves.hold[number, place]),
                    lift=_rounded(moves.lift[number, place]),
                    next=START if following < 0 else self.stages[following],
                    control_bp=int(control[number, place]),
                    state=STOPPED if stopped[number, place] else PROVEN if proven[number] else COLD,
                )
            stages = {stage: _packed(values[place, number]) for number, stage in enumerate(self.stages)}
            leaves[leaf] = LeafValue(arms, stages)
        found = PolicySnapshot(
            effective_from=effective_from,
            as_of=self.as_of,
            definitions_version=self.book.definitions.version,
            draws=self.model.draws,
            explore_bp=self._explore(),
            leaves=leaves,
            outcomes=len(self.columns),
        )
        return replace(found, version=next(iter(records_of(found).values()))["version"])

    def _gains(self) -> Array:
        """Return what each arm earns beyond nothing by [arm, leaf and all together, draw], minor units."""
        leaves, arms = self.posterior.leaves[self.index], self.posterior.arms[self.index]
        lost = self._rate(self.evidence.unsubscription) * self.policy.unsubscribe_cost
        gains: Array = np.concatenate([leaves, arms[:, None]], axis=1) - lost[:, :, None]
        return gains

    def _rate(self, rates: tuple[Array, Array]) -> Array:
        """Return by how much treatment raises a rate, by [arm, leaf and all together], not below 0."""
        control, treated = (self._with_all(rate) for rate in rates)
        raised: Array = np.maximum(treated - control, 0.0)
        return raised

    def _with_all(self, values: Array) -> Array:
        """Return values by leaf with their mean over leaves, weighted by outcomes, beside."""
        rows = self.evidence.rows[1][self.index] + 1e-9
        values = values[self.index]
        return np.concatenate([values, ((values * rows).sum(axis=1) / rows.sum(axis=1))[:, None]], axis=1)

    def _moves(self) -> Moves:
        """Return what arms do to the slot: the discount of their window, and where a response leads."""
        policy = self.policy
        kept = np.array([exp(-campaign.measure.window / policy.horizon) for campaign in self.campaigns])[:, None]
        kept = kept * (1 - self._rate(self.evidence.unsubscription))
        following = np.full(len(self.names), -1)
        responds = np.zeros(kept.shape)
        organic, treated = (self._with_all(rate) for rate in self.evidence.response)
        for number, campaign in enumerate(self.campaigns):
            stage = self.book.stage_after(campaign.name)
            if stage is None or not self.model.follow_ons or policy.follow_on_depth == 0:
                continue
            following[number] = self.stages.index(stage)
            # Who would have come anyway is no merit of the campaign, unless what follows is open to nobody else.
            by_themselves = 0.0 if self.book.gated(campaign.name) else organic[number]
            responds[number] = np.maximum(treated[number] - by_themselves, 0.0) * policy.follow_on_discount
        lift = kept * responds
        hold = 1 - kept * (1 - responds)
        if not self.model.slot_price:
            hold = lift.copy()
        return Moves(hold, lift, following)

    def _values(self, gain: Array, moves: Moves) -> Array:
        book = self.book
        leads = [self._stage_number(name) for name in self.columns.campaigns]
        longest = max((campaign.measure.window for campaign in self.campaigns), default=DAY)
        columns = replace(self.columns, stages=self.stages)
        opportunities = opportunities_of(columns, self.weights, self.as_of, self.names, leads, longest)
        forget = [1 / book.lasts(stage) for stage in self.stages]
        depth = self.policy.follow_on_depth if self.model.follow_ons else 0
        start = self.stages.index(START)
        values = values_of(gain, moves, opportunities, 1 / self.policy.horizon, forget, start, depth)
        # Several things can be open at once, and one that was declined does not come again at the next choice as these
        # rates have it: they say well by how much stages differ, and too much of what a slot is worth. That is told by
        # what slots do earn.
        taken = np.where(np.isfinite(gain), gain, 0.0)
        lately = half_life_weights(self.columns, self.as_of, min(LATELY, self.policy.half_life))
        place = {arm: number for number, arm in enumerate(self.names)}
        number = np.array([place.get(arm, -1) for arm in self.columns.arms], dtype=np.int64)
        earning = earning_rate(self.columns, lately, taken, number[self.columns.rows["arm"]])
        base = np.maximum(earning, 0.0) * self.policy.horizon
        levelled: Array = values - values[:, [start]] + base[:, None]
        return levelled

    def _stage_number(self, campaign: str) -> int:
        stage = self.book.stage_after(campaign)
        return -1 if stage is None else self.stages.index(stage)

    def _proven(self, parents: Mapping[str, str]) -> Array:
        """Return whether there is enough evidence about each arm, or about what it grew from."""
        evidence = self.evidence
        enough = (
            (evidence.rows[1].sum(axis=1) >= ENOUGH["treated"])
            & (evidence.responders[1].sum(axis=1) >= ENOUGH["responders"])
            & (evidence.rows[0].sum(axis=1) >= ENOUGH["control"])
            & (evidence.responders[0].sum(axis=1) >= ENOUGH["control responders"])
        )
        place = {arm: number for number, arm in enumerate(self.columns.arms)}
        for child, parent in parents.items():
            enough[place[child]] |= enough[place[parent]]
        found: Array = enough[self.index]
        return found

    def _stopped(self, gain: Array, moves: Moves, values: Array) -> Array:
        """Return whether even the upper bound of an arm, with what it opens, is below nothing, at every look."""
        posterior = self.posterior
        rows = (self.evidence.rows[0] + self.evidence.rows[1])[self.index]
        wide = np.array([errors_wide(int(count)) if count > 1 else np.inf for count in rows.flat]).reshape(rows.shape)
        start = self.stages.index(START)
        ahead = np.where((moves.following >= 0)[:, None], values.mean(axis=2)[:, moves.following].T, 0.0)
        opens = moves.lift * np.maximum(ahead - values.mean(axis=2)[:, start], 0.0)
        deviation = np.maximum(posterior.deviation[self.index], 1e-9)
        upper = gain[:, :-1].mean(axis=2) + wide * deviation + opens[:, :-1]
        return np.concatenate([upper < 0, np.zeros((len(self.names), 1), dtype=bool)], axis=1)

    def _control(self, gain: Array, moves: Moves, values: Array, proven: Array) -> Array:
        """Return the share of control, basis points: it falls with what is known of an arm, down to its floor.

        Until there is enough control it is never below `SAFE_CONTROL_BP`, however sure the rest may seem.
        """
        known = self.evidence.spread[self.index, None] ** 2 / np.maximum(self.posterior.control[self.index], 1e-9)
        known = np.concatenate([known, known.min(axis=1, keepdims=True)], axis=1)
        start = np.array([campaign.control_bp for campaign in self.campaigns])[:, None]
        floor = np.array([campaign.control_floor_bp for campaign in self.campaigns])[:, None]
        share = np.maximum(np.minimum(start * ENOUGH_CONTROL / np.maximum(known, 1.0), start), floor)
        # Whether an arm is better than a free slot may be settled long before its control group is that large.
        worth = self._advantages(gain, moves, values)
        surety = np.abs(worth.mean(axis=2)) / np.maximum(worth.std(axis=2), 1e-9)
        settled = np.clip((surety - UNSETTLED) / (SETTLED - UNSETTLED), 0.0, 1.0)
        least = np.where(known < ENOUGH_CONTROL, np.clip(SAFE_CONTROL_BP, floor, start), floor)
        share = np.where(proven[:, None], share + (least - share) * settled, start)
        return np.rint(share).astype(int)

    def _advantages(self, gain: Array, moves: Moves, values: Array) -> Array:
        """Return what each arm is worth more than a free slot where a journey begins, by [arm, leaf, draw]."""
        here = values[:, self.stages.index(START)]
        there = np.where((moves.following >= 0)[None, :, None], values[:, moves.following], 0.0).swapaxes(0, 1)
        advantages: Array = gain - moves.hold[:, :, None] * here + moves.lift[:, :, None] * there
        return advantages

    def _explore(self) -> int:
        """Return the share of decisions that explore, basis points: less once there has been time to learn."""
        start, floor = self.policy.explore_start_bp, self.policy.explore_floor_bp
        if len(self.columns) == 0:
            return start
        past = self.as_of - int(self.columns.rows["start"].min())
        come_down = min(max((past - EXPLORE_UNTIL) / (EXPLORE_LESS - EXPLORE_UNTIL), 0.0), 1.0)
        return round(start + (floor - start) * come_down)


def _packed(draws: Array) -> Sequence[float]:
    return memoryview(draws.astype("<f4").tobytes()).cast("f")


def _rounded(share: float) -> float:
    return round(float(share), 6)
