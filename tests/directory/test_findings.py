import pytest

from mailroom.directory import Folder
from mailroom_directory import findings

LISTED = {
    "INBOX": "inbox",
    "Sent": "sent",
    "Spam": "junk",
    "All Mail": "all",
    "Entwürfe": "drafts",
    "Projects": "none",
}


def problems(*chosen: Folder) -> list[str]:
    found = findings.of_folders(LISTED, chosen, "Sent")
    return [finding.text for finding in found if finding.level == "problem"]


def test_folders_are_listed_with_their_special_use() -> None:
    (listed,) = findings.of_folders(LISTED, (), "Sent")
    assert listed.level == "ok"
    assert listed.text.startswith("folders: INBOX (inbox), Sent (sent), Spam (junk)")
    assert listed.text.endswith("Projects")


def test_choices_that_fit_are_no_problem() -> None:
    assert problems(Folder("INBOX", "inbox"), Folder("Spam", "junk")) == []
    assert problems(Folder("Projects", "archive")) == []


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (Folder("Nowhere", "other"), "there is no folder 'Nowhere'"),
        (Folder("All Mail", "archive"), "holds copies of every other folder"),
        (Folder("Entwürfe", "other"), "holds drafts"),
        (Folder("Spam", "other"), "is the server's junk; write --folder 'Spam=junk'"),
        (Folder("Sent", "archive"), "is the server's sent; write --folder 'Sent=sent'"),
    ],
)
def test_a_folder_that_should_not_be_read_so_is_a_problem(chosen: Folder, said: str) -> None:
    (problem,) = problems(chosen)
    assert said in problem


def test_a_folder_for_copies_that_is_not_there_is_a_note_unless_the_server_files_them() -> None:
    _, note = findings.of_folders(LISTED, (), "Out")
    assert (note.level, note.text) == (
        "note",
        "folder 'Out' for sent mail is not there; it is made",
    )
    assert len(findings.of_folders(LISTED, (), None)) == 1
