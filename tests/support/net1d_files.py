"""Small ECGFounder networks, and their tensors as the released file lays them out."""

import re

import torch

from ecg_transformers.models.ecg_net1d.configuration_ecg_net1d import ECGNet1DConfig
from ecg_transformers.models.ecg_net1d.modeling_ecg_net1d import ECGNet1DForSequenceClassification


def small(**overrides):
    torch.manual_seed(0)
    sizes = {"num_leads": 3, "stem_dim": 6, "stage_dims": [8, 15], "depths": [1, 2], "num_groups": [2, 5]}
    sizes |= {"kernel_size": 8, "num_labels": 4, "sampling_rate": None}
    return ECGNet1DForSequenceClassification(ECGNet1DConfig(**{**sizes, **overrides})).eval()


def published_keys(model):
    """Our state dict under the published names, with the batch norms that released files hold beside it."""
    state = {}
    for key, value in model.state_dict().items():
        name = key.removeprefix("ecg_net1d.")
        name = re.sub(r"^stages\.(\d+)\.blocks\.(\d+)\.", r"stage_list.\1.block_list.\2.", name)
        name = re.sub(r"\.gate\.(squeeze|excite)\.", lambda m: f".se_fc{1 + (m[1] == 'excite')}.", name)
        name = re.sub(r"\.conv(\d)\.", r".conv\1.conv.", name)
        name = re.sub(r"\.activation(\d)\.norm\.", r".bn\1.", name)
        name = name.replace("stem.activation.norm.", "first_bn.").replace("stem.conv.", "first_conv.conv.")
        state[name.replace("classifier.", "dense.")] = value
    return state
