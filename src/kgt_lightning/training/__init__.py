"""Everything that trains: the LightningModule, losses, optimisers, callbacks, checkpoints, strategies."""
