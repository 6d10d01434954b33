"""A trainer for nnU-Net that ends after some processor minutes; nnU-Net loads it through nnUNet_extTrainer.

All but the length is nnU-Net's own: the polynomial schedule of the learning rate runs over the processor time in
LUMBARSEG_MINUTES instead of over a thousand epochs, so that a short run also ends with a small rate. Without mirroring,
which would turn L1 into L5.
"""

from __future__ import annotations

import os
import time

import torch
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring


class MinutesTrainer(nnUNetTrainerNoMirroring):
    """nnU-Net's trainer for LUMBARSEG_MINUTES of this process's processor time; augmentation included (no workers)."""

    def on_train_start(self) -> None:
        """Start as usual, with small epochs: the time is checked between them."""
        super().on_train_start()
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 5, 1
        self.lr_scheduler = self  # asked for its step(epoch) alone
        self.steps = 0

    def used(self) -> float:
        """Return the fraction of the allowed time that is used."""
        return time.process_time() / (60 * float(os.environ["LUMBARSEG_MINUTES"]))

    def step(self, epoch: int) -> None:
        """Set the learning rate by the fraction of the time that is used."""
        del epoch
        for group in self.optimizer.param_groups:
            group["lr"] = self.initial_lr * max(1 - self.used(), 0.0) ** 0.9

    def save_checkpoint(self, filename: str) -> None:
        """Save only the last checkpoint: the best of so few epochs is chance."""
        if "final" in filename:
            scheduler, self.lr_scheduler = self.lr_scheduler, None
            super().save_checkpoint(filename)
            self.lr_scheduler = scheduler
            print(f"lumbarseg: {self.steps} steps", flush=True)

    def run_training(self) -> None:
        """Train epochs until the time is used."""
        self.on_train_start()
        while self.used() < 1:
            self.on_epoch_start()
            self.on_train_epoch_start()
            batches = range(self.num_iterations_per_epoch)
            self.on_train_epoch_end([self.train_step(next(self.dataloader_train)) for _ in batches])
            self.steps += self.num_iterations_per_epoch
            with torch.no_grad():
                self.on_validation_epoch_start()
                self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val))])
            self.on_epoch_end()
        self.on_train_end()
