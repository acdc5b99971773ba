"""Residual networks in stages over time: signals to tokens `(B, T, D)` that every stage makes wider and shorter."""

from torch import Tensor, nn
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.leads import LeadIndices, check_input, to_lead_table
from ecg_transformers.models.outputs import ECGModelOutput


class TokenStage(nn.Module):
    """Blocks over `(B, D, T)` that take and return tokens `(B, T, D)`, so that recorded hidden states are tokens."""

    def __init__(self, blocks: nn.Sequential) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, tokens: Tensor) -> Tensor:
        return self.blocks(tokens.transpose(1, 2)).transpose(1, 2)


class StagedPreTrainedModel(ECGPreTrainedModel):
    """What transformers may do with a network of convolutions and batch norms."""

    input_embeddings_name = "stem"
    # checkpointing would run the batch norms twice and count every batch twice in their running statistics
    supports_gradient_checkpointing = False
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_attention_backend = False
    _no_split_modules = ["TokenStage"]
    _can_record_outputs = {"hidden_states": TokenStage}


class StagedModel(StagedPreTrainedModel):
    """A stem `(B, L, T)` to `(B, D, T')`, then the stages; a method's class builds `stem` and `stages`."""

    stem: nn.Module
    stages: nn.ModuleList

    def pool(self, tokens: Tensor) -> Tensor:
        """`(B, T', D)` to the feature `(B, D)`: the mean."""
        return tokens.mean(dim=1)

    @capture_outputs
    def forward(
        self,
        input_values: Tensor,
        lead_indices: LeadIndices | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGModelOutput:
        """Tokens and features of records.

        Args:
            input_values: `(B, L, T)` of any length; leads that the model knows and the input lacks are taken as zero.
            lead_indices: slots of the leads, one list for the batch or one a record.

        Returns:
            `last_hidden_state (B, T', D)`, one token for every 2 ** (stages + 1) samples, and `pooler_output`, the
            pooled tokens (`pool`), which the published head sees.
        """
        check_input(input_values)
        input_values = to_lead_table(lead_indices, input_values, self.config.num_leads)
        tokens = self.stem(input_values).transpose(1, 2)  # (B, T', D)
        for stage in self.stages:
            tokens = stage(tokens)
        return ECGModelOutput(last_hidden_state=tokens, pooler_output=self.pool(tokens))
