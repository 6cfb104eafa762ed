"""Somebody who buries orphans, in place of a process 1 that may not.

Whoever loses its parent goes to the next process above that has said that it adopts orphans (a subreaper,
PR_SET_CHILD_SUBREAPER(2const)), and to process 1 if nobody has. In a container process 1 often is some program that
never asks for the deaths of strangers: a shell, cargo, this script. There each process of a tree stays as a zombie for
good. Nobody of those is alive, so none counts as a survivor, but each keeps a number; a storm in each round soon uses
up all that the host has (kernel.pid_max), and then nobody on it can start anything.

So the script splits in two: its work is done by a child, and the parent waits for whoever dies below it.
"""

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36


def bury_orphans():
    """Returns in the child, which is to do the work; its parent ends as it does. Call it before there is a thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit(f"cannot adopt orphans: {os.strerror(ctypes.get_errno())}")
    sys.stdout.flush()
    worker = os.fork()
    if worker == 0:
        return
    # From a terminal both get it, and the worker says when it is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(worker, number))
    status = None
    while status is None:
        pid, ended = os.waitpid(-1, 0)
        status = ended if pid == worker else None
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)
