# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The frozen teacher: any timm CNN, or the small embedded one, seen as a pyramid of named levels.

anomalib's ``TimmFeatureExtractor`` is not used: it offers a VGG only before its max-pools while MKD taps behind them,
it drops unknown layers with a warning, orders the result by the network rather than by the names asked for, cuts the
gradient to the image, and downloads its weights again whenever a checkpoint is loaded.
"""

import difflib
import logging
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from pickle import UnpicklingError  # only the error
from typing import Any

import timm
import torch
from huggingface_hub import get_session, hf_hub_url, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_OFFLINE
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from anomalib_mkd.networks.chain import Block, Chain, build_chain, is_step
from anomalib_mkd.types import Pyramid

logger = logging.getLogger(__name__)

QUICKSTART = "quickstart"
"""Name of the embedded teacher, as ``weights`` and, where one is asked for, as ``backbone``."""

QUICKSTART_WIDTHS = ((16, 16), (32, 64), (64, 128), (128, 128, 192), (192, 192))
"""Widths of the convolutions of the embedded teacher, block by block."""

DEFAULT_BACKBONE = "vgg16.tv_in1k"
LEVELWISE_BACKBONE = "resnet18.tv_in1k"
"""What the models that are judged level by level use by default."""

MIN_SIZE = 32
"""Smallest side in pixels that survives the five halvings of a CNN."""


class Teacher(nn.Module):
    """A frozen network that gives its features at named layers.

    It stays in eval mode whatever calls ``train()``, and none of its parameters ever requires a gradient; gradients may
    still flow through it to the image. The network is built empty: ``prepare`` fills it, once, and a checkpoint
    restored before that makes ``prepare`` do nothing, so that only a first training ever needs the network.

    Args:
        backbone: Full timm name with its tag, such as ``resnet18.tv_in1k``. A plain VGG (with or without BatchNorm)
            is tapped behind its max-pools, ``pool1`` to ``pool5``; any other CNN at the stages that timm lists.
        layers: Taps, in any order. ``None`` takes pools 2 to 5 of a VGG, else the stages of stride 4, 8 and 16.
        pre_trained: Whether ``prepare`` loads ImageNet weights through timm.
        weights: File with weights for the backbone, or ``"quickstart"`` for the embedded teacher.

    Attributes:
        layers: The taps, shallow to deep.
        channels: Channels ``C_l`` per tap.
        strides: Image pixels per feature, per tap.
        signed: Whether a tap can be negative, that is, does not end in a ReLU.

    Shape:
        ``(N, 3, H, W)`` in, a pyramid out.

    Raises:
        ValueError: If backbone or layer is unknown, the backbone gives no feature maps, or weights are given and not
            wanted.

    Example:
        >>> teacher = Teacher("resnet18.tv_in1k", pre_trained=False)
        >>> teacher.channels
        {'layer1': 64, 'layer2': 128, 'layer3': 256}
    """

    ready: Tensor

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        layers: Sequence[str] | None = None,
        *,
        pre_trained: bool = True,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if weights is not None and not pre_trained:
            msg = (
                f"Expected pre_trained=True beside weights, got pre_trained=False and weights={weights!r}. "
                "Leave out one of them."
            )
            raise ValueError(msg)
        self.backbone = resolve_backbone(backbone, weights)
        self.weights = weights
        stages = _stages(self.backbone)
        self.layers = _choose(stages, layers, self.backbone)
        self.strides = {name: stages[name].stride for name in self.layers}
        self.channels = {name: stages[name].channels for name in self.layers}
        self.net = _build(self.backbone, self.layers, stages)
        self.requires_grad_(requires_grad=False)
        self.eval()
        self.register_buffer("ready", torch.tensor(not pre_trained))
        self.signed = self._probe()

    def _probe(self) -> bool:
        """Check the shapes that timm announces, and see whether features can be negative."""
        noise = torch.randn(1, 3, 2 * MIN_SIZE, 2 * MIN_SIZE, generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                pyramid = self(noise)
        except AssertionError as error:  # timm's transformers assert the size that they were made for
            msg = f"Expected a convolutional backbone, such as 'resnet18.tv_in1k', got {self.backbone!r}: {error}"
            raise ValueError(msg) from error
        for name, features in pyramid.items():
            if features.ndim != 4 or features.shape[1] != self.channels[name]:
                msg = (
                    f"Expected {self.backbone!r} to give (N, {self.channels[name]}, H, W) at {name!r}, got "
                    f"{tuple(features.shape)}. Choose a convolutional backbone, such as 'resnet18.tv_in1k'."
                )
                raise ValueError(msg)
        return any(bool((features < 0).any()) for features in pyramid.values())

    def blocks(self) -> list[Block]:
        """Describe the teacher as the blocks of a VGG, for students made after its pattern.

        Returns:
            A chain's own blocks; for other networks those of a VGG-16 with the teacher's taps: two convolutions in
            each of the first two blocks, three later, widths those of the next tap.

        Raises:
            ValueError: If a stride is no power of two or two taps share one.
        """
        if isinstance(self.net, Chain):
            return _chain_blocks(self.net)
        blocks: list[Block] = []
        stride = 1
        for name in self.layers:
            halvings = (self.strides[name] // stride).bit_length() - 1
            if halvings < 1 or stride << halvings != self.strides[name]:
                msg = (
                    f"Expected layers whose strides double, got {self.strides}. "
                    "Leave out layers of equal stride, or choose another backbone."
                )
                raise ValueError(msg)
            for halving in range(1, halvings + 1):
                depth = 2 if len(blocks) < 2 else 3  # VGG-16's pattern
                blocks.append(Block((self.channels[name],) * depth, name if halving == halvings else None))
            stride = self.strides[name]
        return blocks

    def build_network(self) -> nn.Module:
        """Build the network once more, with random weights that can be trained."""
        return _build(self.backbone, self.layers, _stages(self.backbone))

    def prepare(self) -> None:
        """Load the pretrained weights, unless they are there already.

        Raises:
            FileNotFoundError: If ``weights`` names no file.
            RuntimeError: If the hub cannot be reached and nothing is cached, or the file does not fit the backbone.
        """
        if bool(self.ready):
            return
        if self.backbone == QUICKSTART:
            source = str(resources.files("anomalib_mkd") / "weights" / "quickstart_teacher.safetensors")
            state = load_file(source)
            logger.info("Teacher: the embedded quick-start network.")
        else:
            file = self.weights or _hub_file(self.backbone)
            state = _pretrained_state(self.backbone, self.layers, file)
            logger.info("Teacher: %s from %s.", self.backbone, file or "timm's download")
        target = self.net.steps if isinstance(self.net, Chain) else self.net
        target.load_state_dict({name: value.float() for name, value in state.items()})
        self.ready.fill_(value=True)

    def train(self, mode: bool = True) -> "Teacher":  # noqa: ARG002  # the signature is torch's
        """Stay in eval mode: a frozen network's BatchNorm must not drift."""
        return super().train(mode=False)

    def forward(self, images: Tensor) -> Pyramid:
        """Compute the features at the layers."""
        if isinstance(self.net, Chain):
            pyramid: Pyramid = self.net(images)
            return pyramid
        return dict(zip(self.layers, self.net(images), strict=True))


class _Stage:
    """One place where a backbone can be tapped: timm's index of it (for chains, of the step), channels and stride."""

    def __init__(self, index: int, channels: int, stride: int) -> None:
        self.index, self.channels, self.stride = index, channels, stride


def resolve_backbone(backbone: str, weights: str | None) -> str:
    """Say which network is meant: the embedded weights bring their own.

    Args:
        backbone: timm's name, or ``"quickstart"``.
        weights: As for :class:`Teacher`.

    Returns:
        The backbone's name.

    Raises:
        ValueError: If the embedded weights are asked for together with another backbone.

    Example:
        >>> resolve_backbone("vgg16.tv_in1k", "quickstart")
        'quickstart'
    """
    if weights != QUICKSTART:
        return backbone
    if backbone not in {DEFAULT_BACKBONE, LEVELWISE_BACKBONE, QUICKSTART}:  # a default gives way
        msg = (
            f"Expected no backbone beside weights='{QUICKSTART}', which brings its own network, got {backbone!r}. "
            "Leave out the backbone, or give a file with its weights."
        )
        raise ValueError(msg)
    return QUICKSTART


def is_chain(backbone: str) -> bool:
    """Say whether a backbone is a plain chain, a VGG or the embedded teacher.

    Args:
        backbone: timm's name, or ``"quickstart"``.

    Example:
        >>> is_chain("vgg16.tv_in1k"), is_chain("resnet18.tv_in1k")
        (True, False)
    """
    return backbone == QUICKSTART or next(iter(_stages(backbone))) == "pool1"


def _quickstart_chain(taps: Sequence[str]) -> Chain:
    blocks = [Block(widths, f"pool{number}") for number, widths in enumerate(QUICKSTART_WIDTHS, start=1)]
    chain = build_chain(blocks, bias=True)
    return Chain(list(chain.steps), {name: chain.taps[name] for name in taps})


def _create(backbone: str, **arguments: Any) -> nn.Module:  # passed through to timm
    """Create timm's feature network, or say what was wrong with the name."""
    if not timm.is_model(backbone.split(".", maxsplit=1)[0]):
        near = difflib.get_close_matches(backbone, timm.list_models() + timm.list_pretrained(), n=5)
        msg = (
            f"Expected a timm backbone, got {backbone!r}. "
            f"{'Near it: ' + ', '.join(near) + '. ' if near else ''}timm.list_models() lists them all."
        )
        raise ValueError(msg)
    try:
        return timm.create_model(backbone, features_only=True, **arguments)
    except (AttributeError, RuntimeError, ValueError) as error:
        if arguments.get("pretrained"):
            raise
        msg = (
            f"Expected a backbone that gives feature maps, got {backbone!r}, of which timm says: {error} "
            "Choose a convolutional backbone, such as 'resnet18.tv_in1k'."
        )
        raise ValueError(msg) from error


def _stages(backbone: str) -> dict[str, _Stage]:
    """List the places where a backbone can be tapped, shallow to deep."""
    if backbone == QUICKSTART:
        widths = [block[-1] for block in QUICKSTART_WIDTHS]
        return {f"pool{n}": _Stage(n, width, 2**n) for n, width in enumerate(widths, start=1)}
    with torch.device("meta"):  # only the description is wanted: no memory, no random numbers
        net = _create(backbone)
    if all(is_step(step) for step in net.children()):
        stages: dict[str, _Stage] = {}
        channels = 3
        for index, step in enumerate(net.children()):
            if isinstance(step, nn.Conv2d):
                channels = step.out_channels
            elif isinstance(step, nn.MaxPool2d):
                number = len(stages) + 1
                stages[f"pool{number}"] = _Stage(index, channels, 2**number)
        return stages
    info = net.feature_info
    described = zip(info.module_name(), info.channels(), info.reduction(), strict=True)  # type: ignore[operator, union-attr]
    return {name: _Stage(index, channels, stride) for index, (name, channels, stride) in enumerate(described)}


def _choose(stages: Mapping[str, _Stage], layers: Sequence[str] | None, backbone: str) -> tuple[str, ...]:
    """Sort the layers asked for by depth, or take the default ones."""
    if layers is None:
        strides = {4, 8, 16, 32} if "pool1" in stages else {4, 8, 16}
        return tuple(name for name, stage in stages.items() if stage.stride in strides)
    unknown = [name for name in layers if name not in stages]
    if unknown or not layers or len(set(layers)) != len(layers):
        msg = f"Expected different layers of {backbone!r}, out of {list(stages)}, got {list(layers)}."
        raise ValueError(msg)
    return tuple(name for name in stages if name in layers)


def _build(backbone: str, layers: Sequence[str], stages: Mapping[str, _Stage]) -> nn.Module:
    """Build the network, cut behind its deepest tap, with random weights."""
    if backbone == QUICKSTART:
        return _quickstart_chain(layers)
    if "pool1" in stages:
        # timm's ReLUs work in place and would overwrite what the localisation reads again
        steps = [nn.ReLU() if isinstance(step, nn.ReLU) else step for step in _create(backbone).children()]
        return Chain(steps, {name: stages[name].index for name in layers})
    return _create(backbone, out_indices=tuple(stages[name].index for name in layers))


def _chain_blocks(chain: Chain) -> list[Block]:
    """Read the blocks off a chain."""
    names = {index: name for name, index in chain.taps.items()}
    blocks: list[Block] = []
    widths: list[int] = []
    for index, step in enumerate(chain.steps):
        if isinstance(step, nn.Conv2d):
            widths.append(step.out_channels)
        elif isinstance(step, nn.MaxPool2d):
            blocks.append(Block(tuple(widths), names.get(index)))
            widths = []
    return blocks


def _hub_file(backbone: str) -> str | None:
    """Find the weights of a backbone in the Hugging Face cache, or make sure that the hub can be reached.

    The hub's client tries for about a minute before it gives up, and says little then.

    Returns:
        The cached file; ``None`` if timm has to download it.
    """
    config = timm.get_pretrained_cfg(backbone)
    repository = config.hf_hub_id if config else None
    if not repository:
        return None
    for name in ("model.safetensors", "pytorch_model.bin"):
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return cached
    reason = (
        "HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else _why_unreachable(hf_hub_url(repository, "model.safetensors"))
    )
    if reason:
        msg = (
            f"Expected the ImageNet weights of {backbone!r} in the Hugging Face cache or on the hub, but "
            f"'model.safetensors' of '{repository}' is not cached and the hub cannot be reached ({reason}). Ways out: "
            "set HF_HOME to a cache that holds it, give a file with weights='PATH', or use the embedded teacher with "
            f"weights='{QUICKSTART}'."
        )
        raise RuntimeError(msg)
    return None


def _why_unreachable(url: str) -> str | None:
    """Ask once; ``None`` where there was any answer."""
    try:
        get_session().head(url, timeout=10)
    except Exception as error:  # noqa: BLE001  # whatever the HTTP client of the day raises
        return str(error)
    return None


def _pretrained_state(backbone: str, layers: Sequence[str], file: str | None) -> dict[str, Tensor]:
    """Let timm load weights and give what the teacher's network needs of them.

    timm accepts a file that holds only part of the tensors, without a word. The same seed is therefore used for a
    network with and one without the file: a convolution that is equal in both was not in the file.
    """
    if file is not None and not Path(file).is_file():
        msg = f"Expected a file with weights for {backbone!r}, got {file!r}, which does not exist."
        raise FileNotFoundError(msg)
    stages = _stages(backbone)
    chain = "pool1" in stages
    arguments = {} if chain else {"out_indices": tuple(stages[name].index for name in layers)}
    states = []
    with torch.random.fork_rng(devices=[]):
        for pretrained in ({}, {"pretrained": True, "pretrained_cfg_overlay": {"file": file} if file else None}):
            torch.manual_seed(0)
            try:
                states.append(_create(backbone, **arguments, **pretrained).state_dict())
            except (EOFError, KeyError, RuntimeError, SafetensorError, TypeError, UnpicklingError, ValueError) as error:
                msg = f"Expected weights that fit {backbone!r}, got {file or 'a download'}, of which timm says: {error}"
                raise RuntimeError(msg) from error
    random, loaded = states
    if chain:  # timm flattens `features.0.weight` to `features_0.weight`; only the steps up to the last tap are needed
        last = max(stages[name].index for name in layers)
        names = {name: name.removeprefix("features_") for name in loaded}
        loaded = {names[name]: v for name, v in loaded.items() if int(names[name].partition(".")[0]) <= last}
        random = {names[name]: v for name, v in random.items()}
    untouched = [name for name, value in loaded.items() if value.ndim > 1 and torch.equal(value, random[name])]
    if untouched:
        lacks = f"{untouched[0]!r} and {len(untouched) - 1} more"
        msg = f"Expected weights that fit {backbone!r}, got {file!r}, which lacks {lacks}. Use other layers or weights."
        raise RuntimeError(msg)
    return loaded
