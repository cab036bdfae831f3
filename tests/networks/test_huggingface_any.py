"""Networks of transformers by model type, and from a folder that save_pretrained wrote."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from selfreg.networks import build_network, preprocessing
from selfreg.regulation import main_output, mask_targets, network_loss

transformers: Any = pytest.importorskip("transformers", reason="the extra hf is not installed")

SEGFORMER = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}


def segformer(num_labels: int = 4) -> Any:
    torch.manual_seed(0)
    return transformers.SegformerForSemanticSegmentation(
        transformers.SegformerConfig(num_labels=num_labels, num_attention_heads=[1, 1, 2, 2], **SEGFORMER)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    segformer().save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_a_model_type_is_built_with_options_and_for_the_size_of_the_crops() -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    network: Any = build_network("hf:eomt", 7, image_size=(64, 64), num_blocks=1, num_queries=9, **sizes)
    assert isinstance(network, transformers.EomtForUniversalSegmentation)
    assert (network.config.num_labels, network.config.image_size) == (7, 64)
    assert main_output(network.eval()(torch.zeros(1, 3, 64, 64))).shape[1] == 7


def test_a_folder_gives_its_weights_and_a_new_class_layer_for_another_number_of_classes(folder: Path) -> None:
    images = torch.randn(1, 3, 64, 64)
    same = build_network(f"hf:{folder}", 4, pretrained=True).eval()
    assert torch.equal(main_output(same(images)), main_output(segformer().eval()(images)))
    other: Any = build_network(f"hf:{folder}", 9, pretrained=True).eval()
    assert main_output(other(images)).shape[1] == other.config.num_labels == 9
    first: Any = segformer().segformer.stages[0].patch_embeddings.proj
    assert torch.equal(other.segformer.stages[0].patch_embeddings.proj.weight, first.weight)


def test_a_folder_without_pretrained_gives_its_architecture_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    network: Any = build_network(f"hf:{folder}", 5)
    assert network.config.hidden_sizes == SEGFORMER["hidden_sizes"]
    with pytest.raises(ValueError, match=r"hf:.*checkpoint: no weights can be loaded"):
        build_network(f"hf:{folder}", 5, pretrained=True)


def test_weights_in_half_precision_become_float32(folder: Path) -> None:
    segformer().half().save_pretrained(folder)
    network = build_network(f"hf:{folder}", 4, pretrained=True)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_images_are_normalised_as_the_folder_says(folder: Path) -> None:
    assert preprocessing(f"hf:{folder}").mean == pytest.approx((0.485, 0.456, 0.406))
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]}))
    assert preprocessing(f"hf:{folder}", pretrained=True) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    path.write_text(json.dumps({"do_flip_channel_order": True}))
    with pytest.raises(ValueError, match="blue first"):
        preprocessing(f"hf:{folder}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "'bert' segments no images; known: beit"),
        ({"model_type": "detr"}, "trains it with boxes"),
        ({"backbone": "hf-hub:somebody/network"}, "unknown timm model"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        build_network(f"hf:{folder}", 5)


def test_code_of_a_checkpoint_is_not_run(folder: Path) -> None:
    path = folder / "config.json"
    code = {"AutoConfig": "own.Own", "AutoModelForSemanticSegmentation": "own.Own"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": code}))
    (folder / "own.py").write_text("raise SystemExit('the code of the checkpoint ran')")
    assert type(build_network(f"hf:{folder}", 5, pretrained=True)).__name__ == "SegformerForSemanticSegmentation"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("missing/folder", {}, "not a folder here, and nothing of that name was downloaded"),
        ("./missing", {}, "not a folder here"),
        ("mask2formr", {}, "near ones: mask2former"),
        ("segformer", {"depth": 3}, "no field 'depth'; near ones: depths"),
        ("mask2former", {"backbone_config": {}}, "no field 'backbone_config'"),
        ("segformer", {"num_labels": 3}, "no field 'num_labels'"),
    ],
)
def test_what_is_not_there_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(f"hf:{name}", 5, **options)


def test_a_model_type_whose_default_describes_no_decoder_asks_for_a_configuration() -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    full: dict[str, Any] = {
        "num_first_full_attention_layers": 1,
        "num_last_full_attention_layers": 1,
        "intermediate_size": 16,
    }
    with pytest.raises(ValueError, match=r"hf:sapiens2: transformers builds no .*give a folder with a complete config"):
        build_network("hf:sapiens2", 5, num_key_value_attention_heads=1, **sizes, **full)


def test_a_model_type_has_no_weights() -> None:
    with pytest.raises(ValueError, match="is a model type, which has no weights"):
        build_network("hf:segformer", 5, pretrained=True)


def test_oneformer_is_told_that_the_task_is_semantic(tmp_path: Path) -> None:
    swin = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2, "image_size": 64}
    backbone = transformers.SwinConfig(**swin, out_features=["stage1", "stage2", "stage3", "stage4"])
    sizes = {"num_queries": 7, "hidden_dim": 32, "conv_dim": 32, "mask_dim": 32, "encoder_feedforward_dim": 16}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 16}
    config = transformers.OneFormerConfig(backbone_config=backbone, train_num_points=32, **sizes, **layers)
    config.save_pretrained(tmp_path)
    torch.manual_seed(0)
    network: Any = build_network(f"hf:{tmp_path}", 4).eval()
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 4, (2, 64, 64))
    tokens = torch.zeros(2, 77, dtype=torch.long)
    tokens[:, :7] = torch.tensor([49406, 518, 10549, 533, 29119, 1550, 49407])
    with torch.no_grad():
        told = network(images, task_inputs=tokens)
        assert torch.equal(main_output(network(images)), main_output(told))
        assert not torch.equal(main_output(network(images, task_inputs=tokens * 0)), main_output(told))
    loss = network_loss(network.train()(images, **mask_targets(network, labels)))
    assert loss is not None
    assert torch.isfinite(loss)
