"""Training in several processes that torchrun started, on one computer or on several.

Each process computes the loss of its own samples of every batch, and DistributedDataParallel averages the gradients.
Sums over the batch in the losses, and the statistics of batch norms, are taken over all processes, so losses and
weights are those of one process with the whole batch, except for rounding. Only rank 0 validates and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lumbarseg.cpus import available_cpus
from lumbarseg.errors import LumbarsegError, ModelError

from .precision import default_device

_TORCHRUN_DEFAULTS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
_TIMEOUT = timedelta(hours=2)  # how long the other processes wait while rank 0 validates
_CONNECTION_ERRORS = ("Connection", "connection", "gloo", "NCCL", "Socket", "Broken pipe")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run: the rank and the device of this one, and how many there are."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=default_device)

    @property
    def is_main(self) -> bool:
        """Return whether this is rank 0, which validates and writes."""
        return self.rank == 0

    @property
    def sample_slice(self) -> slice:
        """Return which samples of a batch this process computes."""
        return slice(self.rank, None, self.world_size)

    def sum_over_processes(self, value: Tensor) -> Tensor:
        """Return the sum of `value` over all processes, for a loss that is computed alike in all of them.

        The gradient is that of this process's own summand, times the number of processes: DistributedDataParallel
        takes the mean of the gradients, and the gradient of the whole batch is their sum.
        """
        if self.world_size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total + self.world_size * (value - value.detach())

    def broadcast(self, *values: float) -> list[float]:
        """Return the values of rank 0 in every process."""
        if self.world_size == 1:
            return list(values)
        row = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(row, 0)
        return row.tolist()

    def synchronise_batch_norms(self, network: nn.Module) -> nn.Module:
        """Return the network with batch norms over the samples of all processes; weights and their names stay.

        On CUDA these are torch's SyncBatchNorm, which refuses tensors of the CPU.
        """
        if self.world_size == 1:
            return network
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(network)
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = _CpuSyncBatchNorm
        return network

    def parallelise(self, network: nn.Module) -> nn.Module:
        """Return the module whose forward pass averages gradients over the processes in the backward pass."""
        if self.world_size == 1:
            return network
        return DistributedDataParallel(network, broadcast_buffers=False)


@contextmanager
def join_process_group() -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, if any; raise ModelError if another one ends early."""
    rank, local, world = (int(os.environ.get(name, value)) for name, value in _TORCHRUN_DEFAULTS.items())
    if world == 1:
        yield ProcessGroup()
        return
    device = _device_of(rank, local, world)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield ProcessGroup(rank, world, device)
        dist.barrier()  # no process may leave while another still communicates
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(text in str(error) for text in _CONNECTION_ERRORS):
            raise
        # the group is not destroyed: with a reduction of gradients under way, gloo may abort the process there
        raise ModelError(
            f"process {rank} of {world}: another process of this run has ended and prints the reason itself; "
            "the last checkpoint is kept: continue with --resume"
        ) from error
    except LumbarsegError as error:
        dist.destroy_process_group()
        raise type(error)(f"process {rank} of {world}: {error}" if rank else str(error)) from error
    dist.destroy_process_group()


def _device_of(rank: int, local_rank: int, world_size: int) -> torch.device:
    """Return the device of a process: a graphics card of its own, or the CPU."""
    if default_device().type == "cpu":
        return default_device()
    if local_rank >= torch.cuda.device_count():
        raise ModelError(
            f"process {rank} of {world_size} has no graphics card of its own: there are {torch.cuda.device_count()}; "
            "start one process per card with torchrun --nproc-per-node, or hide the cards with CUDA_VISIBLE_DEVICES="
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def is_main_process() -> bool:
    """Return whether this process is rank 0 of a run, or its only one."""
    return os.environ.get("RANK", "0") == "0"


def cpu_threads() -> int:
    """Return the number of threads for the arithmetic of this process: its share of the CPUs of this computer."""
    return max(1, available_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class _SumOverProcesses(torch.autograd.Function):
    """A sum over processes from which each computes something else, so the gradients are summed as well."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class _CpuSyncBatchNorm(nn.BatchNorm2d):
    """A batch norm over the samples of all processes, on the CPU."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images (N, C, A, S) of this process by the mean and variance over all processes."""
        if not self.training:
            return super().forward(images)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        x = images.float()
        count = torch.tensor(float(x.numel() / x.shape[1]))
        dist.all_reduce(count)
        mean = _SumOverProcesses.apply(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        var = _SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)
