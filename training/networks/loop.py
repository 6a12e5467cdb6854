"""Train one network on labelled images, alone or taught by another one's logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm import tqdm

from zoo.architectures.preprocessing import Preprocess, Preprocessing
from zoo.errors import DataError, ZooError

_WARM_UP = 0.25  # share of the steps in which the learning rate rises


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults suit small networks and small images.

    Parameters
    ----------
    epochs
        Passes over the images.
    batch_size
        Images in one step.
    lr
        Largest learning rate of the cycle.
    weight_decay
        Decoupled (AdamW) weight decay.
    label_smoothing
        Probability that is spread over all classes.
    shift
        Images are moved by up to this share of their sides, in both directions; the border is repeated.
    flip
        Mirror half of the images; wrong for digits and letters.
    temperature, alpha
        Distillation: the teacher's logits are divided by `temperature`, and its loss counts `alpha`, the
        labels' loss 1 - `alpha`.

    Raises
    ------
    DataError
        When a value is out of range.
    """

    epochs: int = 10
    batch_size: int = 64
    lr: float = 4e-3
    weight_decay: float = 5e-3
    label_smoothing: float = 0.05
    shift: float = 1 / 16
    flip: bool = False
    temperature: float = 3.0
    alpha: float = 0.7

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("epochs", self.epochs, 1, math.inf),
            ("batch_size", self.batch_size, 2, math.inf),
            ("lr", self.lr, 1e-9, 100),
            ("weight_decay", self.weight_decay, 0, 1),
            ("label_smoothing", self.label_smoothing, 0, 0.9),
            ("shift", self.shift, 0, 1),
            ("temperature", self.temperature, 0.01, 1000),
            ("alpha", self.alpha, 0, 1),
        ):
            if not low <= value <= high:
                raise DataError(
                    f"training: expected {name} from {low:g} to {high:g}, got {value}. Correct it."
                )


def train(
    module: nn.Module,
    images: NDArray[np.uint8],
    labels: ArrayLike,
    *,
    preprocessing: Preprocessing | None,
    recipe: Recipe | None = None,
    teacher_logits: NDArray[np.float32] | None = None,
    torch_device: str = "auto",
    seed: int = 0,
    progress: bool = True,
    name: str = "model",
) -> None:
    """Train `module` in place with AdamW and one cycle of the learning rate.

    Equal inputs and seeds give equal weights on the same machine with the same number of threads. On CUDA the
    forward pass runs in bfloat16 where the device has it.

    Parameters
    ----------
    module
        float32 ``[N, 3, h, w]`` → logits ``[N, C]``. Only its parameters that require gradients are trained.
        It ends on the CPU in evaluation mode.
    images
        uint8 ``[n, H, W, 3]``.
    labels
        int ``[n]``.
    preprocessing
        Applied after the augmentation; the same as in the exported graph. None where it is part of the
        module, which then takes uint8 ``[N, H, W, 3]``.
    teacher_logits
        float32 ``[n, C]`` of a better model on the same images: knowledge distillation (Hinton, Vinyals and
        Dean, "Distilling the knowledge in a neural network", 2015).
    torch_device
        ``cpu``, ``cuda``, … or ``auto``: CUDA where there is one.
    progress
        Show a bar with loss and accuracy per epoch.
    name
        What the bar and the errors call the module.

    Raises
    ------
    DataError
        When there are fewer than two images or the lengths do not agree.
    ZooError
        When the loss stops being a number.
    """
    recipe = recipe or Recipe()
    targets = torch.from_numpy(np.array(labels, dtype=np.int64))
    if len(images) < 2 or len(images) != len(targets):
        raise DataError(
            f"training {name!r}: expected at least two images with a label each, got {len(images)} images "
            f"and {len(targets)} labels. Give more labelled images or a larger training share."
        )
    if teacher_logits is not None and len(teacher_logits) != len(images):
        raise DataError(
            f"training {name!r}: expected the teacher's logits for {len(images)} images, "
            f"got {len(teacher_logits)}. Run the teacher over the same images."
        )
    where = torch.device(pick_torch_device(torch_device))
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        _run(module, images, targets, preprocessing, recipe, teacher_logits, where, progress, name)
    module.to("cpu").eval()


def pick_torch_device(torch_device: str) -> str:
    """The device that ``auto`` stands for on this machine; other names are returned as they are."""
    if torch_device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return torch_device


def _run(
    module: nn.Module,
    images: NDArray[np.uint8],
    targets: Tensor,
    preprocessing: Preprocessing | None,
    recipe: Recipe,
    teacher_logits: NDArray[np.float32] | None,
    device: torch.device,
    progress: bool,
    name: str,
) -> None:
    pixels = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    teacher = None if teacher_logits is None else torch.from_numpy(np.array(teacher_logits, np.float32))
    preprocess = None if preprocessing is None else Preprocess(preprocessing).to(device)
    layout: Any = {"device": device, "memory_format": torch.channels_last}  # the faster one for convolutions
    module.to(**layout).train()
    learned = [weights for weights in module.parameters() if weights.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = max(1, round(len(pixels) / recipe.batch_size))
    total = recipe.epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _one_cycle(step, total))
    amp = device.type == "cuda" and torch.cuda.is_bf16_supported()
    with tqdm(
        total=total, desc=f"training {name}", unit="step", delay=2, disable=not progress or None
    ) as bar:
        for epoch in range(recipe.epochs):
            loss_sum = torch.zeros((), device=device)
            right = torch.zeros((), device=device)
            # Batches of nearly equal size: a last one of a single image would break batch normalisation.
            for rows in torch.tensor_split(torch.randperm(len(pixels)), steps):
                batch = _augment(pixels[rows].to(device), recipe)
                if preprocess is not None:
                    batch = preprocess(batch).contiguous(memory_format=torch.channels_last)
                labels = targets[rows].to(device)
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
                    logits = module(batch).float()
                loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
                if teacher is not None:
                    loss = (1 - recipe.alpha) * loss + recipe.alpha * _distillation(
                        logits, teacher[rows].to(device), recipe.temperature
                    )
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                loss_sum += loss.detach() * len(rows)
                right += (logits.argmax(1) == labels).sum()
                bar.update()
            mean_loss = float(loss_sum) / len(pixels)
            if not math.isfinite(mean_loss):
                raise ZooError(
                    f"training {name!r}: expected a finite loss, got {mean_loss} in epoch {epoch + 1}. "
                    f"Choose a smaller learning rate than {recipe.lr:g}."
                )
            accuracy = f"{float(right) / len(pixels):.1%}"
            # A refresh would show the bar at once, even where everything takes less than two seconds.
            bar.set_postfix(epoch=epoch + 1, loss=f"{mean_loss:.3f}", accuracy=accuracy, refresh=False)


def _augment(batch: Tensor, recipe: Recipe) -> Tensor:
    count, height, width = batch.shape[:3]
    rows = torch.arange(height).repeat(count, 1)
    columns = torch.arange(width).repeat(count, 1)
    if recipe.flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    most = round(recipe.shift * height), round(recipe.shift * width)
    rows = (rows + torch.randint(-most[0], most[0] + 1, (count, 1))).clamp(0, height - 1)
    moved = torch.randint(-most[1], most[1] + 1, (count, 1))
    # A mirrored image is read from right to left, so its shift only changes its sign.
    columns = (columns + moved).clamp(0, width - 1)
    image = torch.arange(count, device=batch.device)[:, None, None]
    return batch[image, rows.to(batch.device)[:, :, None], columns.to(batch.device)[:, None, :]]


def _distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    # The square keeps the gradients' size when the temperature changes (Hinton et al. 2015, section 2).
    return temperature**2 * F.kl_div(
        F.log_softmax(logits / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )


def _one_cycle(step: int, total: int) -> float:
    done = (step + 0.5) / total
    if done < _WARM_UP:
        return 0.04 + 0.96 * done / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - _WARM_UP) / (1 - _WARM_UP))))
