"""Small xECG models, and their tensors as the released file lays them out."""

import torch

from ecg_transformers.models.xecg.configuration_xecg import XECGConfig
from ecg_transformers.models.xecg.convert_xecg import SCALAR_GATES
from ecg_transformers.models.xecg.method import METHOD
from ecg_transformers.models.xecg.modeling_xecg import XECGModel


def small_model(**overrides):
    torch.manual_seed(0)
    model = XECGModel(XECGConfig(**{**METHOD.tiny_config, **overrides})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def published_layout(model, cuda=True):
    """The tensors of a model under the published names, in the layout of either backend."""
    names = {"norm": "xlstm_norm", "feed_forward_norm": "ffn_norm", "feed_forward.up": "ffn.proj_up"}
    names |= {"feed_forward.down": "ffn.proj_down", "cell.conv": "xlstm.conv1d.conv", "cell.up": "xlstm.proj_up"}
    names |= {"cell.down": "xlstm.proj_down", "cell.query": "xlstm.q_proj", "cell.key": "xlstm.k_proj"}
    names |= {"cell.value": "xlstm.v_proj"}
    out = {"patch_embedding.conv.weight": model.embeddings.projection.weight.detach()}
    if model.config.use_final_layer_norm:
        out["core.model.post_blocks_norm.weight"] = model.layernorm.weight.detach()
    for index, layer in enumerate(model.layers):
        scalar = model.config.block_types[index] == "s"
        gates = {f"cell.{ours}": f"xlstm.{theirs}" for theirs, ours in SCALAR_GATES.items()}
        matrix = {"cell.input_gate": "xlstm.mlstm_cell.igate", "cell.forget_gate": "xlstm.mlstm_cell.fgate"}
        own = names | (gates if scalar else matrix)
        own["cell.norm"] = "xlstm.group_norm" if scalar else "xlstm.mlstm_cell.outnorm"
        for key, value in layer.state_dict().items():
            module, _, kind = key.rpartition(".")
            name = f"{own[module]}.{kind}" if module in own else {"skip": "xlstm.learnable_skip"}.get(kind, kind)
            if kind == "recurrent":
                name, value = "xlstm.slstm_cell._recurrent_kernel_", value if cuda else value.transpose(1, 2)
            elif key == "cell.bias":
                heads = value.view(value.shape[0], 4, -1)
                name, value = "xlstm.slstm_cell._bias_", (heads if cuda else heads.transpose(0, 1)).reshape(-1)
            out[f"core.model.blocks.{index}.{name}"] = value
    return out
