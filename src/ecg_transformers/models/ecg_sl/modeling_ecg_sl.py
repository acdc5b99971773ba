"""ECG-SL (Yu, Yang, Sano, "ECG-SL: Electrocardiogram (ECG) Segment Learning, a deep learning method for ECG signal",
2023, arXiv 2310.00818): beats to embeddings, a transformer over beats, attention aggregation; two pre-training stages.

Re-implementation from the description; no official code or weights exist.
"""

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.beat_aggregation import BeatAggregation
from ecg_transformers.layers.beat_autoencoder import BeatDecoder, map_valid
from ecg_transformers.models.base import ECGEncoder, ECGPreTrainedModel, build_layers
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_sl.configuration_ecg_sl import ECGSLConfig
from ecg_transformers.models.ecg_sl.layers_ecg_sl import ECGSLEmbeddings, conv_options
from ecg_transformers.models.ecg_sl.outputs_ecg_sl import (
    ECGSLClassifierOutput,
    ECGSLForPreTrainingOutput,
    ECGSLModelOutput,
)
from ecg_transformers.models.leads import LeadIndices, resolve_lead_indices

IGNORED_LABEL = -100


class ECGSLPreTrainedModel(ECGPreTrainedModel):
    """Inputs and initialisation of ECG-SL."""

    config: ECGSLConfig
    base_model_prefix = "ecg_sl"
    main_input_name = "beats"
    _no_split_modules = ["ECGSLEmbeddings", "ECGLayer", "BeatAggregation"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d):
            init.kaiming_uniform_(module.weight, a=5**0.5)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, BeatAggregation):
            init.normal_(module.no_beat, std=self.config.initializer_range)
        elif isinstance(module, ECGSLForPreTraining):
            init.normal_(module.mask_token, std=self.config.initializer_range)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two records of six and four beats, always the same."""
        generator = torch.Generator().manual_seed(0)
        config, num_beats = self.config, min(6, self.config.max_beats)
        shape = (2, num_beats, config.num_leads, config.beat_len)
        beats = torch.randn(shape, generator=generator)
        beat_mask = torch.ones(shape[:2], dtype=torch.bool)
        beat_mask[1, max(1, num_beats - 2) :] = False
        inputs = {
            "beats": beats[:, :, 0] if config.num_leads == 1 else beats,
            "beat_mask": beat_mask,
            "rr": 0.1 * torch.randn(2, num_beats, 2, generator=generator),
        }
        noise = [self.draw_sample_noise(generator) for _ in range(2)]
        inputs.update({key: torch.stack([sample[key] for sample in noise]) for key in noise[0]})
        return inputs


class ECGSLModel(ECGSLPreTrainedModel):
    """The ECG-SL encoder of beat sequences.

    Example:
        >>> model = ECGSLModel(ECGSLConfig())
        >>> model(torch.randn(1, 10, 128)).pooler_output.shape
        torch.Size([1, 128])
    """

    embeddings: ECGSLEmbeddings

    def __init__(self, config: ECGSLConfig) -> None:
        super().__init__(config)
        self.embeddings = ECGSLEmbeddings(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.encoder = ECGEncoder(
            build_layers(
                config,
                config.num_hidden_layers,
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                layer_norm_eps=config.layer_norm_eps,
                dropout=config.hidden_dropout_prob,
                attention_dropout=config.attention_probs_dropout_prob,
            )
        )
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.aggregation = BeatAggregation(config.hidden_size, config.aggregation, config.layer_norm_eps)
        self.post_init()

    def arrange(
        self, beats: Tensor, beat_mask: Tensor | None, rr: Tensor | None, lead_indices: LeadIndices | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Beats `(B, N, num_leads, beat_len)`, mask `(B, N)` and RR `(B, N, 2)` in one form, padding set to zero.

        Leads that a record does not have are zeros.
        """
        config = self.config
        if beats.ndim == 3:
            beats = beats[:, :, None]
        if beats.ndim != 4 or beats.shape[-1] != config.beat_len:
            raise ValueError(
                f"beats must be (batch, beats, {config.beat_len}) or (batch, beats, leads, {config.beat_len}), "
                f"got shape {tuple(beats.shape)}."
            )
        shape = beats.shape[:2]
        if beats.shape[2] != config.num_leads or lead_indices is not None:
            beats = self._place_leads(beats, lead_indices)
        valid = torch.ones(shape, dtype=torch.bool, device=beats.device) if beat_mask is None else beat_mask.bool()
        if valid.shape != shape:
            raise ValueError(f"beat_mask must have shape {tuple(shape)} (batch, beats), got {tuple(valid.shape)}.")
        rr = beats.new_zeros(*shape, 2) if rr is None else rr
        if rr.shape != (*shape, 2):
            raise ValueError(f"rr must have shape {(*shape, 2)} (batch, beats, 2), got {tuple(rr.shape)}.")
        beats = beats.to(self.dtype).masked_fill(~valid[..., None, None], 0.0)
        return beats, valid, rr.masked_fill(~valid[..., None], 0.0)

    def _place_leads(self, beats: Tensor, lead_indices: LeadIndices | None) -> Tensor:
        num_leads = self.config.num_leads
        rows = resolve_lead_indices(lead_indices, beats[:, 0], num_leads)
        rows = rows.expand(beats.shape[0], -1)[:, None, :, None].expand(beats.shape)
        table = beats.new_zeros(*beats.shape[:2], num_leads, beats.shape[3])
        return table.scatter(2, rows, beats)

    @capture_outputs
    def forward(
        self,
        beats: torch.Tensor,
        beat_mask: torch.Tensor | None = None,
        rr: torch.Tensor | None = None,
        lead_indices: LeadIndices | None = None,
        beat_samples: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        mask_token: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGSLModelOutput:
        """Vectors of beats and of the record.

        Args:
            beats: `(B, N, beat_len)`, or `(B, N, L, beat_len)` for several leads.
            beat_mask: `(B, N)`, True = valid; padding may hold any finite value.
            rr: `(B, N, 2)` log seconds to the previous and the next beat; 0 where unknown.
            lead_indices: rows of the model's lead table for the given leads; absent leads are zeros.
            beat_samples: not used; accepted so that an extractor's output can be passed as it is.
            mask: `(B, N)`, True = replace this beat's embedding by `mask_token` (pre-training). Its RR features stay:
                they say where the beat is, not what it looks like.
            mask_token: `(D,)`.
        """
        beats, valid, rr = self.arrange(beats, beat_mask, rr, lead_indices)
        seen = valid if mask is None else valid & ~mask.bool()
        embeddings = self.embeddings.encode(beats, seen)  # (B, N, D)
        if mask is not None and mask_token is not None:
            embeddings = torch.where((valid & ~seen)[..., None], mask_token.to(embeddings.dtype), embeddings)
        hidden = self.dropout(self.embeddings(embeddings, rr))
        hidden = self.encoder(hidden, self._key_mask(hidden, valid), **kwargs)
        hidden = self.layernorm(hidden) * valid[..., None].to(hidden.dtype)
        pooled, weights = self.aggregation(hidden, valid)
        return ECGSLModelOutput(
            last_hidden_state=hidden,
            pooler_output=pooled,
            aggregation_weights=weights,
            beat_embeddings=embeddings,
        )

    def _key_mask(self, hidden: Tensor, valid: Tensor) -> Tensor | None:
        """Padding is no key; a record without beats attends to its first padding, since an empty softmax is NaN."""
        first = torch.arange(valid.shape[1], device=valid.device) == 0
        keys = valid | (first & ~valid.any(dim=1, keepdim=True))
        return create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=keys)


def choose_beats(noise: Tensor, valid: Tensor, mask_ratio: float) -> Tensor:
    """`(B, N)` bool: of every record the `mask_ratio` of valid beats with the lowest noise, one to all but one."""
    counts = valid.sum(dim=1, keepdim=True)
    wanted = (counts * mask_ratio).round().clamp(min=1)
    wanted = torch.minimum(wanted, (counts - 1).clamp(min=0))
    ranks = noise.masked_fill(~valid, float("inf")).argsort(dim=1).argsort(dim=1)
    return (ranks < wanted) & valid


class ECGSLForPreTraining(ECGSLPreTrainedModel):
    """Both pre-training stages.

    `config.stage` is "autoencoder" (each beat alone) or "masked" (beats from their neighbours).

    The second stage starts from the first stage's weights: load them with `stage="masked"`. All weights are saved in
    both stages; those a stage does not use are frozen in it.
    """

    ecg_sl: ECGSLModel

    def __init__(self, config: ECGSLConfig) -> None:
        super().__init__(config)
        self.ecg_sl = ECGSLModel(config)
        self.decoder = BeatDecoder(**conv_options(config))
        self.mask_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.post_init()

    def freeze_fixed(self) -> None:
        masked = self.config.stage == "masked"
        self.requires_grad_(masked)
        structural = self.ecg_sl.embeddings.structural_encoder
        structural.requires_grad_(not (masked and self.config.freeze_structural))
        self.decoder.requires_grad_(True)
        self.ecg_sl.aggregation.requires_grad_(False)

    def train(self, mode: bool = True) -> "ECGSLForPreTraining":
        """A frozen structural encoder keeps its batch statistics too."""
        super().train(mode)
        if self.config.stage == "masked" and self.config.freeze_structural:
            self.ecg_sl.embeddings.structural_encoder.eval()
        return self

    def draw_sample_noise(self, generator: torch.Generator) -> dict[str, Tensor]:
        if self.config.stage == "autoencoder":
            return {}
        return {"mask_noise": torch.rand(self.config.max_beats, generator=generator)}

    def beats_to_predict(self, valid: Tensor, mask: Tensor | None, mask_noise: Tensor | None) -> Tensor:
        """`(B, N)` bool: all valid beats in the first stage, the masked ones in the second."""
        if self.config.stage == "autoencoder":
            return valid
        if mask is not None:
            return mask.bool() & valid
        if mask_noise is None:
            mask_noise = torch.rand(valid.shape, device=valid.device)
        if mask_noise.shape[1] < valid.shape[1]:
            raise ValueError(
                f"mask_noise has {mask_noise.shape[1]} values a record for {valid.shape[1]} beats: raise "
                "config.max_beats, or let the extractor keep fewer beats."
            )
        return choose_beats(mask_noise[:, : valid.shape[1]], valid, self.config.mask_ratio)

    def reconstruction_loss(self, reconstruction: Tensor, beats: Tensor, chosen: Tensor) -> Tensor:
        """Squared error, mean over the samples of a beat, then over the chosen beats of the batch (0 without any)."""
        errors = ((reconstruction.float() - beats.float()) ** 2).flatten(2).mean(dim=2)
        weight = chosen.to(errors.dtype)
        return (errors * weight).sum() / weight.sum().clamp(min=1.0)

    @can_return_tuple
    def forward(
        self,
        beats: torch.Tensor,
        beat_mask: torch.Tensor | None = None,
        rr: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        mask_noise: torch.Tensor | None = None,
        lead_indices: LeadIndices | None = None,
        beat_samples: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGSLForPreTrainingOutput:
        """Reconstruction and loss of the configured stage.

        Args:
            beats, beat_mask, rr, lead_indices, beat_samples: see `ECGSLModel`.
            mask: `(B, N)`, True = to predict (stage "masked").
            mask_noise: `(B, M)` with M ≥ N, in place of `mask`: the valid beats of lowest noise are masked. Drawn from
                the global generator when neither is given.
        """
        single = beats.ndim == 3
        arranged, valid, rr = self.ecg_sl.arrange(beats, beat_mask, rr, lead_indices)
        chosen = self.beats_to_predict(valid, mask, mask_noise)
        if self.config.stage == "autoencoder":
            outputs = ECGSLModelOutput(last_hidden_state=self.ecg_sl.embeddings.encode(arranged, valid))
        else:
            outputs = self.ecg_sl(arranged, valid, rr, mask=chosen, mask_token=self.mask_token, **kwargs)
        hidden = outputs.last_hidden_state
        assert hidden is not None
        predicted = map_valid(self.decoder, hidden, valid, only_valid=self.training)
        return ECGSLForPreTrainingOutput(
            loss=self.reconstruction_loss(predicted, arranged, chosen),
            reconstruction=predicted[:, :, 0] if single and predicted.shape[2] == 1 else predicted,
            mask=chosen.float(),
            num_loss_terms=chosen.sum().float(),
            last_hidden_state=hidden,
            aggregation_weights=outputs.aggregation_weights,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class ECGSLForSequenceClassification(ECGForSequenceClassification, ECGSLPreTrainedModel):
    """ECG-SL with a linear head on the aggregated record, or on every beat (`config.label_level="beat"`)."""

    config: ECGSLConfig
    ecg_sl: ECGSLModel
    base_class = ECGSLModel

    def freeze_fixed(self) -> None:
        self.ecg_sl.aggregation.requires_grad_(
            self.config.label_level != "beat" and self.config.head_pooling == "pooler"
        )

    def pool_beats(self, outputs: ECGSLModelOutput, valid: Tensor) -> Tensor:
        """`(B, D)` for the head, or `(B, N, D)` for labels of beats."""
        tokens, pooled = outputs.last_hidden_state, outputs.pooler_output
        assert tokens is not None
        assert pooled is not None
        if self.config.label_level == "beat":
            return tokens
        if self.config.head_pooling == "pooler":
            return pooled
        first = torch.arange(valid.shape[1], device=valid.device) == 0
        hidden = ~(valid | (first & ~valid.any(dim=1, keepdim=True)))
        probe = self.attention_pooling
        query = probe.query.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        return probe.attention(query, tokens, tokens, key_padding_mask=hidden, need_weights=False)[0][:, 0]

    @can_return_tuple
    def forward(
        self,
        beats: torch.Tensor,
        beat_mask: torch.Tensor | None = None,
        rr: torch.Tensor | None = None,
        lead_indices: LeadIndices | None = None,
        labels: torch.Tensor | None = None,
        beat_samples: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGSLClassifierOutput:
        """Logits and probabilities of records, or of beats.

        Args:
            beats, beat_mask, rr, lead_indices, beat_samples: see `ECGSLModel`; with k crops a record
                `(B, k, N, L, beat_len)`, `(B, k, N)` and `(B, k, N, 2)`.
            labels: as for the other methods; with `label_level="beat"` class indices `(B, N)`, where -100 and padding
                are left out.
        """
        num_crops = None
        if beats.ndim == 5:
            num_crops = beats.shape[1]
            beats = beats.flatten(0, 1)
            beat_mask = None if beat_mask is None else beat_mask.flatten(0, 1)
            rr = None if rr is None else rr.flatten(0, 1)
        beats, valid, rr = self.ecg_sl.arrange(beats, beat_mask, rr, lead_indices)
        outputs = self.ecg_sl(beats, valid, rr, **kwargs)
        logits = self.head(self.pool_beats(outputs, valid))
        probabilities, weights = self.probabilities(logits), outputs.aggregation_weights
        if num_crops is not None:
            weights = weights.unflatten(0, (-1, num_crops))
            if self.config.label_level != "beat":
                logits = logits.unflatten(0, (-1, num_crops)).mean(dim=1)
                probabilities = probabilities.unflatten(0, (-1, num_crops)).mean(dim=1)
        return ECGSLClassifierOutput(
            loss=None if labels is None else self.level_loss(logits, labels, valid),
            logits=logits,
            probabilities=probabilities,
            aggregation_weights=weights,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def level_loss(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """The loss of the label level; class weights apply to cross-entropy."""
        weights = self.config.class_weights
        weight = None if weights is None else logits.new_tensor(weights)
        if self.config.label_level == "beat":
            labels = labels.reshape(valid.shape).masked_fill(~valid, IGNORED_LABEL).flatten()
            total = nn.functional.cross_entropy(logits.flatten(0, 1), labels, weight, reduction="sum")
            counted = labels != IGNORED_LABEL
            share = counted if weight is None else weight[labels.clamp(min=0)] * counted
            return total / share.sum().clamp(min=1e-12)
        if weight is not None and labels.ndim == 1 and self.num_labels > 1:
            return nn.functional.cross_entropy(logits, labels, weight)
        return self.classification_loss(logits, labels)

    def head(self, features: Tensor) -> Tensor:
        """`(…, features)` to logits; batch norm counts every beat as one sample."""
        return super().head(features.flatten(0, -2)).unflatten(0, features.shape[:-1])
