"""A gateway with a configuration of its own, for the scripts beside this file.

Python's standard library only.
"""

import contextlib
import subprocess
import tempfile
from pathlib import Path


def program(path):
    """The path of the program wherever it is started from: servers start in directories of their own."""
    return str(Path(path).resolve())


@contextlib.contextmanager
def serving(spawnling, config):
    """The process and the port of a gateway that serves what `config`, a text, says; it has ended afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "gateway.toml")
        file.write_text(config)
        gateway = subprocess.Popen([spawnling, "serve", "--listen", "127.0.0.1:0", "--config", file], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        try:
            yield gateway.pid, int(gateway.stdout.readline().rsplit(":", 1)[1])
        finally:
            gateway.terminate()
            gateway.wait(30)
