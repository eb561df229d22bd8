"""Records to the messages of a series, and what ends them."""

from __future__ import annotations

from orchestrator.arbitration.campaign import AUDIENCE, Send, SeriesStep, Unless
from orchestrator.conditions import readable
from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.expressions import ANY
from orchestrator.definitions.features import check_carried
from orchestrator.definitions.nodes import Problems, did_you_mean
from orchestrator.definitions.records import Record, Word
from orchestrator.moments.rules import EventMatch


class SeriesBuilder:
    """Builds the series of one campaign; `key` is what its moment is kept per."""

    def __init__(self, key: str | None, catalogue: Catalogue, problems: Problems) -> None:
        self.key = key
        self.catalogue = catalogue
        self.problems = problems

    def steps(self, record: Record) -> tuple[SeriesStep, ...]:
        """Return the steps of a campaign's series, none if it has none or one of them is wrong."""
        steps = record.records("series")
        if steps and "send" in record.places:
            self.problems.error(record.at("send"), "E013", "only one of 'send' and 'series' can be set for a campaign")
        measure = record.get("measure", Record)
        window = None if measure is None else measure.get("for", int)
        names: list[str] = []
        so_far = 0
        for place, step in enumerate(steps):
            channel = None if not to_audience(send := step.get("send", Record)) or send is None else send.at("channel")
            if channel is not None:
                said = "an audience does not fit into a series: one campaign adds, and removes when its window ends"
                self.problems.error(channel, "E044", said)
            after = step.get("after", int) or 0
            so_far += after
            self._check_place(step, first=place == 0)
            self._check_unless(step, [word.text for one in steps for word in one.words("step")], names, so_far)
            if window is not None and so_far - after < window <= so_far:
                self.problems.error(
                    step.at("after"),
                    "E056",
                    f"this step is due {readable(so_far, 'duration')} after the first, and the window is over after "
                    f"{readable(window, 'duration')}: measure for longer, or let less time pass",
                )
            for word in step.words("step"):
                if word.text in names:
                    self.problems.error(word.place, "E047", f"step '{word.text}' is defined twice")
                names.append(word.text)
        return tuple(_step(step) for step in steps) if all(step.sound for step in steps) else ()

    def stops(self, record: Record) -> tuple[EventMatch, ...]:
        """Return the events that end the messages."""
        stops = record.records("stop_when")
        if stops and "series" not in record.places and not to_audience(record.get("send", Record)):
            self.problems.warn(
                record.at("stop_when"), "W003", "'stop_when' has no effect: the one message goes out with the decision"
            )
        for stop in stops:
            matching = stop.get("matching", Word)
            if matching is None or self.key == ANY:
                continue
            if matching.text == self.key:
                check_carried(self.key, matching.place, stop.words("event"), self.catalogue, self.problems)
            else:
                says = "has no key" if self.key is None else f"is kept per {self.key}"
                self.problems.error(
                    matching.place, "E044", f"'matching: {matching.text}' does not fit, the moment {says}"
                )
        return tuple(
            EventMatch(stop.texts("event"), next(iter(stop.texts("matching")), None)) for stop in stops if stop.sound
        )

    def _check_place(self, step: Record, *, first: bool) -> None:
        if not first:
            if step.sound and "after" not in step.places:
                self.problems.error(step.place, "E011", "this step has no 'after', write it like after: 4d")
            return
        for name in ("after", "unless"):
            if name in step.places:
                self.problems.error(
                    step.places[name], "E044", f"'{name}' does not fit, the first step goes out with the decision"
                )

    def _check_unless(self, step: Record, names: list[str], earlier: list[str], so_far: int) -> None:
        unless = step.get("unless", Record)
        if unless is None:
            return
        origin, within = unless.get("from", Word), unless.get("within", int)
        if origin is not None and origin.text not in names:
            near = did_you_mean(origin.text, names)
            self.problems.error(origin.place, "E057", f"unknown step '{origin.text}'{near}")
        elif origin is not None and origin.text not in earlier:
            self.problems.error(
                origin.place, "E044", f"'from: {origin.text}' does not fit, that is not before this step"
            )
        for word in unless.words("event") if origin is not None else ():
            if "trigger_id" not in self.catalogue.events[word.text].properties:
                self.problems.error(
                    word.place, "E048", f"{word.text} does not say which message it is about, leave out 'from'"
                )
        if within is not None and 0 < so_far < within:
            self.problems.error(
                unless.at("within"),
                "E051",
                f"'within' looks further back than to the first step, {readable(so_far, 'duration')} before: what "
                "came before that is a matter for only_if",
            )


def to_audience(send: Record | None) -> bool:
    """Return whether a message is none, but adds to an audience."""
    return send is not None and send.texts("channel") == (AUDIENCE,)


def send_of(record: Record, purpose: str = "marketing") -> Send:
    """Return what the sender is asked for; the customer must have agreed to `purpose` if no other is named."""
    return Send(
        channel=record.need("channel", Word).text,
        template=record.need("template", Word).text,
        content=record.texts("with"),
        purpose=next(iter(record.texts("purpose")), purpose),
    )


def _step(record: Record) -> SeriesStep:
    unless = record.get("unless", Record)
    return SeriesStep(
        name=record.need("step", Word).text,
        send=send_of(record.need("send", Record)),
        after=record.get("after", int) or 0,
        unless=None
        if unless is None
        else Unless(unless.texts("event"), next(iter(unless.texts("from")), None), unless.get("within", int)),
    )
