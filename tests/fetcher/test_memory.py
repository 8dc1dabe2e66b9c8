"""Large mails pass through in pieces."""

from pathlib import Path

from tests.fetcher.office import (
    Office,
    a_mail,
    add_account,
    brought,
    multiply,
    other_client,
    process,
    put_mail,
)

MB = 1_000_000


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / MB


async def test_a_60_mb_mail_is_brought_in_less_than_200_mb(office: Office) -> None:
    account = await add_account(office, "service")
    large = a_mail("large", 60 * MB)
    with other_client(office, account) as client:
        put_mail(client, a_mail("1", 7 * MB))
        multiply(client, times=3)
        put_mail(client, large)
    async with process(office, "one") as running:
        events = await brought(office, 9, within=60)
        assert _peak_mb(running.pid) < 200
    assert max(event.raw.size for event in events) == len(large)
