"""Records to campaigns."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.arbitration.campaign import Campaign, Measure, Send
from orchestrator.conditions import Condition
from orchestrator.definitions.expressions import Declared, Scope, compile_condition
from orchestrator.definitions.nodes import Problems, Scalar, did_you_mean
from orchestrator.definitions.records import Record, Word, clean


class CampaignBuilder:
    """Builds campaigns over declared features, segments and moments; `moments` has each moment's key."""

    def __init__(
        self,
        features: Mapping[str, Declared],
        segments: frozenset[str],
        moments: Mapping[str, str | None],
        problems: Problems,
    ) -> None:
        self.features = features
        self.segments = segments
        self.moments = moments
        self.problems = problems

    def build(self, record: Record) -> Campaign | None:
        """Return the campaign that a record describes, or None if anything is wrong with it."""
        mark = len(self.problems.found)
        when = self._when(record)
        only_if = self._only_if(record)
        self._check_control(record)
        if not record.sound or not clean(self.problems, mark):
            return None
        control = record.values["control"]
        start, floor = (control, control) if isinstance(control, int) else _shares(record.need("control", Record))
        return Campaign(
            name=record.need("campaign", Word).text,
            when=when,
            send=_send(record.need("send", Record)),
            measure=_measure(record.need("measure", Record)),
            control_bp=start,
            control_floor_bp=floor,
            priority=record.need("priority", int),
            cost=_cost(record.get("cost", Record)),
            only_if=only_if,
        )

    def _when(self, record: Record) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for word in record.words("when"):
            if word.text in found:
                self.problems.error(word.place, "E047", f"moment '{word.text}' is named twice")
            elif word.text not in self.moments:
                near = did_you_mean(word.text, self.moments)
                self.problems.error(word.place, "E045", f"unknown moment '{word.text}'{near}")
            found[word.text] = None
        return tuple(found)

    def _only_if(self, record: Record) -> Condition | None:
        text = record.get("only_if", Scalar)
        if text is None:
            return None
        keys = {self.moments[name] for name in record.texts("when") if name in self.moments}
        key = keys.pop() if len(keys) == 1 else None
        scope = Scope(features=self.features, segments=self.segments, moment=True, key=key)
        return compile_condition(text, scope, self.problems)

    def _check_control(self, record: Record) -> None:
        control = record.values.get("control")
        if isinstance(control, Record):
            start, floor = control.get("start", int), control.get("floor", int)
            if start is not None and floor is not None and floor > start:
                self.problems.error(control.at("floor"), "E051", "'floor' is larger than 'start'")


def _shares(record: Record) -> tuple[int, int]:
    start, floor = record.need("start", int), record.get("floor", int)
    return start, start if floor is None else floor


def _send(record: Record) -> Send:
    return Send(
        channel=record.need("channel", Word).text,
        template=record.need("template", Word).text,
        content=record.texts("with"),
        purpose=record.need("purpose", Word).text,
    )


def _measure(record: Record) -> Measure:
    return Measure(
        objective=record.need("objective", Word).text,
        window=record.need("for", int),
        guard=record.texts("guard"),
    )


def _cost(record: Record | None) -> int:
    return 0 if record is None else record.need("send", int) + record.need("offer", int)
