"""Free loopback ports.

Invariant: never a port of the range from which the system takes the ports of outgoing connections.
Such a port may be taken while its server is down for a moment, and a client that tries a closed
port of that range again and again may at last be connected to itself.
"""

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
_LOWEST = 15000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """`count` different ports on which nobody listens now; another process may still be faster."""
    highest = int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    candidates = iter(random.sample(range(_LOWEST, highest), highest - _LOWEST))
    return [next(port for port in candidates if is_free(port)) for _ in range(count)]


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set it too: connections in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
        return True
