"""An installation for the story, as a customer's: own database, own vhost, own folder."""

from pathlib import Path

import pytest

from deploy import local
from deploy.local.operating import Operated
from tests.installation import Broker, Database, installed


@pytest.fixture
def installation(
    servers: local.Servers, database: Database, broker: Broker, tmp_path: Path
) -> Operated:
    """Everything but the running services."""
    return installed(servers, database, broker, tmp_path)
