"""Named places between two effects, where a test pulls the plug.

Invariant: without MAILROOM_CRASHPOINT in the environment a crashpoint does nothing. With it, the
process kills itself with SIGKILL at the place of that name: no handler, no `finally`, no flush.

It is NAME, NAME@WHERE or NAME@WHERE#N, as in handler.done@sender.mail.send#3: WHERE is one of the
queues or services that come by this place, and the N-th time kills; without them, the first does.
MAILROOM_CRASHPOINT_SIGNAL=SIGSTOP freezes the process there instead, until somebody thaws it.
"""

import os
import signal
from itertools import count

_PLACE, _, _NUMBER = os.environ.get("MAILROOM_CRASHPOINT", "").partition("#")
_NAME, _, _WHERE = _PLACE.partition("@")
_LAST = int(_NUMBER or 1)
_TIMES = count(1)
_SIGNAL = signal.Signals[os.environ.get("MAILROOM_CRASHPOINT_SIGNAL", "SIGKILL")]


def crashpoint(name: str, where: str = "") -> None:
    """Die here if the environment names this place.

    A name says what has just happened; `where`, to which queue or service, if there are several.
    """
    if name == _NAME and _WHERE in ("", where) and next(_TIMES) == _LAST:
        os.kill(os.getpid(), _SIGNAL)
