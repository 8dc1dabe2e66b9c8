"""Says in a person's words why a mail is where it is.

Invariant: words are made from the stored rule and evidence, and nothing is decided anew.
"""

from collections.abc import Mapping

_JOINED = {
    "opened": "it belongs to no ticket that was there",
    "report": "it reports on our mail {message_id}",
    "reference": "it answers {message_id}, and {by} takes part in the ticket",
    "referenced": "a mail of the ticket answers it, and {by} takes part in the ticket",
    "tag": "its subject has the signed tag {tag}",
    "sent": "we sent it for the ticket ({idempotency_key})",
    "same mail": "the same mail is at the ticket already",
    "outgoing": "a mail of ours that answers no ticket",
    "spam": "spam opens no ticket",
    "backfill": "older than its account's start: it opens no ticket",
    "feeds no ticket queue": "its mailbox feeds no ticket queue",
}
_CLAIMED = {
    "number unsigned": "its subject has the number {tag} without a signature",
    "number wrongly signed": "its subject has the number {tag} with a wrong signature",
    "stranger's reference": "it answers {message_id}, but its sender takes no part in the ticket",
    "answered late": "it answers {message_id}, which came to the ticket later",
}


def why(rule: str, evidence: Mapping[str, str]) -> str:
    """Why a mail joined, opened or did neither."""
    return _JOINED[rule].format_map(evidence)


def claim(claimed: str, evidence: Mapping[str, str]) -> str:
    """Why a mail may belong to a ticket."""
    return _CLAIMED[claimed].format_map(evidence)
