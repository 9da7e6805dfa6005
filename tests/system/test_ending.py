import os
import signal

import pytest

from kgt_lightning.system.ending import ended_by_interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_block_in_its_line(number, capsys):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, ended_by_interrupt(signal.SIGTERM, told="ended"):
        os.kill(os.getpid(), number)
        signal.pause()
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == "\nended\n"
    assert signal.getsignal(number) is before
