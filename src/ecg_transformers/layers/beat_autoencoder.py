"""A small 1-D convolutional autoencoder for fixed-length waveforms (single heartbeats)."""

from collections.abc import Sequence

from torch import Tensor, nn

GROUPS = 8


def conv_norm(num_channels: int, norm: str) -> nn.Module:
    """Normalisation of a convolution: "batch" (over the batch) or "group" (8 groups, every waveform alone)."""
    if norm == "batch":
        return nn.BatchNorm1d(num_channels)
    if norm == "group":
        return nn.GroupNorm(min(GROUPS, num_channels), num_channels)
    raise ValueError(f'norm must be "batch" or "group", got {norm!r}.')


def conv_lengths(length: int, strides: Sequence[int]) -> list[int]:
    """Lengths before the first and after every convolution with same padding."""
    lengths = [length]
    for stride in strides:
        lengths.append(-(-lengths[-1] // stride))
    return lengths


class BeatEncoder(nn.Module):
    """Convolutions with same padding, norm and GELU, then one linear map: `(V, L, beat_len)` to `(V, hidden_size)`.

    Args:
        num_leads: leads of the input; all leads of a beat enter the first convolution together.
        beat_len: samples of a beat.
        channels, kernels, strides: one entry per convolution; kernels are odd.
        hidden_size: width of the embedding.
        norm: see `conv_norm`.
    """

    def __init__(
        self,
        num_leads: int,
        beat_len: int,
        channels: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
        hidden_size: int,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        widths = [num_leads, *channels]
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(before, after, kernel, stride, padding=kernel // 2, bias=False),
                conv_norm(after, norm),
                nn.GELU(),
            )
            for before, after, kernel, stride in zip(widths, channels, kernels, strides)
        )
        self.projection = nn.Linear(channels[-1] * conv_lengths(beat_len, strides)[-1], hidden_size)

    def forward(self, beats: Tensor) -> Tensor:
        hidden = beats
        for conv in self.convs:
            hidden = conv(hidden)
        return self.projection(hidden.flatten(1))


class BeatDecoder(nn.Module):
    """The mirror of `BeatEncoder`: `(V, hidden_size)` to `(V, L, beat_len)`.

    A linear map, then nearest upsampling and a convolution for every convolution of the encoder, in reverse; the last
    one has neither norm nor activation. Arguments as for `BeatEncoder`.
    """

    def __init__(
        self,
        num_leads: int,
        beat_len: int,
        channels: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
        hidden_size: int,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        lengths = conv_lengths(beat_len, strides)
        self.start_shape = (channels[-1], lengths[-1])
        self.lengths = lengths[-2::-1]
        self.projection = nn.Linear(hidden_size, channels[-1] * lengths[-1])
        widths = [num_leads, *channels]
        self.convs = nn.ModuleList()
        for index in reversed(range(len(channels))):
            last = index == 0
            conv = nn.Conv1d(widths[index + 1], widths[index], kernels[index], padding=kernels[index] // 2, bias=last)
            self.convs.append(conv if last else nn.Sequential(conv, conv_norm(widths[index], norm), nn.GELU()))

    def forward(self, embeddings: Tensor) -> Tensor:
        hidden = self.projection(embeddings).unflatten(1, self.start_shape)
        for length, conv in zip(self.lengths, self.convs):
            if hidden.shape[-1] != length:
                hidden = nn.functional.interpolate(hidden, size=length, mode="nearest")
            hidden = conv(hidden)
        return hidden


def map_valid(function: nn.Module, items: Tensor, valid: Tensor, only_valid: bool) -> Tensor:
    """`function` on every item `(B, N, …)` where `valid (B, N)`; zeros elsewhere.

    With `only_valid` the others never enter the function, so batch statistics do not see padding; without it all enter
    (static shapes) and their results are dropped. One item always enters, so that every weight has a gradient.
    """
    shape = valid.shape
    if only_valid:
        chosen = valid.flatten().nonzero()[:, 0]
        if chosen.numel() == 0:
            chosen = chosen.new_zeros(1)
        results = function(items.flatten(0, 1)[chosen])
        full = results.new_zeros(shape.numel(), *results.shape[1:]).index_copy(0, chosen, results)
    else:
        full = function(items.flatten(0, 1))
    full = full.unflatten(0, shape)
    return full * valid.view(*shape, *[1] * (full.ndim - 2)).to(full.dtype)
