"""From tokens of patches to a class for every sample: the head that finds waves."""

from torch import Tensor, nn

CHANNELS, KERNEL = 16, 9


class PatchLabels(nn.Module):
    """Tokens `(B, L, n, D)` to logits `(B, L, n · p, C)`, or `(B, L, n, C)` where `patch_size` is 1.

    A linear map unfolds every token into `channels` values for each of its p samples; two convolutions over time, which
    all leads share, turn them into classes. A map from the token straight to p · C logits would decide every patch alone,
    and a wave's border near the edge of a patch would be seen by one of its two neighbours only; the convolutions see
    both sides (`kernel_size` samples each), and keep the answer from flickering from sample to sample.

    Args:
        hidden_size: D, width of the tokens.
        patch_size: p, samples of a patch.
        num_labels: C.
    """

    def __init__(
        self, hidden_size: int, patch_size: int, num_labels: int, channels: int = CHANNELS, kernel_size: int = KERNEL
    ) -> None:
        super().__init__()
        self.patch_size, self.channels = patch_size, channels
        self.unfold = nn.Linear(hidden_size, patch_size * channels)
        self.smooth = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.activation = nn.GELU()
        self.classify = nn.Conv1d(channels, num_labels, kernel_size, padding=kernel_size // 2)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, num_leads = tokens.shape[:2]
        samples = self.unfold(tokens).unflatten(-1, (self.patch_size, self.channels))  # (B, L, n, p, K)
        series = samples.flatten(2, 3).flatten(0, 1).transpose(1, 2)  # (B·L, K, n·p)
        logits = self.classify(self.activation(self.smooth(series)))  # (B·L, C, n·p)
        return logits.transpose(1, 2).unflatten(0, (batch, num_leads))
