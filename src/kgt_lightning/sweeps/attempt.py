"""One start of a job of a sweep: how it is configured, and what its record says when it is over."""

from datetime import datetime

from omegaconf import OmegaConf

from kgt_lightning.config.errors import is_user_error, one_line
from kgt_lightning.config.schema import check_types
from kgt_lightning.runs.record import FAILED, RUNNING, RunRecord, read_record, write_record
from kgt_lightning.sweeps.ledger import Job
from kgt_lightning.sweeps.processes import write_job


class Attempt:
    """One start of a job, wherever it runs."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.before = read_record(job.folder)
        """The record that earlier starts left."""
        self._record = RunRecord(job.config, job.folder, overrides=job.overrides)

    def arguments(self, *, resume: bool) -> list[str] | None:
        """Arguments for the process of the job, None if its configuration is wrong, which its record then says."""
        job = self.job
        job.config.resume = resume
        try:
            check_types(job.config)
        except Exception as error:
            if not is_user_error(error):
                raise
            self._record.end(FAILED, one_line(error))
            return None
        subfolder = f".hydra/{datetime.now():%Y-%m-%d_%H-%M-%S}"
        settings = {
            "run": {"dir": str(job.folder)},
            "output_subdir": subfolder,
            "job": {"name": "train", "env_set": job.hydra.job.env_set},
            "overrides": {"task": job.overrides},
            # Which files the configuration was composed of can no longer be seen in it.
            "runtime": {"choices": OmegaConf.to_container(job.hydra.runtime.choices)},
            "job_logging": OmegaConf.to_container(job.hydra.job_logging, resolve=False),
            "verbose": job.hydra.verbose,
        }
        return write_job(job.config, command="train", folder=job.folder / subfolder / "job", hydra=settings)

    def settle(self, status: str, reason: str) -> None:
        """See to it that the record tells the end: this one, if the job itself could not write it."""
        after = read_record(self.job.folder)
        if after is None:
            self._record.end(status, reason)
        elif after == self.before or after["status"] == RUNNING:
            write_record(self.job.folder, {**after, "status": status, "error": reason})
