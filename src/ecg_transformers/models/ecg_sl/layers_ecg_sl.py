"""The parts of ECG-SL: beats become tokens."""

import torch
from torch import Tensor, nn

from ecg_transformers.layers.beat_autoencoder import BeatEncoder, map_valid
from ecg_transformers.layers.positions import sinusoidal_values
from ecg_transformers.models.ecg_sl.configuration_ecg_sl import ECGSLConfig


def conv_options(config: ECGSLConfig) -> dict:
    """Arguments that the structural encoder and its mirror share."""
    return {
        "num_leads": config.num_leads,
        "beat_len": config.beat_len,
        "channels": config.conv_channels,
        "kernels": config.conv_kernels,
        "strides": config.conv_strides,
        "hidden_size": config.hidden_size,
        "norm": config.norm,
    }


class ECGSLEmbeddings(nn.Module):
    """Beats to tokens: structural encoder, RR features, position of the beat."""

    def __init__(self, config: ECGSLConfig) -> None:
        super().__init__()
        self.config = config
        self.structural_encoder = BeatEncoder(**conv_options(config))
        if config.use_rr:
            self.rr_projection = nn.Linear(2, config.hidden_size, bias=False)

    def encode(self, beats: Tensor, seen: Tensor) -> Tensor:
        """`(B, N, L, P)` to `(B, N, D)`, zeros where not `seen`; in training the unseen never enter batch norm."""
        return map_valid(self.structural_encoder, beats, seen, only_valid=self.training)

    def positions(self, rr: Tensor) -> Tensor:
        """`(B, N)` number of the beat, or the seconds since the first beat that follow from the RR features."""
        if self.config.position == "time":
            gaps = rr[..., 0].float().exp()
            return gaps.cumsum(dim=1) - gaps[:, :1]
        return torch.arange(rr.shape[1], device=rr.device, dtype=torch.float32).expand(rr.shape[:2])

    def forward(self, embeddings: Tensor, rr: Tensor) -> Tensor:
        """Tokens `(B, N, D)` from embeddings and RR features `(B, N, 2)`."""
        if self.config.use_rr:
            embeddings = embeddings + self.rr_projection(rr.to(embeddings.dtype))
        if self.config.position != "none":
            table = sinusoidal_values(self.positions(rr), self.config.hidden_size)
            embeddings = embeddings + table.to(embeddings.dtype)
        return embeddings
