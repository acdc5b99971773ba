# Copyright 2026 The ecg_transformers authors.
"""Configuration of contrastive predictive coding for ECG (CPC)."""

from dataclasses import field
from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import MAX_HIDDEN_SIZE, MAX_LAYERS, MAX_POSITIONS, ECGConfig, check_choice
from ecg_transformers.models.ecg_cpc.method import LEADS

PUBLISHED_STEPS_PREDICTED = 12
MAX_STATE = 1_024  # the basis of a system needs the eigenvectors of a matrix of this size


@strict
class ECGCPCConfig(ECGConfig):
    """Sizes and objective of CPC; the defaults are the published LSTM form at 100 Hz.

    Args:
        conv_dims, conv_kernels, conv_strides: of the convolutional encoder, one entry a layer; empty lists pass the
            leads on unchanged. Padding is (kernel - 1) // 2.
        conv_norm: batch norm after each convolution, which then has no bias.
        conv_activation: ReLU after each convolution.
        context: the causal network over encoded steps: "lstm", "gru" or "s4".
        hidden_size, num_hidden_layers: of the context network; S4 layers keep their width, so a linear map stands before
            them where `hidden_size` is not that of the encoded steps.
        state_size: dimensions of one S4 system.
        s4_max_length: encoded steps for which the S4 systems are written down; the parameters are tied to it. None
            takes the steps of `seq_len`, rounded up to an even number.
        s4_bidirectional: the S4 layers also look ahead. Not for pre-training.
        s4_odd_length: "official" loses a sample of the response of an odd `s4_max_length` as the published code does;
            "exact" keeps it.
        context_dropout, tie_dropout: dropout in the S4 layers; tied = a feature is dropped for all times.
        projection_hidden_size: width of a hidden layer in the projection; None makes it one linear map.
        projection_bias: biases in the projection.
        steps_predicted: the one horizon that is predicted, in encoded steps; None takes `horizon_ms`, or 12 as published.
        horizon_ms: the horizon in milliseconds; when given, `steps_predicted` follows from it and the sampling rate.
        num_negatives: false candidates for each prediction.
        negatives: "same_sequence", or "everywhere" in the forward pass, of all processes together.
        negative_window: negatives lie at most so many steps before the predicting step and, because those at or after
            the true one move up by one as published, at most one more after it; 0 takes the whole sequence.
        normalize_scores, temperature: cosine instead of dot product between prediction and candidates; division by a
            temperature.
        loss_reduction: "sum_time" adds the cross-entropies of all times, as published; "mean" averages them.
        pooling: parts of `pooler_output`, statistics over time: "mean", "max", "last".
        classifier_hidden_sizes: None for a linear head; a list (it may be empty) for the published head with batch
            norm and dropout before each linear map.
        classifier_dropout: of the published head; half of it before its hidden layers.
    """

    model_type = "ecg_cpc"

    num_leads: int = 12
    seq_len: int = 1000
    sampling_rate: float | int | None = 100
    conv_dims: list[int] = field(default_factory=lambda: [512, 512, 512, 512])
    conv_kernels: list[int] = field(default_factory=lambda: [1, 1, 1, 1])
    conv_strides: list[int] = field(default_factory=lambda: [1, 1, 1, 1])
    conv_norm: bool = True
    conv_activation: bool = True
    context: str = "lstm"
    hidden_size: int = 512
    num_hidden_layers: int = 2
    state_size: int = 8
    s4_max_length: int | None = None
    s4_bidirectional: bool = False
    s4_odd_length: str = "official"
    context_dropout: float | int = 0.2
    tie_dropout: bool = True
    layer_norm_eps: float = 1e-5
    projection_hidden_size: int | None = None
    projection_bias: bool = False
    steps_predicted: int | None = None
    horizon_ms: float | int | None = None
    num_negatives: int = 128
    negatives: str = "same_sequence"
    negative_window: int = 0
    normalize_scores: bool = False
    temperature: float | int = 1.0
    loss_reduction: str = "sum_time"
    pooling: list[str] = field(default_factory=lambda: ["mean", "max", "last"])
    classifier_hidden_sizes: list[int] | None = None
    classifier_dropout: float | int = 0.5

    def __post_init__(self, **kwargs: Any) -> None:
        if self.lead_names is None and self.num_leads == len(LEADS):
            self.lead_names = list(LEADS)
        super().__post_init__(**kwargs)
        self._check_network()
        if self.s4_max_length is None:
            steps = self.encoded_length(self.seq_len)
            self.s4_max_length = max(2, steps + steps % 2)
        steps = PUBLISHED_STEPS_PREDICTED if self.horizon_ms is None else self._horizon_steps()
        if self.horizon_ms is not None and self.steps_predicted not in (None, steps):
            raise ValueError(
                f"ECGCPCConfig: horizon_ms={self.horizon_ms} means steps_predicted={steps}, but "
                f"{self.steps_predicted} was given; leave one of the two out."
            )
        self.steps_predicted = steps if self.steps_predicted is None else self.steps_predicted
        if self.steps_predicted < 1:
            raise ValueError(f"ECGCPCConfig: steps_predicted must be at least 1, got {self.steps_predicted}.")

    def _check_network(self) -> None:
        lengths = {len(self.conv_dims), len(self.conv_kernels), len(self.conv_strides)}
        if len(lengths) != 1:
            raise ValueError(
                "ECGCPCConfig: conv_dims, conv_kernels and conv_strides need one entry a layer; got "
                f"{len(self.conv_dims)}, {len(self.conv_kernels)} and {len(self.conv_strides)} entries."
            )
        sizes = [*self.conv_dims, *self.conv_kernels, *self.conv_strides, self.state_size, self.num_hidden_layers]
        if any(not 1 <= size <= MAX_HIDDEN_SIZE for size in sizes):
            raise ValueError(f"ECGCPCConfig: sizes of layers must lie between 1 and {MAX_HIDDEN_SIZE}, got {sizes}.")
        if len(self.conv_dims) > MAX_LAYERS or self.state_size > MAX_STATE:
            raise ValueError(
                f"ECGCPCConfig: at most {MAX_LAYERS} convolutions and state_size {MAX_STATE} are possible."
            )
        if not (self.s4_max_length or 0) <= MAX_POSITIONS or not 1 <= self.num_negatives <= MAX_POSITIONS:
            raise ValueError(f"ECGCPCConfig: s4_max_length and num_negatives must not exceed {MAX_POSITIONS}.")
        check_choice(self, "context", ("lstm", "gru", "s4"))
        check_choice(self, "negatives", ("same_sequence", "everywhere"))
        check_choice(self, "loss_reduction", ("sum_time", "mean"))
        check_choice(self, "s4_odd_length", ("official", "exact"))
        if not 1 <= len(self.pooling) <= 3 or set(self.pooling) - {"mean", "max", "last"}:
            raise ValueError(f"ECGCPCConfig: pooling takes some of mean, max, last; got {self.pooling}.")
        if self.encoded_length(self.seq_len) < 1:
            raise ValueError(f"ECGCPCConfig: seq_len {self.seq_len} is shorter than one encoded step.")

    def _horizon_steps(self) -> int:
        if self.sampling_rate is None:
            raise ValueError("ECGCPCConfig: horizon_ms needs a sampling_rate.")
        return max(1, round(float(self.horizon_ms or 0) / 1000 * self.sampling_rate / self.total_stride))

    @property
    def feature_dim(self) -> int:
        """Width of an encoded step."""
        return self.conv_dims[-1] if self.conv_dims else self.num_leads

    @property
    def has_context_map(self) -> bool:
        """Whether a linear map brings encoded steps to the width of the S4 layers."""
        return self.context == "s4" and self.hidden_size != self.feature_dim

    @property
    def total_stride(self) -> int:
        """Samples between two encoded steps."""
        stride = 1
        for value in self.conv_strides:
            stride *= value
        return stride

    def encoded_length(self, num_samples: int) -> int:
        """Encoded steps of `num_samples` samples."""
        for kernel, stride in zip(self.conv_kernels, self.conv_strides):
            num_samples = (num_samples + 2 * ((kernel - 1) // 2) - kernel) // stride + 1
        return num_samples

    def receptive_range(self, step: int) -> tuple[int, int]:
        """First and last sample (inclusive, before clipping to the record) that encoded step `step` sees."""
        first = last = step
        for kernel, stride in zip(reversed(self.conv_kernels), reversed(self.conv_strides)):
            padding = (kernel - 1) // 2
            first, last = first * stride - padding, last * stride - padding + kernel - 1
        return first, last
