"""CPC for ECG: Mehari and Strodthoff, "Self-supervised representation learning from 12-lead ECG data", 2022 (LSTM
form), and the form with structured state spaces that leads the public benchmark of ECG foundation models, 2025."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.collapse import record_figures
from ecg_transformers.layers.distributed import gather_rows_with_gradient, world
from ecg_transformers.layers.heads import NormedHead, time_statistics
from ecg_transformers.layers.objectives import cpc_loss, same_sequence_negative_indices
from ecg_transformers.layers.state_space import S4Kernel, S4Layer
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_cpc.configuration_ecg_cpc import ECGCPCConfig
from ecg_transformers.models.leads import LeadIndices, check_input, to_lead_table


@dataclass
class ECGCPCModelOutput(ModelOutput):
    """Output of the base model.

    Attributes:
        last_hidden_state: `(B, S, D)`, the context after each encoded step.
        pooler_output: statistics of the context over time, side by side.
        encoded: `(B, S, F)`, the encoded steps themselves, which are what the context predicts.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    encoded: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ECGCPCForPreTrainingOutput(ModelOutput):
    """Output of contrastive pre-training.

    Attributes:
        loss: cross-entropy of the true future against the negatives, mean over the batch, sum (or mean) over time.
        accuracy: share of predictions nearest to their true future.
        predicted: `(B, S, F)`, the predictions made at each step.
        encoded: `(B, S, F)`, what was to be predicted.
        last_hidden_state: `(B, S, D)`, the context.
    """

    loss: torch.Tensor | None = None
    accuracy: torch.Tensor | None = None
    predicted: torch.Tensor | None = None
    encoded: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class ECGCPCEncoder(nn.Sequential):
    """Convolutions over time, each with batch norm (or bias) and ReLU: `(B, leads, T)` to `(B, F, S)`."""

    def __init__(self, config: ECGCPCConfig) -> None:
        widths, layers = [config.num_leads, *config.conv_dims], []
        for index, (kernel, stride) in enumerate(zip(config.conv_kernels, config.conv_strides)):
            layer = nn.Sequential()
            layer.append(
                nn.Conv1d(
                    widths[index],
                    widths[index + 1],
                    kernel,
                    stride,
                    padding=(kernel - 1) // 2,
                    bias=not config.conv_norm,
                )
            )
            if config.conv_norm:
                layer.append(nn.BatchNorm1d(widths[index + 1]))
            if config.conv_activation:
                layer.append(nn.ReLU())
            layers.append(layer)
        super().__init__(*layers)


class ECGCPCLayer(GradientCheckpointingLayer):
    """One layer of the context network: `(B, S, D_in)` to `(B, S, D)`."""

    def __init__(self, config: ECGCPCConfig, in_dim: int) -> None:
        super().__init__()
        if config.context == "s4":
            self.s4 = S4Layer(
                config.hidden_size,
                config.state_size,
                config.s4_max_length or 2,
                bidirectional=config.s4_bidirectional,
                dropout=config.context_dropout,
                tie_dropout=config.tie_dropout,
                layer_norm_eps=config.layer_norm_eps,
                odd_length="exact" if config.s4_odd_length == "exact" else "official",
            )
        else:
            recurrent = nn.LSTM if config.context == "lstm" else nn.GRU
            self.rnn = recurrent(in_dim, config.hidden_size, batch_first=True)

    def forward(self, hidden_states: Tensor) -> Tensor:
        if hasattr(self, "s4"):
            return self.s4(hidden_states)
        return self.rnn(hidden_states)[0]


class ECGCPCPrediction(nn.Linear):
    """The last map of the projection (a class of its own, so that initialisation recognises it)."""


class ECGCPCProjection(nn.Module):
    """From the context to a prediction of an encoded step: a linear map, or two with ReLU in between."""

    def __init__(self, config: ECGCPCConfig) -> None:
        super().__init__()
        width, hidden, bias = config.hidden_size, config.projection_hidden_size, config.projection_bias
        if hidden is not None:
            self.hidden = nn.Linear(width, hidden, bias=bias)
        self.output = ECGCPCPrediction(width if hidden is None else hidden, config.feature_dim, bias=bias)

    def forward(self, context: Tensor) -> Tensor:
        return self.output(torch.relu(self.hidden(context)) if hasattr(self, "hidden") else context)


class ECGCPCPreTrainedModel(ECGPreTrainedModel):
    """Initialisation of CPC."""

    config: ECGCPCConfig
    base_model_prefix = "ecg_cpc"
    input_embeddings_name = "encoder"
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_attention_backend = False
    _no_split_modules = ["ECGCPCLayer"]
    _can_record_outputs = {"hidden_states": ECGCPCLayer}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As torch does by default, which is what the published code relies on; only the projection starts smaller."""
        super()._init_weights(module)
        if isinstance(module, ECGCPCPrediction):
            # scores of all candidates start nearly equal, so the loss starts at the logarithm of their number
            init.normal_(module.weight, std=0.1 * module.weight.numel() ** -0.5)
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.LSTM | nn.GRU):
            module.reset_parameters()
        elif isinstance(module, S4Kernel):
            for name, value in module.initial_values().items():
                init.copy_(getattr(module, name), value)
        elif isinstance(module, S4Layer):
            init.normal_(module.skip)


class ECGCPCModel(ECGCPCPreTrainedModel):
    """Convolutional encoder and context network.

    Example:
        >>> config = ECGCPCConfig(conv_dims=[32, 32, 32, 32], hidden_size=32)
        >>> ECGCPCModel(config)(torch.randn(1, 12, 1000)).last_hidden_state.shape
        torch.Size([1, 1000, 32])
    """

    def __init__(self, config: ECGCPCConfig) -> None:
        super().__init__(config)
        self.encoder = ECGCPCEncoder(config)
        if config.has_context_map:
            self.context_map = nn.Linear(config.feature_dim, config.hidden_size)
        self.layers = nn.ModuleList(
            ECGCPCLayer(config, config.hidden_size if index else config.feature_dim)
            for index in range(config.num_hidden_layers)
        )
        self.post_init()

    @property
    def feature_size(self) -> int:
        return len(self.config.pooling) * self.config.hidden_size

    @capture_outputs
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGCPCModelOutput:
        """Context and features of records.

        Args:
            input_values: `(B, L, T)`; leads that the model knows and the input lacks are taken as zero.
            lead_indices: slots of the leads, one list for the batch or one a record.
        """
        check_input(input_values)
        if self.config.encoded_length(input_values.shape[-1]) < 1:
            raise ValueError(f"An input of {input_values.shape[-1]} samples is shorter than one encoded step.")
        input_values = to_lead_table(lead_indices, input_values, self.config.num_leads)
        encoded = self.encoder(input_values).transpose(1, 2)  # (B, S, F)
        hidden = self.context_map(encoded) if self.config.has_context_map else encoded
        for layer in self.layers:
            hidden = layer(hidden)  # (B, S, D)
        pooled = time_statistics(hidden, self.config.pooling)
        return ECGCPCModelOutput(last_hidden_state=hidden, pooler_output=pooled, encoded=encoded)


class ECGCPCForPreTraining(ECGCPCPreTrainedModel):
    """CPC: the context at a step must pick the true encoding `steps_predicted` later out of many others."""

    def __init__(self, config: ECGCPCConfig) -> None:
        super().__init__(config)
        if config.context == "s4" and config.s4_bidirectional:
            raise ValueError("A bidirectional context has seen what it is to predict; set s4_bidirectional=False.")
        self.ecg_cpc = ECGCPCModel(config)
        self.projection = ECGCPCProjection(config)
        self.steps_predicted: int = config.steps_predicted or 0  # a number once the config is built
        self.post_init()

    @property
    def compares_records(self) -> bool:
        return self.config.negatives == "everywhere"

    def draw_sample_noise(self, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Negatives of one record for every prediction: their times, never the true one; and, when they come from
        everywhere, which record of the forward pass each is in, as a number in [0, 1)."""
        return self._draw(self.config.seq_len, generator)

    def _draw(self, samples: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        config, steps = self.config, self.config.encoded_length(samples)
        if steps <= self.steps_predicted:
            raise ValueError(
                f"A crop of {samples} samples has {steps} encoded steps, and none lies {self.steps_predicted} ahead "
                "of another; use longer crops or a shorter horizon (steps_predicted)."
            )
        times = same_sequence_negative_indices(
            1, steps, self.steps_predicted, config.num_negatives, generator, window=config.negative_window
        )[:, 0]  # of a single sequence, flat indices are times
        if config.negatives == "same_sequence":
            return {"negative_times": times}
        return {"negative_times": times, "negative_records": torch.rand(times.shape, generator=generator)}

    def negatives(self, input_values: Tensor, times: Tensor | None, records: Tensor | None) -> Tensor:
        """Flat indices `(predictions, B, k)` into the encodings of the pass, drawn afresh where no draws are given."""
        batch, _, samples = input_values.shape
        if times is None:
            draws = [self._draw(samples, None) for _ in range(batch)]
            times = torch.stack([draw["negative_times"] for draw in draws])
            records = torch.stack([draw["negative_records"] for draw in draws]) if self.compares_records else None
        rank, size = world() if self.compares_records else (0, 1)
        if records is None:
            rows = torch.arange(batch, device=times.device)[:, None, None] + rank * batch
        else:
            rows = (records * (size * batch)).long().clamp(max=size * batch - 1)
        return (rows * self.config.encoded_length(samples) + times).transpose(0, 1)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        negative_indices: torch.Tensor | None = None,
        negative_times: torch.Tensor | None = None,
        negative_records: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGCPCForPreTrainingOutput:
        """Contrastive loss of a batch.

        Args:
            input_values: `(B, L, T)`, normalised.
            lead_indices: slots of the leads, one list for the batch or one a record.
            negative_indices: `(S - steps_predicted, B, k)`, false candidates as `record · S + step`; with
                `negatives="everywhere"` the records of all processes count, in order of rank.
            negative_times: `(B, S - steps_predicted, k)`, false candidates as steps of the same record. Without either
                they are drawn from the global generator.
            negative_records: `(B, S - steps_predicted, k)` in [0, 1), with `negative_times`: the false candidates are in
                other records of the pass, `floor(number · records)`.
        """
        outputs = self.ecg_cpc(input_values, lead_indices=lead_indices, **kwargs)
        predicted = self.projection(outputs.last_hidden_state)  # (B, S, F)
        if negative_indices is None:
            negative_indices = self.negatives(input_values, negative_times, negative_records)
        loss, accuracy = cpc_loss(
            predicted,
            outputs.encoded,
            negative_indices.to(predicted.device),
            self.steps_predicted,
            normalize=self.config.normalize_scores,
            temperature=self.config.temperature,
            candidates=gather_rows_with_gradient(outputs.encoded) if self.compares_records else None,
        )
        if self.config.loss_reduction == "mean":
            loss = loss / negative_indices.shape[0]
        return ECGCPCForPreTrainingOutput(
            loss=loss,
            accuracy=accuracy,
            predicted=predicted,
            encoded=outputs.encoded,
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
        )

    def monitor(self, outputs: ModelOutput) -> dict[str, float]:
        return {"accuracy": float(outputs.accuracy), **record_figures(outputs.last_hidden_state.mean(dim=1))}


class ECGCPCForSequenceClassification(ECGForSequenceClassification, ECGCPCPreTrainedModel):
    """CPC with a linear head on the pooled context, with the published head (`config.classifier_hidden_sizes`), or
    with attention pooling of the context (`config.head_pooling="attention"`)."""

    config: ECGCPCConfig
    base_class = ECGCPCModel

    def build_classifier(self, size: int) -> nn.Module:
        hidden = self.config.classifier_hidden_sizes
        if hidden is None:
            return super().build_classifier(size)
        return NormedHead(size, hidden, self.config.num_labels, self.config.classifier_dropout)
