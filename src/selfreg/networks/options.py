"""Which options of a network a configuration may name: known names, plain values, and nothing that loads or runs.

The constructors of the libraries take more than numbers: names of repositories, nested configurations with code of
their own, files. A configuration or a run may come from anybody, so the options that are passed on are listed here.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


TIMM_OPTIONS = _names(
    """
    aa_layer act_layer always_partition attn_drop_rate avg_down base_width block_reduce_first bn_eps
    bn_momentum cardinality channel_multiplier channels conv_mlp class_token depth depth_multiplier
    depths dims drop_block_rate drop_path_rate drop_rate dynamic_img_pad dynamic_img_size embed_dim
    embed_dims fix_stem img_size in_channels in_chans init_values kernel_sizes layer_scale_init_value
    layers ls_init_value mlp_ratio mlp_ratios no_embed_class norm_eps norm_layer num_heads out_indices
    output_stride pad_type patch_drop_rate patch_size pos_drop_rate proj_drop_rate qkv_bias qk_norm
    reg_tokens round_limit sr_ratios stem_stride stem_type stem_width strict_img_size use_abs_pos
    weight_init widths window_ratio window_size zero_init_last
    """
)
"""Options of `timm.create_model`, for a backbone of timm in any network."""

_SMP_PREFIXES = ("decoder_", "psp_")
_SMP_OPTIONS = ("activation", "encoder_depth", "encoder_output_indices", "encoder_output_stride", "in_channels")

_HUGGINGFACE_OPTIONS: Mapping[str, frozenset[str]] = {
    "segformer": _names(
        """
    attention_probs_dropout_prob classifier_dropout_prob decoder_hidden_size depths drop_path_rate
    hidden_act hidden_dropout_prob hidden_sizes initializer_range layer_norm_eps mlp_ratios
    num_attention_heads num_channels num_encoder_blocks patch_sizes sr_ratios strides
    """
    ),
    "upernet-convnext": _names(
        """
    auxiliary_channels auxiliary_concat_input auxiliary_in_channels auxiliary_loss_weight
    auxiliary_num_convs depths hidden_size hidden_sizes initializer_range pool_scales use_auxiliary_head
    """
    ),
    "dpt": _names(
        """
    add_projection attention_probs_dropout_prob auxiliary_loss_weight backbone_out_indices
    fusion_hidden_size head_in_index hidden_act hidden_dropout_prob hidden_size image_size
    initializer_range intermediate_size layer_norm_eps neck_hidden_sizes neck_ignore_stages
    num_attention_heads num_channels num_hidden_layers patch_size qkv_bias readout_type
    reassemble_factors semantic_classifier_dropout use_batch_norm_in_fusion_residual
    use_bias_in_fusion_residual
    """
    ),
}

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")
_LONGEST_LIST = 64


def check_options(spec: str, options: Mapping[str, Any], known: Iterable[str], what: str = "option") -> None:
    """Check the options of a network of a library.

    Args:
        spec: The network, for the message.
        options: Names and values.
        known: Names that may be given.
        what: What the library calls them.

    Raises:
        ValueError: If a name is not among them (the nearest is named), or a value is not a number, a word, true, false,
            null or a list of these.
    """
    known = sorted(known)
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.6)
            hint = f"near ones: {', '.join(near)}" if near else f"known: {', '.join(known)}"
            raise ValueError(f"network {spec} has no {what} {name!r}; {hint}")
        if not _is_plain(value):
            raise ValueError(f"network {spec}: option {name} must be a number, a word, true, false, or a list of these")


def smp_options(architecture: type[Any], *, timm_encoder: bool) -> Iterator[str]:
    """Options of an architecture of segmentation_models_pytorch, and those of its encoder where it is timm's."""
    for name in inspect.signature(architecture.__init__).parameters:
        if name.startswith(_SMP_PREFIXES) or name in (*_SMP_OPTIONS, "upsampling"):
            yield name
    yield "output_stride"
    if timm_encoder:
        yield from TIMM_OPTIONS


def huggingface_options(name: str) -> frozenset[str]:
    """Fields of the configuration of a network of transformers, by the network's name here."""
    return _HUGGINGFACE_OPTIONS[name.rsplit("-", 1)[0]]


def own_options(network: Callable[..., Any], *, timm_backbone: bool = False) -> Iterator[str]:
    """Options of a network of this package, and those of its backbone where they are passed on."""
    for name, parameter in inspect.signature(network).parameters.items():
        named = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if named and name not in ("backbone", "name", "num_classes", "pretrained"):
            yield name
    if timm_backbone:
        yield from TIMM_OPTIONS


def check_timm_name(spec: str, name: str) -> None:
    """Make sure that a name is that of a timm model, with a tag of its weights or without.

    Raises:
        ValueError: If it is not, which includes names of repositories on a hub and of folders.
    """
    bare, dot, tag = name.partition(".")
    if not timm.is_model(bare) or not re.fullmatch(r"\w+", bare):
        near = difflib.get_close_matches(bare.lower(), timm.list_models(), n=3, cutoff=0.6)
        hint = f"; near ones: {', '.join(near)}" if near else ""
        raise ValueError(f"unknown timm model {bare!r} in {spec}{hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{bare}.*")]
    if dot and tag not in tags:
        raise ValueError(f"timm's {bare} has no weights {tag!r} (in {spec}); known: {', '.join(tags) or 'none'}")


@contextmanager
def without_hub() -> Iterator[None]:
    """Let the library of the Hugging Face hub refuse every connection in the block."""
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= _LONGEST_LIST and all(
            _is_plain(item) and not isinstance(item, list | tuple) for item in value
        )
    is_word = isinstance(value, str) and _WORD.fullmatch(value) is not None
    return is_word or value is None or isinstance(value, bool | int | float)
