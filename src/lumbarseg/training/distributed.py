"""Several processes that train one network, as torchrun starts them: on several cards, or on several computers.

Each makes its own samples of every batch. Sums over the batch are taken over all processes before anything is computed
from them, in the loss as in batch norms: so loss and gradients are those of one process with the whole batch, but for
rounding. Only the first process validates and writes.
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

from lumbarseg.cpus import available_cpus
from lumbarseg.errors import LumbarsegError, ModelError

from .precision import default_device

_TORCHRUN_DEFAULTS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}  # as torchrun says them
_TIMEOUT = timedelta(hours=2)  # how long the others wait while the first one validates


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run: this one's number, how many they are, and where this one computes."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=default_device)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that validates and writes."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether there is no other process."""
        return self.world_size == 1

    @property
    def sample_slice(self) -> slice:
        """Which samples of a batch are its own."""
        return slice(self.rank, None, self.world_size)

    @property
    def description(self) -> str:
        """The number of processes, for a person; "" for one."""
        return "" if self.is_single else f", {self.world_size} processes"

    def sum_over_processes(self, value: Tensor) -> Tensor:
        """The sum over all processes of what each computes a loss from; that loss is the same in all of them."""
        return value if self.is_single else _Total.apply(value)

    def broadcast(self, *values: float) -> list[float]:
        """What the first process says, in all of them."""
        if self.is_single:
            return list(values)
        row = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(row, 0)
        return [float(value) for value in row]

    def gradients(self, network: nn.Module) -> None:
        """Add up the gradients of all processes."""
        if self.is_single:
            return
        grads = [value.grad for value in network.parameters() if value.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view(grad.shape))

    def joined(self, network: nn.Module) -> nn.Module:
        """The network with batch norms that see the whole batch; names and weights stay."""
        if not self.is_single:
            for module in network.modules():
                for name, child in module.named_children():
                    if type(child) is nn.BatchNorm2d:
                        setattr(module, name, _Norm.of(child))
        return network


@contextmanager
def join_process_group() -> Iterator[ProcessGroup]:
    """This process alone, or among those that torchrun started; ModelError when another one of them ends early."""
    rank, local, world = (int(os.environ.get(name, value)) for name, value in _TORCHRUN_DEFAULTS.items())
    where = default_device()
    if world == 1:
        yield ProcessGroup()
        return
    if where.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ModelError(
                f"process {rank} of {world} has no card of its own: {torch.cuda.device_count()} are here; "
                "start so many with torchrun --nproc-per-node, or hide them with CUDA_VISIBLE_DEVICES="
            )
        where = torch.device("cuda", local)
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield ProcessGroup(rank, world, where)
        dist.barrier()  # nobody hangs up while another still listens
    except LumbarsegError as error:
        raise type(error)(f"process {rank} of {world}: {error}" if rank else str(error)) from error
    except RuntimeError as error:
        if not _is_connection_error(error):
            raise
        raise ModelError(
            f"process {rank} of {world}: another process of this run has ended, and tells why itself; "
            "the last checkpoint is kept: go on with --resume"
        ) from error
    finally:
        dist.destroy_process_group()


def is_main_process() -> bool:
    """Whether this process is the first of a run, or its only one."""
    return os.environ.get("RANK", "0") == "0"


def cpu_threads() -> int:
    """Cores for the arithmetic of this process, of those that all processes of this computer share."""
    return max(1, available_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _is_connection_error(error: Exception) -> bool:
    """Whether an error says that a process cannot be reached any more."""
    signs = ("Connection", "connection", "gloo", "NCCL", "Socket", "Broken pipe")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


class _Total(torch.autograd.Function):
    """A sum over processes that all go on to compute the same from it: each one's part has the same gradient."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        out = value.clone()
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Shared(torch.autograd.Function):
    """A sum over processes from which each computes something of its own: gradients are summed, too."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        out = value.clone()
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        out = grads[0].clone()
        dist.all_reduce(out)
        return out


class _Norm(nn.BatchNorm2d):
    """A batch norm over the samples of all processes; torch's own does so on graphics cards alone."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> _Norm:
        """With the weights and statistics of another."""
        out = cls(norm.num_features, norm.eps, norm.momentum)
        out.load_state_dict(norm.state_dict())
        return out

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, A, S) of this process, normalised by what all of them show."""
        if not self.training:
            return super().forward(images)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        x = images.float()
        count = torch.tensor(float(x.numel() / x.shape[1]), device=x.device)
        dist.all_reduce(count)
        mean = _Shared.apply(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        var = _Shared.apply(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)
