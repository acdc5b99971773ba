"""What the tensors of the published files are called here."""

import re

from ecg_transformers.models.shared.conv_position_encoder import WEIGHT_NORM_KEYS

# The core of all four, after the prefix of the wrapping; then MELP's poolers. Applied in this order; a key of this
# package passes unchanged.
PUBLISHED_KEYS = {
    r"^ecg_encoder\.ecg_encoder\.": "",
    r"^feature_extractor\.conv_layers\.(\d+)\.0\.": r"feature_extractor.conv_layers.\1.conv.",
    r"^feature_extractor\.conv_layers\.0\.2\.": "feature_extractor.conv_layers.0.layer_norm.",
    r"^layer_norm\.": "feature_projection.layer_norm.",
    r"^post_extract_proj\.": "feature_projection.projection.",
    r"^conv_pos\.pos_conv\.0\.": "encoder.pos_conv_embed.conv.",
    **WEIGHT_NORM_KEYS,
    r"\.self_attn\.": ".attention.",
    r"\.self_attn_layer_norm\.": ".layer_norm.",
    r"\.fc1\.": ".feed_forward.intermediate_dense.",
    r"\.fc2\.": ".feed_forward.output_dense.",
    r"^ecg_encoder\.attn_pool_contrast\.": "contrast_pooler.",
    r"^ecg_encoder\.ln_contrast\.": "contrast_pooler.ln_out.",
    r"^ecg_encoder\.proj_contrast$": "contrast_projection",
    r"^ecg_encoder\.attn_pool_caption\.": "caption_pooler.",
    r"^ecg_encoder\.ln_caption\.": "caption_pooler.ln_out.",
}

# what pre-training adds to the encoder
PRETRAINING_KEYS = (r"^mask_emb$", r"^quantizer\.", r"^project_q\.", r"^final_proj\.")
# in MELP's files and unused: buffers of a batch norm, the temperature of the contrast with texts, the text side
MELP_UNUSED_KEYS = (
    r"^ecg_encoder\.(logit_scale$|bn\.)",
    r"^(lm_model|text_decoder|proj_t|sent_proj)\.",
)
# D-BETA's text side, its fusion of both and its pre-training heads
D_BETA_UNUSED_KEYS = (
    r"^(unimodal_|multi_modal_)?language_",
    r"^multi_modal_ecg_(pooler|layers)\.",
    r"^modality_type_embeddings\.",
    r"^(mlm_head|itm_head|mim_head)\.",
    *(key.replace("^", r"^ecg_encoder\.") for key in PRETRAINING_KEYS),
)
D_BETA_KEYS = {
    r"^ecg_encoder\.": "",
    r"^class_embedding$": "encoder.class_embedding",
    r"^multi_modal_ecg_proj\.": "token_projection.",
    r"^unimodal_ecg_pooler\.dense\.": "class_pooler.",
}


def our_name(key: str, table: dict[str, str]) -> str:
    """The name that the substitutions of `table`, one after another, make of `key`."""
    for pattern, replacement in table.items():
        key = re.sub(pattern, replacement, key)
    return key


def matches(key: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns is found in `key`."""
    return any(re.search(pattern, key) for pattern in patterns)
