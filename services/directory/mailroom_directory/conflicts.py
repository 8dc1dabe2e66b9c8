"""What it means to a person that a constraint of the directory's tables was broken.

Invariant: the database is the judge, so that two commands at once cannot both be right; this file
only puts its verdict into words.
"""

import re

from sqlalchemy.exc import IntegrityError

from mailroom_directory.fields import FieldRefused

_TAKEN = "there is a {} of this name; choose another, or change that one"

_MEANINGS: dict[str, tuple[str, str]] = {
    **{f"{kind}s_name": ("NAME", _TAKEN.format(kind)) for kind in ("user", "group", "account")},
    "mailboxes_name": ("NAME", _TAKEN.format("mailbox")),
    "publishers_name": ("NAME", _TAKEN.format("publisher")),
    "mailbox_addresses_pkey": (
        "--address",
        "is the address of a mailbox already; `mailroom mailbox list` shows of which",
    ),
    "mailboxes_owner_id_fkey": (
        "NAME",
        "owns private mailboxes; remove them first, `mailroom user show` names them",
    ),
    "rights_group_id_fkey": (
        "NAME",
        (
            "has rights on mailboxes; take them away first with "
            "`mailroom mailbox change MAILBOX --revoke GROUP`"
        ),
    ),
    "accounts_mailbox_id_fkey": (
        "NAME",
        (
            "accounts feed it; remove them first, or give them another mailbox with "
            "`mailroom account change ACCOUNT --mailbox MAILBOX`"
        ),
    ),
    "publisher_accounts_account_id_fkey": (
        "NAME",
        (
            "publishers may send with it; take it from them first with "
            "`mailroom publisher change PUBLISHER --drop-account ACCOUNT`"
        ),
    ),
}
_VALUE = re.compile(r"\(address\)=\((.*)\) already exists")


_IN_A_CHANGE = {"NAME": "--name", "--address": "--add-address"}
"""What the fields of an `add` are called where the thing is there already."""


def told(broken: IntegrityError, name: str, *, is_there: bool = False) -> FieldRefused | None:
    """The refusal for who gave `name`; None for a constraint that no person can break.

    `is_there`: it was given to what is there already.
    """
    cause = broken.orig.__cause__ if broken.orig else None
    constraint = getattr(cause, "constraint_name", None)
    if constraint not in _MEANINGS:
        return None
    field, remedy = _MEANINGS[constraint]
    value = _VALUE.search(getattr(cause, "detail", None) or "")
    if is_there:
        field = _IN_A_CHANGE.get(field, field)
    return FieldRefused(field, value[1] if value else name, remedy)
