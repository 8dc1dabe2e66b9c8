"""`make bench-peers`: the same mails from IMAP to tickets, by ours and by another help desk."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg

from bench.mails import mixed
from bench.processor import measured
from bench.rows import Row, table
from bench.stage import Stage, fill, staged
from bench.whole import MAILS, end_to_end
from deploy.local import create_database
from deploy.local.mail_programs import Person

HERE = Path(__file__).parent / "django_helpdesk"
PEER = Path("build/peers/django-helpdesk/bin").absolute()
_QUEUE = """\
import os
from helpdesk.models import Queue
Queue.objects.create(
    title="bench", slug="bench", email_address=os.environ["ADDRESS"], allow_email_submission=True,
    email_box_type="imap", email_box_ssl=True, email_box_host="localhost",
    email_box_port=int(os.environ["PORT"]), email_box_user=os.environ["ADDRESS"],
    email_box_pass=os.environ["PASSWORD"], email_box_imap_folder="INBOX", email_box_interval=0,
)
"""


def main() -> None:
    """Measure both, one after the other, on the same servers."""
    with staged() as stage:
        rows = [asyncio.run(end_to_end(stage)), _django_helpdesk(stage)]
    print(table(rows))


def _django_helpdesk(stage: Stage) -> Row:
    person = stage.person()
    fill(stage, person, mixed(MAILS, 300, person.address))
    create_database(stage.it.servers, "helpdesk")
    environment = _environment(stage, person)
    for words in (["migrate", "--verbosity", "0"], ["shell", "-c", _QUEUE]):
        subprocess.run([PEER / "django-admin", *words], env=environment, check=True)
    pids = stage.pids()
    with subprocess.Popen([PEER / "django-admin", "get_email"], env=environment) as peer:
        groups = {"django-helpdesk": lambda: [peer.pid], **pids}
        with measured(groups) as used:
            lasted = asyncio.run(_from_first_to_last(environment["DATABASE_URL"], peer))
    return Row("django-helpdesk", (MAILS - 1) / lasted, "mails/s", cpu=used.each(MAILS))


def _environment(stage: Stage, person: Person) -> dict[str, str]:
    own = {
        "DATABASE_URL": stage.it.servers.postgresql.dsn.rpartition("/")[0] + "/helpdesk",
        "FOLDER": str(stage.it.folder / "helpdesk"),
        "DJANGO_SETTINGS_MODULE": "peer_settings",
        "PYTHONPATH": str(HERE),
        "PORT": str(stage.it.servers.dovecot.imaps),
        "ADDRESS": person.address,
        "PASSWORD": person.password,
        "SSL_CERT_FILE": str(stage.it.servers.ca_file),
    }
    return {**os.environ, **own}


async def _from_first_to_last(database: str, peer: "subprocess.Popen[bytes]") -> float:
    """Seconds between its first ticket and its last: the start of Python and Django is left out."""
    connection = await asyncpg.connect(database)
    tickets, began = 0, 0.0
    while tickets < MAILS:
        has_ended = peer.poll() is not None
        tickets = await connection.fetchval("SELECT count(*) FROM helpdesk_ticket")
        began = began or (time.perf_counter() if tickets else 0.0)
        if has_ended and tickets < MAILS:
            sys.exit(f"get_email ended with {peer.returncode} after {tickets} tickets")
        await asyncio.sleep(0.02)
    await connection.close()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
