"""A fetcher alone in a process, without a broker: to be killed and measured.

python -m tests.fetcher.alone REPLICA, with the settings in the environment.
"""

import asyncio
import sys

from mailroom import database, settings
from mailroom.objects import open_store
from mailroom.observability import configure_logs
from mailroom.service import Resources
from mailroom_fetcher.accounts import attend_accounts
from mailroom_fetcher.service import SERVICE
from mailroom_fetcher.settings import FetcherSettings


async def _run(replica: str) -> None:
    common, own = settings.load(settings.CommonSettings), settings.load(FetcherSettings)
    configure_logs(common.log_level, common.log_format)
    resources = Resources(
        common=common,
        settings=own,
        engine=database.engine(own.database_url, replica),
        objects=open_store(common.objects),
        messaging=SERVICE.messaging,
        replica=replica,
    )
    await attend_accounts(resources)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1]))
