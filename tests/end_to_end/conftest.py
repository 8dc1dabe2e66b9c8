"""An installation for one test, as a customer's: own database, own vhost, services as processes."""

from pathlib import Path

import pytest

from deploy import local
from deploy.local.installation import Place, environment
from deploy.local.operating import Operated, with_keys
from tests.installation import OWNER, PUBLISHERS, Broker, Database, password_of, service_names


@pytest.fixture
def installation(
    servers: local.Servers, database: Database, broker: Broker, tmp_path: Path
) -> Operated:
    """Everything but the running services."""
    place = Place(tmp_path, database.name, broker.vhost)
    names = (OWNER, *service_names(), *PUBLISHERS)
    passwords = {name: password_of(name) for name in names}
    return with_keys(servers, place, environment(servers, place, passwords, PUBLISHERS))
