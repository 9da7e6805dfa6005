"""A SLURM of one node for the tests alone: on the loopback interface, with its own ports, keys and folder."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

START_SECONDS = 60
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
MISSING = [name for name in ("sbatch", "slurmctld", "slurmd", "munged") if shutil.which(name, path=PATH) is None]

SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 CoresPerSocket=4 RealMemory=16000
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
PartitionName=grace Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""


@contextmanager
def running(*command, log, environment=None):
    """A process that is there during the block."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(condition, *, seconds, what):
    """Wait for what is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"after {seconds} seconds: {what() if callable(what) else what}"
        time.sleep(0.3)
    return found


class Cluster:
    """The commands of the SLURM that the tests have started."""

    def __init__(self, environment):
        self.environment = environment

    def __call__(self, *command):
        """What a command of SLURM prints; it must answer in time."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    def state(self, job):
        return dict(each.split() for each in self("squeue", "-a", "-r", "-h", "-t", "all", "-o", "%i %T").splitlines())[
            job
        ]

    def is_up(self):
        try:
            return self("sinfo", "--noheader", "--format=%T", "--partition=main") == "idle"
        except subprocess.SubprocessError:
            return False

    def queue(self):
        return self("squeue", "--noheader")

    def preempted(self, job):
        """Whether it has been told to make room."""
        return (
            "PreemptEligibleTime" in (shown := self("scontrol", "show", "job", job)) and "PreemptTime=None" not in shown
        )

    def start_soon(self, job):
        """Two minutes pass until a job that went back into the queue is considered, unless it is told otherwise.

        Started within the same second it fails: "Job credential revoked".
        """
        self("scontrol", "update", f"JobId={job}", "StartTime=now+5")


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextmanager
def one_node(folder):
    """The daemons run during the block, and no job is left after it."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    # munged accepts no socket below a folder that others may write to, as that of pytest is not.
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    settings = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    ports = {"controller_port": free_port(), "node_port": free_port()}
    settings.write_text(SETTINGS.format(host=host, folder=folder, **ports))
    paths = [
        str(Path(__file__).parents[2] / "src"),
        str(Path(__file__).parent),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "HYDRA"))},
        "SLURM_CONF": str(settings),
        "PATH": PATH,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
    }
    places = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    munge = [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={key}",
        *(each.replace("munge.pid-file", "munge.pid") for each in places),
    ]
    cluster = Cluster(environment)

    def logs():
        return "\n".join(file.read_text(errors="replace")[-2000:] for file in sorted(folder.glob("*.log")))

    with ExitStack() as stack:
        stack.enter_context(running(*munge, log=folder / "munged.out", environment=environment))
        until((folder / "munge.socket").exists, seconds=START_SECONDS, what=logs)
        for name in ("slurmctld", "slurmd"):
            log = folder / f"{name}.out"
            stack.enter_context(running(name, "-D", "-f", str(settings), log=log, environment=environment))
        until(cluster.is_up, seconds=START_SECONDS, what=logs)
        yield cluster
        cluster("scancel", "--full", "--user=root")
        # Before that the processes of jobs would outlive the daemons.
        until(lambda: not cluster.queue(), seconds=60, what=logs)
