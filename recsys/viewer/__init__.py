"""Runs, users and items of a local root in a browser: `recsys view`. Nothing can be changed."""

import ipaddress
import socket
import sys

from recsys.errors import ConfigError
from recsys.flows.manage import Place

_INSTALL = "install this package with the extra viewer: pip install 'recsys-batch[viewer]'"
_LOCALHOST = "localhost"


def check_installed() -> None:
    """Refuse to start where Flask or waitress is missing.

    Raises:
        ConfigError: one is; the message says what to install.
    """
    try:
        import flask  # noqa: F401
        import waitress  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"recsys view needs Flask, but the module {error.name} is not installed; {_INSTALL}"
        ) from error


def serve(place: Place, host: str, port: int) -> None:
    """Answer a browser until the process is stopped.

    Args:
        place: the root.
        host: the address to listen at.
        port: 0: one that is free.

    Raises:
        ConfigError: the extra is not installed, or nothing can listen there.
    """
    check_installed()
    from waitress import create_server

    from recsys.viewer.app import make_app

    # The name may stand for two addresses, and a server at two of them has no single port.
    address = "127.0.0.1" if host == _LOCALHOST else host
    own = _is_own(address)
    if not own:
        print(
            f"recsys: note: everybody who reaches {host} can read all lists, histories and "
            "configurations of this root",
            file=sys.stderr,
        )
    app = make_app(place, hosts=[_LOCALHOST, address] if own else None)
    try:
        # Made here: where waitress cannot listen, it leaves its own open.
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, where = found[0]
        listening = socket.create_server((str(where[0]), int(where[1])), family=family)
    except (OSError, OverflowError, TypeError, ValueError) as error:
        raise ConfigError(
            f"--host, --port: cannot listen at {host}:{port}: {error}; choose another port, or 0 "
            "for one that is free"
        ) from error
    server = create_server(app, sockets=[listening], ident="recsys", threads=4)
    shown = f"[{address}]" if ":" in address else address
    print(f"http://{shown}:{server.effective_port}/ shows {place.files.root}", flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()


def _is_own(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
