"""The main job, end to end: the story of the demo, each line of it seen to be true."""

from deploy.local import story
from deploy.local.operating import Operated, served


def test_a_mail_becomes_a_ticket_and_the_reply_finds_its_way_back(installation: Operated) -> None:
    story.set_up(installation)
    telling = story.Story(installation, tell=print)
    with served(installation):
        story.play(telling)
    assert len(telling.told) == 12
