"""Entry of the processes that sweeps and strategies start: a command that ends with the process that started it."""

import os
import sys
import threading
from importlib import import_module


def main() -> None:
    """Run the command that the configuration is named after; see :func:`kgt_lightning.sweeps.processes.start_job`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Imports take seconds, in which the parent may end.
    import_module(f"kgt_lightning.{sys.argv[-1]}").main()


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    # At once: another thread may wait for a process that is gone.
    os._exit(1)


if __name__ == "__main__":
    main()
