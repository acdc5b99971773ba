"""Official checkpoints of the transformers of the ST-MEM repository (ST-MEM, MTAE, MLAE, the supervised ViT)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ecg_transformers.models.shared.class_token_config import ClassTokenConfig
from ecg_transformers.models.shared.class_token_model import class_token_table
from ecg_transformers.models.shared.state_dicts import (
    CheckpointError,
    Model,
    StateDictReader,
    heads_of,
    is_fixed_table,
    load_converted,
    take_linear,
    take_masked_autoencoder_block,
)

HEAD_SIZE = 64  # fixed in the released code, so the number of heads follows from the tensors


class ClassTokenSource:
    """One checkpoint and what its tensors tell; where special tokens are others, a method says so in a sub-class.

    Args:
        state_dict: official keys; the encoder's with or without the prefix `encoder.`.
        method: title, for error messages.
        head_sizes: width of an attention head in encoder and decoder.
        prefix: of the encoder's keys; found by itself when None.
    """

    special_rows = 1  # of the position table, the first before the tokens and any further behind them
    fixed_table: Callable[[int, int], Tensor] = staticmethod(class_token_table)

    def __init__(
        self,
        state_dict: Mapping[str, Any],
        method: str,
        head_sizes: tuple[int, int] = (HEAD_SIZE, HEAD_SIZE),
        prefix: str | None = None,
    ) -> None:
        self.reader = StateDictReader(state_dict, method)
        self.full = "decoder_head.weight" in self.reader
        self.prefix = ("encoder." if "encoder.pos_embedding" in self.reader else "") if prefix is None else prefix
        self.head_sizes = head_sizes
        self.projection = self.reader.take(f"{self.prefix}to_patch_embedding.2.weight", ndim=2)  # (d, token_dim)
        table = self.reader.take(f"{self.prefix}pos_embedding", ndim=3)  # (1, n + 1, d)
        self.num_tokens = table.shape[1] - self.special_rows
        if table.shape[0] != 1 or self.num_tokens < 1:
            raise CheckpointError(
                f"{method}: the position table has shape {tuple(table.shape)}, expected (1, tokens + "
                f"{self.special_rows}, width)."
            )
        self.token_dim = self.projection.shape[1]
        self.num_labels = None if self.full or "head.weight" not in self.reader else self._num_labels()

    def _num_labels(self) -> int:
        return int(self.reader.take("head.weight", ndim=2).shape[0])

    def sizes(self) -> dict[str, Any]:
        """Config fields that the tensors tell."""
        reader, prefix = self.reader, self.prefix
        sizes = {
            "hidden_size": self.projection.shape[0],
            "num_hidden_layers": reader.count(f"{prefix}block{{}}."),
            "num_attention_heads": heads_of(reader, f"{prefix}block0.attn.fn.to_qkv.weight", self.head_sizes[0]),
            "attention_head_size": self.head_sizes[0],
            "intermediate_size": reader.take(f"{prefix}block0.ff.fn.net.0.weight", ndim=2).shape[0],
            "qkv_bias": f"{prefix}block0.attn.fn.to_qkv.bias" in reader,
        }
        if self.full:
            sizes |= {
                "decoder_hidden_size": reader.take("to_decoder_embedding.weight", ndim=2).shape[0],
                "decoder_num_hidden_layers": reader.count("decoder_blocks.{}."),
                "decoder_num_attention_heads": heads_of(
                    reader, "decoder_blocks.0.attn.fn.to_qkv.weight", self.head_sizes[1]
                ),
                "decoder_attention_head_size": self.head_sizes[1],
                "decoder_intermediate_size": reader.take("decoder_blocks.0.ff.fn.net.0.weight", ndim=2).shape[0],
            }
        elif self.num_labels is not None:
            sizes["num_labels"] = self.num_labels
        return sizes

    def special_tokens(self, num_leads: int) -> dict[str, Tensor]:
        """What is added to the tokens of a signal, under our names below `embeddings`."""
        return {"cls_token": self.reader.take(f"{self.prefix}cls_embedding").flatten()}

    def encoder(self, target: str, num_tokens: int, num_leads: int) -> dict[str, Tensor]:
        """Encoder tensors under our names, each starting with `target`."""
        reader, prefix, embeddings = self.reader, self.prefix, f"{target}embeddings"
        out = {f"{embeddings}.position_embeddings": self.fit_table(reader.take(f"{prefix}pos_embedding"), num_tokens)}
        out |= {f"{embeddings}.{name}": tensor for name, tensor in self.special_tokens(num_leads).items()}
        for index, name in ((1, "norm_in"), (2, "projection"), (3, "norm_out")):
            take_linear(reader, f"{prefix}to_patch_embedding.{index}", f"{embeddings}.patch_embeddings.{name}", out)
        for index in range(reader.count(f"{prefix}block{{}}.")):
            take_masked_autoencoder_block(reader, f"{prefix}block{index}", f"{target}encoder.layer.{index}", out)
        take_linear(reader, f"{prefix}norm", f"{target}layernorm", out)
        return out

    def decoder(self, num_tokens: int) -> dict[str, Tensor]:
        """Decoder tensors under our names; aliases of the patch embedding are checked and dropped."""
        reader = self.reader
        out = {
            "decoder.mask_token": reader.take("mask_embedding"),
            "decoder.position_embeddings": self.fit_table(reader.take("decoder_pos_embed", ndim=3), num_tokens),
        }
        take_linear(reader, "to_decoder_embedding", "decoder.decoder_embed", out)
        for index in range(reader.count("decoder_blocks.{}.")):
            take_masked_autoencoder_block(reader, f"decoder_blocks.{index}", f"decoder.layer.{index}", out)
        take_linear(reader, "decoder_norm", "decoder.norm", out)
        take_linear(reader, "decoder_head", "decoder.pred", out)
        names = [f"to_patch_embedding.{index}.{kind}" for index in (1, 2, 3) for kind in ("weight", "bias")]
        reader.take_duplicates({name: f"{self.prefix}{name}" for name in names})
        return out

    def build(self, config: ClassTokenConfig, classes: Mapping[str, type[Model]]) -> Model:
        """The model that the tensors describe: full file, fine-tuned encoder with a head, or encoder alone.

        Raises:
            CheckpointError: when keys are missing, left over, or do not fit the config.
        """
        role = "pretraining" if self.full else "base" if self.num_labels is None else "classification"
        if role not in classes:
            raise CheckpointError(
                f"{self.reader.method} has no class for a {role} checkpoint; it has {', '.join(classes)}."
            )
        base_prefix = classes["base"].base_model_prefix
        target = "" if role == "base" else f"{base_prefix}."
        tensors = self.encoder(target, config.num_tokens, config.num_leads)
        if role == "pretraining":
            tensors |= self.decoder(config.num_tokens)
        elif role == "classification":
            take_linear(self.reader, "head", "classifier", tensors)
        self.reader.finish()
        return load_converted(classes[role](config), tensors)

    def fit_table(self, table: Tensor, num_tokens: int) -> Tensor:
        """A position table for another number of tokens.

        Fewer tokens take the first rows and those of the special tokens, as a shorter input does. More rows can only be
        made when the table still is the fixed sine-cosine one.

        Raises:
            CheckpointError: when a trained table would have to grow.
        """
        stored = table.shape[1] - self.special_rows
        if num_tokens <= stored:
            return torch.cat([table[:, : num_tokens + 1], table[:, stored + 1 :]], dim=1)
        if is_fixed_table(table, self.fixed_table(stored, table.shape[2])):
            return self.fixed_table(num_tokens, table.shape[2]).to(table.dtype)
        raise CheckpointError(
            f"{self.reader.method}: the checkpoint has positions for {stored} tokens and they were trained, so "
            f"{num_tokens} tokens cannot be served: take a shorter seq_len, or fewer leads where a token is a lead."
        )


def head_sizes_of(config_overrides: Mapping[str, Any]) -> tuple[int, int]:
    """Head sizes of encoder and decoder, 64 unless overridden."""
    return (
        config_overrides.get("attention_head_size", HEAD_SIZE),
        config_overrides.get("decoder_attention_head_size", HEAD_SIZE),
    )


def time_window_sizes(source: ClassTokenSource, config_overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Patch size and length where a token is a window of time over all leads.

    The tensors know only the product of patch size and leads: `num_leads` (12 unless given) or `patch_size` tells them
    apart, and the length is patches · patch size.

    Raises:
        CheckpointError: when the product cannot be divided so.
    """
    given_leads, given_patch = config_overrides.get("num_leads"), config_overrides.get("patch_size")
    num_leads = given_leads or (source.token_dim // given_patch if given_patch else 12)
    patch_size = source.token_dim // num_leads
    if patch_size * num_leads != source.token_dim or (given_patch or patch_size) != patch_size:
        raise CheckpointError(
            f"{source.reader.method}: a token has {source.token_dim} values, which cannot be {num_leads} leads of "
            f"{given_patch or patch_size} samples. Give num_leads (and patch_size) so that their product is "
            f"{source.token_dim}."
        )
    return {"num_leads": num_leads, "patch_size": patch_size, "seq_len": source.num_tokens * patch_size}


def converter(
    title: str,
    config_class: type[ClassTokenConfig],
    classes: Mapping[str, type[Model]],
    sizes: Callable[[Any, Mapping[str, Any]], dict[str, Any]],
    source_class: type[ClassTokenSource] = ClassTokenSource,
) -> Callable[..., Model]:
    """The converter of a method: `sizes` gives what its tokens tell beside `ClassTokenSource.sizes`."""

    def convert(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> Model:
        """The model that the tensors describe, in eval mode.

        Args:
            state_dict: official keys, the encoder's with or without the `encoder.` prefix.
            config_overrides: what tensors cannot tell (`norm_pix_loss`, `mask_ratio`, leads of a token) or should be
                changed (`seq_len`, `num_leads`).

        Returns:
            The pre-training model for a full file, the classifier when there is a head, else the encoder.

        Raises:
            CheckpointError: when keys are missing, left over, or do not fit together.
        """
        source = source_class(state_dict, title, head_sizes_of(config_overrides))
        told = source.sizes() | sizes(source, config_overrides)
        return source.build(config_class(**{**told, **config_overrides}), classes)

    return convert
