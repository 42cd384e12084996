"""One stage of a recipe at work: frozen parts, critic, mixed precision, and the optimiser step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusecli.errors import CheckError, UsageError
from fusecli.models import Sample, Stage
from fusecli.training.ranks import Ranks


class Learner:
    """A network learning by one stage.

    Args:
        network: On its device. Its parameters outside `stage.trains` are frozen.
        stage: Loss, weights and numbers.
        dtype: Of the activations; weights and losses stay float32.
        ranks: Processes over which gradients are averaged.

    Raises:
        UsageError: The stage trains nothing.
    """

    def __init__(self, network: nn.Module, stage: Stage, dtype: torch.dtype, ranks: Ranks) -> None:
        self.network, self.stage, self.dtype, self.ranks = network, stage, dtype, ranks
        self.terms = tuple(name for name, weight in stage.weights.items() if weight)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(stage.trains))
            parameter.grad = None
        learning = [p for p in network.parameters() if p.requires_grad]
        if not learning:
            raise UsageError(
                f"stage {stage.name} trains {', '.join(stage.trains)}: no parameter is called so",
                code="train.stage",
                hint="correct Stage.trains in the network's file",
            )
        self.optimizer = _optimizer(stage, learning)
        self.critic = stage.critic().to(ranks.device) if stage.critic else None
        self.critic_optimizer = (
            _optimizer(stage, self.critic.parameters()) if self.critic is not None else None
        )
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=dtype == torch.float16)

    def step(self, batches: Sequence[Sample], rate: float) -> dict[str, float]:
        """Take one optimiser step over the sum of some batches.

        Args:
            batches: This process's crops, on the device.
            rate: Learning rate.

        Returns:
            Each term, their weighted sum `loss`, the `critic` loss where there is one, and the
            norm of the gradient.

        Raises:
            CheckError: `train.nonfinite`; nothing was changed but the critic.
        """
        self._set_mode()
        values = self._critic_step(batches, rate)
        self.optimizer.zero_grad()
        sums = torch.zeros(len(self.terms) + 1, device=self.ranks.device)
        for batch in batches:
            terms = self._terms(batch, self.terms)
            self.scaler.scale(terms[-1] / len(batches)).backward()
            sums += terms.detach() / len(batches)
        self.ranks.average_gradients(self.network.parameters())
        values |= self._named(self.terms, self.ranks.mean(sums))
        self.scaler.unscale_(self.optimizer)
        limit = self.stage.clip_grad or math.inf
        norms = [
            nn.utils.clip_grad_norm_(part, limit) for part in _top_level(self.network).values()
        ]
        norm = float(torch.stack(norms).norm())
        _check_finite(values)
        # A loss scaled for fp16 may overflow: the scaler then skips the step and scales less.
        if math.isfinite(norm):
            values["grad_norm"] = norm
        elif not self.scaler.is_enabled():
            _check_finite({"gradient": norm})
        _set_rate(self.optimizer, rate)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return values

    def validate(self, batches: Iterable[Sample], count: int) -> dict[str, float]:
        """Return the terms and their weighted sum, averaged over `count` crops of all processes.

        Terms of weight 0 are reported as well: they show what the others do to them.

        Args:
            batches: This process's share, on the device.
            count: Crops of all processes together.
        """
        self.network.eval()
        names = (*self.terms, *(name for name in self.stage.weights if name not in self.terms))
        sums = torch.zeros(len(names) + 1, device=self.ranks.device)
        with torch.no_grad():
            for batch in batches:
                sums += self._terms(batch, names) * len(batch.ir)
        return self._named(names, self.ranks.mean(sums) * (self.ranks.size / count))

    def state(self) -> dict[str, Any]:
        """Return all that changes while learning."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic": self.critic.state_dict() if self.critic else None,
            "critic_optimizer": (
                self.critic_optimizer.state_dict() if self.critic_optimizer else None
            ),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.critic is not None and self.critic_optimizer is not None:
            self.critic.load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])

    def _set_mode(self) -> None:
        """Put what learns into training mode; frozen modules keep their statistics."""
        self.network.train()
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()

    def _terms(self, batch: Sample, names: Sequence[str]) -> Tensor:
        """Return some terms, the counted ones among them, and, last, their weighted sum."""
        with self._autocast():
            if self.critic is None:
                found = self.stage.loss(self.network, batch)
            else:
                self.critic.requires_grad_(False)
                found = self.stage.loss(self.network, batch, self.critic)
            # read here, under autocast: what is not read is not worked out
            value = {name: found[name].float() for name in found if name in names}
        loss = torch.stack([self.stage.weights[name] * value[name] for name in self.terms])
        return torch.stack([*(value[name] for name in names), loss.sum()])

    def _critic_step(self, batches: Sequence[Sample], rate: float) -> dict[str, float]:
        """Let the critic learn from the network as it is; return its loss, if there is one."""
        critic, optimizer, loss = self.critic, self.critic_optimizer, self.stage.critic_loss
        if critic is None or optimizer is None or loss is None:
            return {}
        critic.train().requires_grad_(True)
        optimizer.zero_grad()
        mean = torch.zeros((), device=self.ranks.device)
        for batch in batches:
            with self._autocast():
                part = loss(critic, self.network, batch).float() / len(batches)
            part.backward()
            mean += part.detach()
        self.ranks.average_gradients(critic.parameters())
        values = {"critic": float(self.ranks.mean(mean))}
        _check_finite(values)
        _set_rate(optimizer, rate)
        optimizer.step()
        return values

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.ranks.device.type, self.dtype, enabled=self.dtype != torch.float32
        )

    @staticmethod
    def _named(names: Sequence[str], values: Tensor) -> dict[str, float]:
        return dict(zip((*names, "loss"), values.tolist(), strict=True))


def _optimizer(stage: Stage, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if stage.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=stage.lr)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _top_level(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the learning parameters of each top-level module."""
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            parts.setdefault(name.partition(".")[0], []).append(parameter)
    return parts


def _check_finite(values: dict[str, float]) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise CheckError(
            f"training diverged: {', '.join(bad)} became NaN or infinite",
            code="train.nonfinite",
            facts=[f"{name} = {value:g}" for name, value in values.items()],
            hint="begin anew with a smaller --lr, or with --clip-grad 1",
        )
