"""The JVM's own end: this process is told when it begins, and the JVM waits for this process.

A scheduler's SIGTERM, or a terminal's Ctrl-C, reaches spark-submit, which is the JVM. Left alone it
would stop Spark under a run that goes on, and nobody would hear what the run says then. A SIGTERM
to a whole process group does the same without spark-submit.

So the first of the JVM's shutdown hooks holds the rest up until this process has ended. It copies
bytes from a socket to the same socket until the other side, this process, closes it. One byte is
there from the beginning: when it comes back, the hook has begun. Where the socket is closed and
nothing came back, the JVM was killed. (A hook could also call a function of this process. But then
a server would listen here that anybody on this machine can reach.)
"""

import logging
import re
import signal
import socket
import threading
from typing import Any

from py4j.protocol import Py4JError

from recsys.errors import OutputError, RecsysError, Stopped
from recsys.runtime.signals import request_stop, stopped_by

log = logging.getLogger(__name__)

DRIVER_GONE = "Spark's driver is gone before the run was complete; run again with the same run id"

_FIRST = 1000  # before Spark's own hook, which stops the session (40)
_PATIENCE = 30  # seconds that the JVM waits for this process
_HOST = "127.0.0.1"

_watched: list[socket.socket] = []  # open as long as this process


def watch_jvm(jvm: Any) -> None:
    """Request a stop when the JVM is shut down or killed, and let it wait for this process.

    Args:
        jvm: py4j's view of it. One that is watched already is not watched again.
    """
    if _watched:
        return
    try:
        ours = _hold(jvm)
    except (Py4JError, TypeError, OSError) as error:  # TypeError: this Spark lacks a class
        log.warning("a signal to Spark's driver alone will not end the run cleanly: %s", error)
        return
    _watched.append(ours)
    threading.Thread(target=_listen, args=(ours, jvm), daemon=True).start()


def _hold(jvm: Any) -> socket.socket:
    """Add the hook, and return this side of its socket."""
    with socket.create_server((_HOST, 0)) as server:
        server.settimeout(10)
        theirs = jvm.java.net.Socket(_HOST, server.getsockname()[1])
        ours, peer = server.accept()
        while peer[1] != theirs.getLocalPort():  # somebody else on this machine was quicker
            ours.close()
            ours, peer = server.accept()
    echo = jvm.org.apache.spark.util.RedirectThread(
        theirs.getInputStream(), theirs.getOutputStream(), "recsys: wait for Python", False
    )
    hooks = jvm.org.apache.hadoop.util.ShutdownHookManager.get()
    hooks.addShutdownHook(echo, _FIRST, _PATIENCE, jvm.java.util.concurrent.TimeUnit.SECONDS)
    ours.settimeout(None)
    ours.sendall(b"?")
    return ours


def _listen(ours: socket.socket, jvm: Any) -> None:
    try:
        began = ours.recv(1) != b""
    except OSError:
        began = False
    request_stop(_reason(jvm) if began else OutputError(DRIVER_GONE))


def _reason(jvm: Any) -> Stopped | RecsysError:
    """Say why the JVM ends: a thread of its own, named after the signal, waits for the hooks."""
    try:
        names = {thread.getName() for thread in jvm.java.lang.Thread.getAllStackTraces()}
    except Py4JError:
        names = set()
    came = {match[1] for name in names if (match := re.fullmatch("SIG([A-Z]+) handler", name))}
    if not came:
        return OutputError(DRIVER_GONE)
    return stopped_by(signal.SIGINT if "INT" in came else signal.SIGTERM)
