"""A private Postfix: takes mail for our domains and hands it to Dovecot.

Invariant: nothing leaves the machine, since every transport but the one to Dovecot is `error:`.
"""

import os
import socket
from pathlib import Path

from deploy.local import tls
from deploy.local.addresses import Postfix, Servers
from deploy.local.guarded import Program
from deploy.local.ports import HOST, free_ports

DOMAINS = r"/^([^@]+\.)?(example\.(com|net|org)|[^@.]+\.(test|example))$/"
"""What is delivered: the domains that RFC 2606 sets aside, so never a living one."""

FAULTS = """\
/^tempfail/ 451 4.7.1 Try again later: this recipient fails on purpose
/^permfail/ 550 5.1.1 No such user: this recipient fails on purpose
"""
"""Recipients by which a test asks for a failure."""

_MAIN = """\
compatibility_level = 3.6
myhostname = mail.example.com
mydestination =
inet_interfaces = {host}
inet_protocols = ipv4
mynetworks = {host}/32
queue_directory = {folder}/queue
data_directory = {folder}/data
# With start-fg: to the log of its guard.
maillog_file = /dev/stdout
smtpd_banner = $myhostname ESMTP {instance}
biff = no
enable_long_queue_ids = yes
smtpd_peername_lookup = no
disable_dns_lookups = yes
alias_maps =
local_recipient_maps =

virtual_mailbox_domains = regexp:{folder}/etc/domains
virtual_transport = lmtp:inet:{host}:{lmtp}
# One recipient a delivery, else X-Original-To is left out.
lmtp_destination_recipient_limit = 1
recipient_delimiter = +
default_transport = error:5.4.4 nothing leaves this machine
relay_transport = error:5.4.4 nothing leaves this machine
local_transport = error:5.4.4 nothing leaves this machine
relay_domains =
# A stopped Dovecot is tried again within seconds, not after the usual five minutes.
queue_run_delay = 2s
minimal_backoff_time = 2s
maximal_backoff_time = 5s

message_size_limit = 104857600
mailbox_size_limit = 0
virtual_mailbox_limit = 0
# A mail without Message-ID or Date arrives as it was sent.
local_header_rewrite_clients =

smtpd_recipient_restrictions =
  check_recipient_access regexp:{folder}/etc/faults
  permit_sasl_authenticated
  reject_unauth_destination
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
# A wrong recipient is answered at once, however often; by default the 20th is hung up on.
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
default_process_limit = 200

smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:{host}:{sasl}
smtpd_tls_cert_file = {folder}/etc/{certificate}
smtpd_tls_key_file = {folder}/etc/{key}
smtpd_tls_security_level = may
smtpd_tls_session_cache_database =
"""

_SUBMISSION = """\
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
"""

_MASTER = """\
{host}:{smtp} inet n - n - - smtpd
  -o smtpd_sasl_auth_enable=yes
{host}:{submission} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
{submission_options}{host}:{submissions} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
{submission_options}pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp flags=O
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def addresses() -> Postfix:
    """Free ports."""
    return Postfix(HOST, *free_ports(3))


def program(servers: Servers, folder: Path) -> Program:
    """Write the configuration and run Postfix."""
    server = servers.postfix
    main = _MAIN.format(
        folder=folder,
        instance=_instance(servers),
        host=server.host,
        lmtp=servers.dovecot.lmtp,
        sasl=servers.dovecot.sasl,
        certificate=tls.CERTIFICATE,
        key=tls.KEY,
    )
    master = _MASTER.format(
        host=server.host,
        smtp=server.smtp,
        submission=server.submission,
        submissions=server.submissions,
        submission_options=_SUBMISSION,
    )
    given = folder / "given"
    given.mkdir(exist_ok=True)
    (given / "main.cf").write_text(main, encoding="ascii")
    # Postfix waits two seconds before it reads a file that was just written.
    os.utime(given / "main.cf", (0, 0))
    (given / "master.cf").write_text(master, encoding="ascii")
    (given / "domains").write_text(f"{DOMAINS} delivered\n", encoding="ascii")
    (given / "faults").write_text(FAULTS, encoding="ascii")
    # Configuration and queue are root's, the data Postfix's own.
    script = (
        f"PATH=/usr/sbin:/usr/bin:/sbin:/bin; umask 022; cd {folder} && mkdir -p etc queue data "
        f"&& install -p -m 644 given/* etc && install -m 600 {servers.folder}/tls/*.pem etc "
        f"&& chown postfix data && exec postfix -c {folder}/etc start-fg"
    )
    return Program(command=("sh", "-c", script), as_root=True)


def answers(servers: Servers) -> bool:
    """Whether it greets under this instance's name."""
    server = servers.postfix
    try:
        with socket.create_connection((server.host, server.smtp), timeout=1) as connection:
            return _instance(servers).encode() in connection.recv(4096)
    except OSError:
        return False


def _instance(servers: Servers) -> str:
    return f"mailroom-{servers.postfix.smtp}-{servers.folder.name}"
