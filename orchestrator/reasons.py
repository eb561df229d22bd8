"""Why: the one closed set of reasons, the same words in records, metrics, tests, reports and docs."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a campaign was chosen for a customer at an instant, or why not."""

    CHOSEN = "chosen"
    """It won and a trigger was emitted."""

    CONTROL = "control"
    """It won and was held back on purpose, to measure what it is worth; the slot is held all the same."""

    HOLDOUT = "holdout"
    """The customer is in the group that nobody writes to in this period."""

    NONE_BETTER = "none_better"
    """Sending nothing is expected to earn more."""

    OUTRANKED = "outranked"
    """Another campaign won the same decision."""

    SLOT_HELD = "slot_held"
    """Another campaign's measurement window is still running for this customer."""

    REST = "rest"
    """The customer has some quiet after the last campaign, as the policy wishes."""

    NOT_ELIGIBLE = "not_eligible"
    """The campaign is not meant for this customer."""

    EXCLUDED = "excluded"
    """The campaign leaves this customer out by name, group or history."""

    NO_CONSENT = "no_consent"
    """The customer has not agreed to this channel and purpose."""

    SUPPRESSED = "suppressed"
    """The customer is on a list of people nobody may write to."""

    CAP = "cap"
    """The customer has had as many messages as the policy allows for now."""

    QUIET_HOURS = "quiet_hours"
    """It is night on the customer's own clock."""

    SKU_CAP = "sku_cap"
    """Enough people have been told about this product."""

    TOO_OLD = "too_old"
    """The moment opened too long ago to act on, as in a replay of old events."""

    EXPIRED = "expired"
    """The moment went stale before it could be answered."""

    CANCELLED = "cancelled"
    """An event made the moment untrue before it was answered."""

    STOPPED = "stopped"
    """An event ended the messages of the series before this step was due."""

    ALREADY_ANSWERED = "already_answered"
    """Another message already answers this moment."""

    UNKNOWN_VALUE = "unknown_value"
    """A value the rules ask for is not known, and unknown means do not send."""

    NO_DEFINITION = "no_definition"
    """No campaign answers this moment, or its definition is gone."""
