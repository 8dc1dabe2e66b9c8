"""The tag: signed, recognised in whatever mail programs make of a subject, and never believed."""

import pytest

from mailroom_ticketing.tags import Ring, find, sign, without

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
RING = Ring("acme", (NEW,))


def claims(subject: str, ring: Ring = RING) -> list[tuple[int, bool]]:
    return [(tag.number, tag.signed) for tag in find(ring, subject)]


def test_a_tag_is_plain_ascii_in_brackets_without_letters_that_people_misread() -> None:
    letters = {letter for number in range(2000) for letter in sign(RING, number).partition("-")[2]}
    assert not letters & set("ilouILOU")
    assert sign(RING, 1042).startswith("[#1042-")
    assert sign(RING, 1042).isascii()


@pytest.mark.parametrize(
    "subject",
    [
        "{tag} Printer on fire",
        "AW: AW: {tag} Printer on fire",
        "Fwd: [EXTERN] Re: [list] {tag}: Printer on fire",
        "Re: [Ticket#2024] {tag}",
        "re[2]:{tag}printer",
    ],
)
def test_a_signed_tag_is_recognised_in_any_wrapping(subject: str) -> None:
    assert claims(subject.format(tag=sign(RING, 17))) == [(17, True)]


def test_a_tag_survives_changed_case_and_folding_in_its_middle() -> None:
    tag = sign(RING, 17)
    assert claims(tag.upper()) == [(17, True)]
    assert claims(tag.replace("-", "- ").replace("#", "# ")) == [(17, True)]


def test_letters_that_a_person_misread_are_read_as_the_digits_they_stand_for() -> None:
    number = next(n for n in range(1, 5000) if {"0", "1"} <= set(sign(RING, n).partition("-")[2]))
    head, mac = sign(RING, number).split("-")
    assert claims(f"{head}-{mac.replace('0', 'O').replace('1', 'l')}") == [(number, True)]


@pytest.mark.parametrize("subject", ["[#17]", "Re: [#17-aaaaa]", "[#17-]", "[#17-k7f3qk7f3q]"])
def test_an_unsigned_or_wrongly_signed_number_is_not_signed(subject: str) -> None:
    assert all(not signed for _, signed in claims(subject))


def test_a_part_of_the_mac_signs_nothing() -> None:
    """Else it could be guessed letter by letter."""
    tag = sign(RING, 17)
    assert [claims(f"{tag[:end]}]") for end in range(-5, -1)] == [[(17, False)]] * 4


def test_the_mac_of_one_number_does_not_sign_another() -> None:
    assert claims(sign(RING, 17).replace("17", "18")) == [(18, False)]


def test_the_tag_of_another_installation_is_not_signed() -> None:
    assert claims(sign(Ring("other", RING.keys), 17)) == [(17, False)]


def test_after_rotation_the_newest_key_signs_and_the_old_one_still_verifies() -> None:
    before, after = Ring("acme", (OLD,)), Ring("acme", (NEW, OLD))
    assert sign(after, 17) != sign(before, 17)
    assert claims(sign(before, 17), after) == [(17, True)]
    assert claims(sign(after, 17), after) == [(17, True)]
    assert claims(sign(before, 17), Ring("acme", (NEW,))) == [(17, False)]


def test_numbers_that_no_ticket_can_have_are_no_tags() -> None:
    assert claims("[#99999999999999999999] [#٣] [#] [Ticket#2024] [#-k7f3q]") == []


def test_several_tags_are_found_from_the_left() -> None:
    assert claims(f"Re: {sign(RING, 2)} Re: [#1]") == [(2, True), (1, False)]


def test_a_subject_loses_every_number_and_nothing_else() -> None:
    assert without(f"Re: {sign(RING, 2)} Order [A#1] [#3] late") == "Re: Order [A#1] late"
