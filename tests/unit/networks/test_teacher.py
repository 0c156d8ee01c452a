# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Teachers: taps, shapes, frozenness, and where their weights come from."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from anomalib.pre_processing import PreProcessor
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers
from torchvision.transforms.v2 import Resize

from anomalib_mkd import Dcam, MixedDistillation, Mkd
from anomalib_mkd.networks import pretrained as module
from anomalib_mkd.networks.backbone import is_chain, resolve_backbone
from anomalib_mkd.networks.chain import Block, Chain
from anomalib_mkd.networks.teacher import Teacher
from tests.networks import pictures, tiny_teacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL = "resnet10t.c3_in1k"


def small_file(folder: Path, name: str = "small.safetensors", *, without: str = "-") -> tuple[dict[str, Tensor], Path]:
    """Random weights of a whole small ResNet under timm's names, and a file of them."""
    torch.manual_seed(1)
    state = {key: value for key, value in timm.create_model(SMALL).state_dict().items() if without not in key}
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return state, path


def holds(teacher: Teacher, state: dict[str, Tensor]) -> bool:
    """Return whether a teacher's network has exactly the values of a state under the same names."""
    return all(torch.equal(value, state[name].to(value.dtype)) for name, value in teacher.net.state_dict().items())


# ------------------------------------------------------------------------------------------------------------- taps


def test_vgg16_is_the_papers_source() -> None:
    teacher = tiny_teacher("vgg16.tv_in1k")
    assert sum(parameter.numel() for parameter in teacher.parameters()) == 14_714_688
    assert isinstance(teacher.net, Chain)
    assert teacher.net.taps == {"pool2": 9, "pool3": 16, "pool4": 23, "pool5": 30}
    assert teacher.channels == {"pool2": 128, "pool3": 256, "pool4": 512, "pool5": 512}
    assert teacher.strides == {"pool2": 4, "pool3": 8, "pool4": 16, "pool5": 32}
    assert {name: tuple(features.shape) for name, features in teacher(pictures(2, 128)).items()} == {
        "pool2": (2, 128, 32, 32),
        "pool3": (2, 256, 16, 16),
        "pool4": (2, 512, 8, 8),
        "pool5": (2, 512, 4, 4),
    }
    assert teacher(pictures(1, 32))["pool5"].shape == (1, 512, 1, 1)
    assert not teacher.signed


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("vgg11_bn.tv_in1k", [128, 256, 512, 512], [4, 8, 16, 32]),
        ("vgg13.tv_in1k", [128, 256, 512, 512], [4, 8, 16, 32]),
        ("vgg19.tv_in1k", [128, 256, 512, 512], [4, 8, 16, 32]),
        ("resnet18.tv_in1k", [64, 128, 256], [4, 8, 16]),
        ("mobilenetv3_small_100.lamb_in1k", [16, 24, 48], [4, 8, 16]),
        ("quickstart", [64, 128, 192, 192], [4, 8, 16, 32]),
    ],
)
def test_default_layers_of_any_cnn(name: str, channels: list[int], strides: list[int]) -> None:
    teacher = tiny_teacher(name)
    assert list(teacher.channels.values()) == channels
    assert list(teacher.strides.values()) == strides
    for layer, features in teacher(pictures(1, 64)).items():
        assert features.shape == (1, teacher.channels[layer], *2 * (64 // teacher.strides[layer],))


def test_layers_are_sorted_by_depth_and_the_rest_of_the_network_is_cut_off() -> None:
    teacher = tiny_teacher("resnet18.tv_in1k", ("layer2", "layer1"))
    assert teacher.layers == tuple(teacher(pictures(1, 64))) == ("layer1", "layer2")
    assert not any(name.startswith(("net.layer3", "net.layer4")) for name in teacher.state_dict())


def test_features_are_those_of_timms_own_network() -> None:
    teacher = tiny_teacher(SMALL, ("layer3", "layer1"))
    whole = timm.create_model(SMALL).eval()
    whole.load_state_dict(teacher.net.state_dict(), strict=False)
    images = pictures(2, 64)
    stem = whole.maxpool(whole.act1(whole.bn1(whole.conv1(images))))
    first = whole.layer1(stem)
    torch.testing.assert_close(teacher(images)["layer1"], first)
    torch.testing.assert_close(teacher(images)["layer3"], whole.layer3(whole.layer2(first)))


def test_features_that_can_be_negative_are_noticed() -> None:
    assert tiny_teacher("efficientnet_b0.ra_in1k").signed
    assert not tiny_teacher("resnet18.tv_in1k").signed


def test_a_chain_is_described_by_its_own_blocks_and_another_network_by_vgg16s_pattern() -> None:
    assert tiny_teacher("vgg11.tv_in1k", ("pool3", "pool1")).blocks() == [
        Block((64,), "pool1"),
        Block((128,), None),
        Block((256, 256), "pool3"),
    ]
    assert tiny_teacher("resnet18.tv_in1k").blocks() == [
        Block((64, 64), None),
        Block((64, 64), "layer1"),
        Block((128, 128, 128), "layer2"),
        Block((256, 256, 256), "layer3"),
    ]


def test_layers_of_one_stride_cannot_be_followed_by_a_student() -> None:
    teacher = tiny_teacher("resnet18.tv_in1k", ("layer1", "layer2"))
    teacher.strides["layer2"] = teacher.strides["layer1"]
    with pytest.raises(ValueError, match=r"strides double, got .*'layer2': 4.*Remove layers of equal stride"):
        teacher.blocks()


# ----------------------------------------------------------------------------------------------------------- frozen


def test_a_teacher_cannot_be_trained_or_switched() -> None:
    teacher = tiny_teacher("resnet18.tv_in1k")
    holder = nn.Sequential(teacher).train()
    assert holder.training
    assert not any(part.training for part in teacher.modules())
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    images = pictures(2, 64).requires_grad_()
    sum(features.sum() for features in teacher(images).values()).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert images.grad is not None  # the gradient to the image is MKD's map
    assert images.grad.any()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


# -------------------------------------------------------------------------------------------------------- wrong names


def test_an_unknown_backbone_names_near_ones() -> None:
    with pytest.raises(ValueError, match=r"timm backbone, got 'resnet81'. Close matches: .*resnet18"):
        Teacher("resnet81")
    with pytest.raises(ValueError, match=r"got 'no such thing'. Choose one from timm.list_models"):
        Teacher("no such thing")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mixer_s32_224"])
def test_a_backbone_without_feature_maps_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"a .*backbone.*, got '{name}'"):
        Teacher(name, pre_trained=False)


@pytest.mark.parametrize("layers", [["layer1", "layer7"], [], ["layer1", "layer1"]])
def test_wrong_layers_list_the_right_ones(layers: list[str]) -> None:
    valid = r"\['act1', 'layer1', 'layer2', 'layer3', 'layer4'\]"
    with pytest.raises(ValueError, match=rf"distinct layers of 'resnet18.tv_in1k', got \[.*Choose from {valid}"):
        Teacher("resnet18.tv_in1k", layers)


def test_a_vgg_offers_its_pools() -> None:
    with pytest.raises(
        ValueError, match=r"got \['features.9'\]. Choose from \['pool1', 'pool2', 'pool3', 'pool4', 'pool5'\]"
    ):
        Teacher("vgg16.tv_in1k", ["features.9"])


def test_the_embedded_weights_bring_their_own_network() -> None:
    assert resolve_backbone("quickstart", None) == resolve_backbone("quickstart", "quickstart") == "quickstart"
    assert resolve_backbone("resnet18", None) == resolve_backbone("resnet18", "file.pth") == "resnet18"
    with pytest.raises(ValueError, match=r"no backbone with weights='quickstart'.*got 'resnet18'. Remove the backbone"):
        Teacher("resnet18", weights="quickstart")


def test_what_counts_as_a_chain() -> None:
    names = ("vgg13_bn.tv_in1k", "quickstart", "mobilenetv3_small_100.lamb_in1k")
    assert [is_chain(name) for name in names] == [True, True, False]


# ------------------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("name", ["small.safetensors", "small.pth"])
def test_a_file_of_weights_fills_the_teacher(tmp_path: Path, name: str, no_network: None) -> None:  # noqa: ARG001
    state, path = small_file(tmp_path, name)
    teacher = Teacher(SMALL, weights=str(path))
    assert not teacher.ready
    assert not holds(teacher, state)
    random_state = torch.get_rng_state()
    teacher.prepare()
    assert teacher.ready
    assert holds(teacher, state)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_file_of_a_vgg_has_torchvisions_names(tmp_path: Path) -> None:
    torch.manual_seed(1)
    features = make_layers(cfgs["A"])
    save_file({f"features.{key}": value for key, value in features.state_dict().items()}, tmp_path / "vgg.safetensors")
    teacher = Teacher("vgg11.tv_in1k", ("pool1", "pool2"), weights=str(tmp_path / "vgg.safetensors"))
    teacher.prepare()
    images = pictures(2, 64)
    torch.testing.assert_close(teacher(images), {"pool1": features[:3](images), "pool2": features[:6](images)})


def test_weights_in_half_precision_become_floats(tmp_path: Path) -> None:
    state, path = small_file(tmp_path)
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(half, path)
    teacher = Teacher(SMALL, weights=str(path))
    teacher.prepare()
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float32}
    assert holds(teacher, half)


def test_a_checkpoints_teacher_needs_no_weights(no_network: None) -> None:  # noqa: ARG001
    loaded = Teacher(SMALL, weights="gone.pth")
    trained = tiny_teacher(SMALL)
    loaded.load_state_dict(trained.state_dict())
    loaded.prepare()
    assert holds(loaded, trained.net.state_dict())


@pytest.mark.parametrize("model", [MixedDistillation, Dcam, Mkd])
def test_the_embedded_teacher_takes_no_normalised_pictures(model: type[MixedDistillation | Dcam | Mkd]) -> None:
    usual = MixedDistillation.configure_pre_processor((144, 144))
    with pytest.raises(ValueError, match=r"^Expected a pre-processor without Normalize for the embedded teacher"):
        model(weights="quickstart", pre_processor=usual)
    own = PreProcessor(Resize((144, 144), antialias=True))
    assert model(weights="quickstart", pre_processor=own).pre_processor is own


def test_the_embedded_teacher_needs_no_network(no_network: None) -> None:  # noqa: ARG001
    teacher = Teacher(weights="quickstart")
    random = {name: value.clone() for name, value in teacher.net.state_dict().items()}
    teacher.prepare()
    assert all(not torch.equal(value, random[name]) for name, value in teacher.net.state_dict().items())
    assert all(features.isfinite().all() and features.any() for features in teacher(pictures(1, 64)).values())


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=rf"weights for '{SMALL}', got 'gone.pth', which does not exist. Check"):
        Teacher(SMALL, weights="gone.pth").prepare()


@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "vgg13.tv_in1k"])
def test_a_file_of_another_network_is_refused(tmp_path: Path, name: str) -> None:
    _, path = small_file(tmp_path)
    teacher = Teacher(name, weights=str(path))
    with pytest.raises(RuntimeError, match=rf"weights that fit '{name}', got '?{path}"):
        teacher.prepare()
    assert not teacher.ready


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.pth", b"hello", "KeyError: 101"),
        ("text.safetensors", b"hello", "header"),
        ("empty.pth", b"", "EOFError: no reason"),
        ("truncated.safetensors", None, "incomplete metadata"),
        ("truncated.pth", None, "failed finding central directory.*"),
    ],
)
def test_a_file_that_is_no_weights_is_refused(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    path = tmp_path / name
    if content is None:
        small_file(tmp_path, name)
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    wanted = (
        rf"^Expected weights that fit '{SMALL}', got '{path}', which cannot be read as weights \(.*{reason}.*\. Copy"
    )
    with pytest.raises(RuntimeError, match=wanted):
        Teacher(SMALL, weights=str(path)).prepare()


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    torch.save({"model": nn.ReLU()}, tmp_path / "whole.pth")
    with pytest.raises(RuntimeError, match=r"got '.*whole.pth', which cannot be read as weights \(.*weights_only=True"):
        Teacher(SMALL, weights=str(tmp_path / "whole.pth")).prepare()


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"got '{tmp_path}', which is a folder"):
        Teacher(SMALL, weights=str(tmp_path)).prepare()


@pytest.mark.parametrize(
    ("file", "backbone", "first"),
    [
        ("resnet34", "resnet18.tv_in1k", "holds 'layer1.2.bn1.*' and 95 more of another network. Set"),
        ("resnet18", "resnet34.tv_in1k", "lacks 'layer1.2.conv1.weight' and .* more. Use"),
        ("mobilenetv3_small_075", "mobilenetv3_small_100", "reports: size mismatch for .*more lines.*. Set"),
    ],
)
def test_weights_of_a_relative_are_refused(tmp_path: Path, file: str, backbone: str, first: str) -> None:
    save_file(timm.create_model(file).state_dict(), tmp_path / "relative.safetensors")
    with pytest.raises(RuntimeError, match=rf"^Expected weights that fit '{backbone}', got .*relative.*{first}"):
        Teacher(backbone, weights=str(tmp_path / "relative.safetensors")).prepare()


@pytest.mark.parametrize("backbone", ["vgg11.tv_in1k", "mobilenetv3_small_050.lamb_in1k", "convnext_atto"])
def test_whole_networks_of_any_kind_fit(tmp_path: Path, backbone: str) -> None:
    """With their classifier, which the teacher has not, and names that timm changes."""
    state = timm.create_model(backbone).state_dict()
    save_file(state, tmp_path / "whole.safetensors")
    teacher = Teacher(
        backbone, ["pool1"] if backbone.startswith("vgg") else None, weights=tmp_path / "whole.safetensors"
    )
    teacher.prepare()
    own = next(iter(teacher.net.parameters()))
    assert torch.equal(own, next(value for value in state.values() if value.shape == own.shape))


def changed(state: dict[str, Tensor], change: str) -> dict[str, Tensor]:
    name = next(key for key in state if key.endswith("bn1.running_var"))
    if change == "surplus":
        return {**state, "extra": torch.zeros(1)}
    if change == "missing":
        return {key: value for key, value in state.items() if key != name}
    if change == "zeros":
        return {key: torch.zeros_like(value) for key, value in state.items()}
    return {**state, name: torch.full_like(state[name], float(change))}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("surplus", "which holds 'extra' of another network"),
        ("missing", "which lacks '.*bn1.running_var'"),
        ("nan", "with values that are not finite in '.*bn1.running_var'"),
        ("inf", "with values that are not finite in '.*bn1.running_var'"),
        ("zeros", r"with nothing but zeros in 'conv1[\w.]*weight' and \d+ more"),
    ],
)
def test_weights_that_are_not_quite_right_are_refused(tmp_path: Path, change: str, words: str) -> None:
    state, path = small_file(tmp_path)
    save_file(changed(state, change), path)
    teacher = Teacher(SMALL, weights=str(path))
    with pytest.raises(RuntimeError, match=rf"^Expected weights that fit '{SMALL}', got '{path}', {words}\. "):
        teacher.prepare()
    assert not teacher.ready


def test_a_file_that_lacks_a_layer_is_refused_unless_the_layer_is_not_used(tmp_path: Path) -> None:
    state, path = small_file(tmp_path, without="layer3")
    with pytest.raises(RuntimeError, match=rf"got '{path}', which lacks 'layer3.*Use other layers or weights"):
        Teacher(SMALL, weights=str(path)).prepare()
    teacher = Teacher(SMALL, ("layer1", "layer2"), weights=str(path))
    teacher.prepare()
    assert holds(teacher, state)


def hugging_face_cache(folder: Path, repository: str, file: Path) -> Path:
    """Lay a file out as the hub's client does."""
    root = folder / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    snapshot = root / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(file.read_bytes())
    return folder


def test_weights_in_the_hugging_face_cache_need_no_network(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_network: None,  # noqa: ARG001
) -> None:
    state, path = small_file(tmp_path)
    cache = hugging_face_cache(tmp_path / "hub", f"timm/{SMALL}", path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    teacher = Teacher(SMALL)
    teacher.prepare()
    assert holds(teacher, state)


@pytest.mark.parametrize("offline", [True, False])
def test_where_the_hub_cannot_be_reached_one_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocked_network: list[str], offline: bool
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "HF_HUB_OFFLINE", offline)
    with pytest.raises(RuntimeError) as caught:
        Teacher("vgg16.tv_in1k").prepare()
    assert str(caught.value).startswith("Expected the ImageNet weights of 'vgg16.tv_in1k'")
    reason = "HF_HUB_OFFLINE is set" if offline else "hub cannot be reached"
    for part in ("'model.safetensors' of 'timm/vgg16.tv_in1k'", reason, "HF_HOME", "weights='PATH'", "'quickstart'"):
        assert part in str(caught.value)
    assert len(blocked_network) <= (0 if offline else 1)  # no stack of retries


def test_a_cache_that_cannot_be_written_is_told_before_the_download(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_network: None,  # noqa: ARG001
) -> None:
    (tmp_path / "home").touch()  # unlike a folder without permission, it stops root, too
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(module, "why_unreachable", lambda _: None)
    with pytest.raises(RuntimeError, match=r"be written, got .*home/hub'\. Set HF_HOME to a writable folder\.$"):
        Teacher(SMALL).prepare()


def test_a_download_that_fails_is_not_blamed_on_the_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "why_unreachable", lambda _: None)
    teacher = Teacher(SMALL)
    monkeypatch.setattr(module, "create_network", fail)
    with pytest.raises(
        RuntimeError, match=r"No space left on device\. Try again, with HF_HOME set to a folder with room"
    ):
        teacher.prepare()


def test_without_pretrained_weights_nothing_is_loaded(no_network: None) -> None:  # noqa: ARG001
    teacher = tiny_teacher(SMALL)
    before = {name: value.clone() for name, value in teacher.net.state_dict().items()}
    teacher.prepare()
    assert holds(teacher, before)


@pytest.mark.real
def test_real_weights_load_whole(shared: Callable[[str], Path], no_network: None) -> None:  # noqa: ARG001
    path = shared("weights/resnet18_tv_in1k_layers1-3_f16.safetensors")
    teacher = Teacher("resnet18.tv_in1k", weights=str(path))
    teacher.prepare()
    file = load_file(path)
    state = {name: value for name, value in teacher.net.state_dict().items() if "num_batches" not in name}
    assert set(state) == set(file)
    assert all(torch.equal(value, file[name].float()) for name, value in state.items())
    with pytest.raises(RuntimeError, match="lacks 'layer4"):  # the file ends behind layer3
        Teacher("resnet18.tv_in1k", ("layer3", "layer4"), weights=str(path)).prepare()
