"""Many runs: jobs in processes of their own, here, on SLURM, or proposed by Optuna."""
