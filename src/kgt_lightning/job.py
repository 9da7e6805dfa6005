"""Entry of the processes that sweeps and strategies start: a training that ends with the process that started it."""

import os
import sys
import threading


def main() -> None:
    """Train as the given configuration says; see :func:`kgt_lightning.processes.start_job`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Imports take seconds, in which the parent may end.
    from kgt_lightning import train

    train.main()


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    # At once: another thread may wait for a process that is gone.
    os._exit(1)


if __name__ == "__main__":
    main()
