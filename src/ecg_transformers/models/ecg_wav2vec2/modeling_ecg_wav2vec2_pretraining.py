"""The pre-training of ECG-FM and DeepECG-SSL: wav2vec 2.0 with CMSC and random lead masking (Oh et al., CHIL 2022, arXiv
2203.06889), specification ecg_wav2vec2, section 9."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ecg_transformers.layers.heads import mean_of_nonzero
from ecg_transformers.layers.masking import wav2vec2_mask, wav2vec2_negatives_from_draws
from ecg_transformers.layers.objectives import patient_contrastive_loss
from ecg_transformers.layers.quantizer import Codes, GumbelQuantizer
from ecg_transformers.models.ecg_wav2vec2.configuration_ecg_wav2vec2 import ECGWav2Vec2Config
from ecg_transformers.models.ecg_wav2vec2.modeling_ecg_wav2vec2 import (
    ECGWav2Vec2Model,
    ECGWav2Vec2ModelOutput,
    ECGWav2Vec2PreTrainedModel,
)
from ecg_transformers.models.leads import LeadIndices, check_input, repeat_for_crops


@dataclass
class ECGWav2Vec2ForPreTrainingOutput(ModelOutput):
    """Output of pre-training; the parts of the loss are sums over masked tokens with their weights applied.

    Attributes:
        loss: the sum of the parts, divided by the number of masked tokens.
        contrastive_loss: cross-entropies of the true target among the negatives.
        diversity_loss: grows when few codes are used.
        feature_penalty: mean square of the convolution features.
        cmsc_loss: contrast of the two segments of a patient with those of others; NaN in evaluation where there are no
            pairs of several patients.
        prob_perplexity, code_perplexity: number of codes in use, soft and hard, summed over groups.
        accuracy: share of masked tokens whose target scores highest.
        last_hidden_state: `(B, n, D)`.
    """

    loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    diversity_loss: torch.Tensor | None = None
    feature_penalty: torch.Tensor | None = None
    cmsc_loss: torch.Tensor | None = None
    prob_perplexity: torch.Tensor | None = None
    code_perplexity: torch.Tensor | None = None
    accuracy: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class ECGWav2Vec2ForPreTraining(ECGWav2Vec2PreTrainedModel):
    """The encoder with quantiser, projections and the four losses."""

    # the embedding's own heads (MELP, D-BETA) belong to another pre-training
    def __init__(self, config: ECGWav2Vec2Config) -> None:
        super().__init__(config)
        if config.pooling != "mean_nonzero" or config.class_token:
            raise ValueError(f"The pre-training of the variant {config.variant!r} is not part of this package.")
        self.ecg_wav2vec2 = ECGWav2Vec2Model(config)
        self.mask_emb = nn.Parameter(torch.zeros(config.hidden_size))
        code_dim = config.codevector_dim or config.proj_codevector_dim
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.quantizer = GumbelQuantizer(
            config.conv_dim[-1], config.num_codevectors_per_group, config.num_codevector_groups, code_dim
        )
        self.project_q = nn.Linear(code_dim, config.proj_codevector_dim)
        self.final_proj = nn.Linear(config.hidden_size, config.proj_codevector_dim)
        self.step = config.completed_updates
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GumbelQuantizer):
            init.uniform_(module.vars)
            init.normal_(module.weight_proj.weight)
            init.zeros_(module.weight_proj.bias)
        elif isinstance(module, ECGWav2Vec2ForPreTraining):
            init.uniform_(module.mask_emb)
            module.project_q.reset_parameters()
            module.final_proj.reset_parameters()

    @property
    def compares_records(self) -> bool:
        return True

    @property
    def compares_patients(self) -> bool:
        return True

    @property
    def gathers_patients(self) -> bool:
        return False

    def training_step_started(self, step: int, total_steps: int) -> None:
        self.step = self.config.completed_updates + step

    @property
    def temperature(self) -> float:
        """Of the quantiser at this step: it falls by a factor from step to step, down to the last one."""
        first, last, factor = self.config.codebook_temperature
        return float(max(first * factor**self.step, last))

    def draw_sample_noise(self, generator: torch.Generator) -> dict[str, Tensor]:
        """For both segments of a record: where masked spans start, which masked tokens stay masked, the negatives, the
        noise of the quantiser and which leads are zeroed."""
        config = self.config
        tokens = config.num_tokens(config.seq_len)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(2, *shape, generator=generator)

        codes = torch.empty(2, tokens * config.num_codevector_groups, config.num_codevectors_per_group)
        return {
            "start_noise": uniform(tokens + 1),
            "keep_noise": uniform(tokens),
            "negative_noise": uniform(tokens, config.num_negatives),
            "code_noise": -codes.exponential_(generator=generator).log(),
            "lead_noise": uniform(config.num_leads),
        }

    def draw_batch_noise(self, generator: torch.Generator, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The number that rounds the number of masked spans, one for all records of a step."""
        return {"span_noise": torch.rand(1, generator=generator)}

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        shape = (4, 2, self.config.num_leads, self.config.seq_len)
        noise = [self.draw_sample_noise(generator) for _ in range(4)]
        inputs = {"input_values": torch.randn(shape, generator=generator), "patient_ids": torch.tensor([7, 3, 7, 5])}
        inputs |= {key: torch.stack([sample[key] for sample in noise]) for key in noise[0]}
        return inputs | self.draw_batch_noise(generator, inputs)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        mask_time_indices: torch.Tensor | None = None,
        negative_indices: torch.Tensor | None = None,
        gumbel_noise: torch.Tensor | None = None,
        patient_ids: torch.Tensor | None = None,
        segment_ids: torch.Tensor | None = None,
        temperature: float | None = None,
        lead_indices: LeadIndices | None = None,
        start_noise: torch.Tensor | None = None,
        keep_noise: torch.Tensor | None = None,
        negative_noise: torch.Tensor | None = None,
        code_noise: torch.Tensor | None = None,
        lead_noise: torch.Tensor | None = None,
        span_noise: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGWav2Vec2ForPreTrainingOutput:
        """The loss of a batch of segment pairs; `M` tokens are masked in every segment, `B` segments.

        Args:
            input_values: `(B/2, 2, L, T)`, two adjacent segments of each record, or `(B, L, T)` with first and second
                segments in turn.
            mask_time_indices: `(B, n)` bool, equally many True in each row.
            negative_indices: `(B, M·N)`, flat rows among the `B·M` targets, token-major, of the same segment.
            gumbel_noise: `(B·M·groups, codes)`; in evaluation codes are chosen without noise.
            patient_ids: `(B/2,)`, one a record, or `(B,)`; None counts every record as a patient of its own. The
                published pipeline gives record numbers here, so that two records of a patient are negatives.
            segment_ids: `(B,)`, 0 = first segment of a pair; in turn when not given.
            temperature: of the quantiser, in place of the schedule's.
            start_noise, keep_noise, negative_noise, code_noise, span_noise: what `draw_sample_noise` and
                `draw_batch_noise` give, from which masks, negatives and noise are made where they are not given;
                without them they are drawn from the global generator.
            lead_noise: `(…, L)`; leads below `lead_mask_prob` are set to zero. Nothing is zeroed without it.

        Raises:
            OnePatientError: in training, when all records of the batch belong to one patient.
        """
        if input_values.ndim == 4:
            lead_indices = repeat_for_crops(lead_indices, input_values.shape[1])
            input_values = input_values.flatten(0, 1)
        check_input(input_values)
        batch, tokens = len(input_values), self.config.num_tokens(input_values.shape[-1])
        input_values = self.without_some_leads(input_values, lead_noise)
        if mask_time_indices is None:
            mask_time_indices = self.draw_mask(batch, tokens, start_noise, keep_noise, span_noise, input_values.device)
        mask = mask_time_indices.bool()
        masked = int(mask[0].sum())
        if negative_indices is None:
            negative_indices = self.draw_negatives(batch, masked, negative_noise, input_values.device)
        if gumbel_noise is None and self.training:
            gumbel_noise = self.draw_gumbel(batch, tokens, masked, code_noise, input_values.device)

        outputs = self.ecg_wav2vec2(
            input_values, lead_indices, mask_time_indices=mask, mask_embedding=self.mask_emb, **kwargs
        )
        codes = self.quantize(outputs.conv_features, mask, temperature, gumbel_noise)
        targets = self.project_q(codes.vectors).view(batch, masked, -1)
        predictions = self.final_proj(outputs.last_hidden_state[mask]).view(batch, masked, -1)
        contrasted = self.contrast(predictions, targets, negative_indices)
        return self.losses(outputs, codes, contrasted, batch * masked, patient_ids, segment_ids)

    def losses(
        self,
        outputs: ECGWav2Vec2ModelOutput,
        codes: Codes,
        contrasted: tuple[Tensor, Tensor],
        count: int,
        patient_ids: Tensor | None,
        segment_ids: Tensor | None,
    ) -> ECGWav2Vec2ForPreTrainingOutput:
        """The four losses of a batch with `count` masked tokens; `contrasted` is what `contrast` gives."""
        (contrast, accuracy), hidden, features = contrasted, outputs.last_hidden_state, outputs.conv_features
        assert hidden is not None
        assert features is not None
        diversity, penalty = self.diversity(codes) * count, self.penalty(features) * count
        cmsc = self.config.cmsc_weight * self.cmsc(mean_of_nonzero(hidden), patient_ids, segment_ids) * count
        return ECGWav2Vec2ForPreTrainingOutput(
            loss=(contrast + diversity + penalty + cmsc) / count,
            contrastive_loss=contrast,
            diversity_loss=diversity,
            feature_penalty=penalty,
            cmsc_loss=cmsc,
            prob_perplexity=codes.prob_perplexity,
            code_perplexity=codes.code_perplexity,
            accuracy=accuracy,
            last_hidden_state=hidden,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def without_some_leads(self, input_values: Tensor, noise: Tensor | None) -> Tensor:
        if noise is None:
            return input_values
        kept = noise.reshape(len(input_values), -1)[:, : input_values.shape[1]] >= self.config.lead_mask_prob
        return input_values * kept[..., None].to(input_values.dtype)

    def quantize(self, features: Tensor, mask: Tensor, temperature: float | None, noise: Tensor | None) -> Codes:
        """Codes of the masked tokens `(B·M, …)`; without noise in evaluation."""
        normed = self.ecg_wav2vec2.feature_projection.layer_norm(features.transpose(1, 2))
        temperature = self.temperature if temperature is None else temperature
        return self.quantizer(self.feature_dropout(normed[mask]), temperature, noise if self.training else None)

    def diversity(self, codes: Codes) -> Tensor:
        """What each masked token pays for codes that are not used."""
        total = self.config.num_codevectors_per_group * self.config.num_codevector_groups
        return self.config.diversity_weight * (total - codes.prob_perplexity) / total

    def penalty(self, features: Tensor) -> Tensor:
        return self.config.feature_penalty_weight * features.float().square().mean()

    def draw_mask(
        self,
        batch: int,
        tokens: int,
        starts: Tensor | None,
        kept: Tensor | None,
        draw: Tensor | None,
        device: torch.device,
    ) -> Tensor:
        """`(B, n)` bool, equally many masked tokens in each row."""
        starts = torch.rand(batch, tokens + 1, device=device) if starts is None else starts.reshape(batch, -1)
        kept = torch.rand(batch, tokens, device=device) if kept is None else kept.reshape(batch, -1)[:, :tokens]
        value = float(torch.rand(()) if draw is None else draw)
        config = self.config
        return wav2vec2_mask(starts, kept, value, config.mask_prob, config.mask_length, config.min_masks)

    def draw_negatives(self, batch: int, masked: int, noise: Tensor | None, device: torch.device) -> Tensor:
        """`(B, M·N)` flat rows among the targets, never a token's own."""
        if masked < 2:
            raise ValueError("A token needs another masked token of its segment as negative: use longer segments.")
        number = self.config.num_negatives
        if noise is None:
            noise = torch.rand(batch, masked, number, device=device)
        noise = noise.reshape(batch, -1, number)[:, :masked].flatten(1)
        draws = (noise * (masked - 1)).long().clamp(max=masked - 2)
        return wav2vec2_negatives_from_draws(draws, number)

    def draw_gumbel(self, batch: int, tokens: int, masked: int, noise: Tensor | None, device: torch.device) -> Tensor:
        """`(B·M·groups, codes)`."""
        groups, codes = self.config.num_codevector_groups, self.config.num_codevectors_per_group
        if noise is None:
            return -torch.empty(batch * masked * groups, codes, device=device).exponential_().log()
        return noise.reshape(batch, -1, codes)[:, : masked * groups].flatten(0, 1)

    def contrast(self, predictions: Tensor, targets: Tensor, negative_indices: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of cross-entropies over `B·M` tokens, and the share whose own target scores highest.

        Candidates of a token lie in its own segment, so all cosines of a segment are one matrix product.
        """
        batch, masked, _ = targets.shape
        first = torch.arange(batch, device=targets.device)[:, None] * masked
        others = (negative_indices.to(targets.device) - first).view(batch, masked, -1)  # (B, M, N)
        with torch.autocast(targets.device.type, enabled=False):
            unit = [
                one.float() / one.float().norm(dim=-1, keepdim=True).clamp(min=1e-8) for one in (predictions, targets)
            ]
            cosines = unit[0] @ unit[1].transpose(1, 2) / self.config.logit_temperature  # (B, M, M)
        same = torch.stack(
            [(one[:, None] == one[None]).all(dim=-1) for one in targets]
        )  # a target is no negative of itself
        false = cosines.masked_fill(same, float("-inf")).gather(2, others)
        true = cosines.diagonal(dim1=1, dim2=2)[..., None]
        scores = torch.cat([true, false], dim=-1).flatten(0, 1)  # (B·M, 1 + N)
        loss = nn.functional.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.long), reduction="sum")
        correct = (scores.argmax(dim=-1) == 0) & (scores.argmin(dim=-1) != 0)
        return loss, correct.float().mean()

    def cmsc(self, embeddings: Tensor, patient_ids: Tensor | None, segment_ids: Tensor | None) -> Tensor:
        """Contrast of first with second segments, `(B, D)` embeddings of both."""
        rows = torch.arange(len(embeddings), device=embeddings.device)
        segments = rows % 2 if segment_ids is None else segment_ids.to(rows.device)
        patients = rows // 2 if patient_ids is None else patient_ids.to(rows.device)
        if len(patients) * 2 == len(rows):
            patients = patients.repeat_interleave(2)
        alone = bool((patients == patients[0]).all()) or int(segments.sum()) * 2 != len(rows)
        if alone and not self.training:
            return embeddings.new_full((), float("nan"))  # one patient can be embedded, but not contrasted
        return patient_contrastive_loss(embeddings, patients, segments, self.config.cmsc_temperature)

    def monitor(self, outputs: ModelOutput) -> dict[str, float]:
        names = ("accuracy", "prob_perplexity", "code_perplexity")
        return {name: getattr(outputs, name).item() for name in names}
