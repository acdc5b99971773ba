"""Write the features of a pre-trained encoder for every record of a corpus: one row a record, ready for any other tool.

    python examples/extract_features.py CHECKPOINT features.npz
    python examples/extract_features.py CHECKPOINT features.npz ptb_xl PTB_XL_FOLDER

CHECKPOINT is a folder that `pretrain.py` wrote, or a Hub repository. The features are the mean token of each lead, averaged
over three crops of the record.
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is loaded: waiting threads leave the cores to others

import numpy as np
from transformers import AutoFeatureExtractor, AutoModel

import ecg_transformers as ecg
from ecg_transformers.evaluation.readouts import extract_features


def main(checkpoint: str, output: str, corpus: str = "synthetic", data_dir: str | None = None) -> None:
    model = AutoModel.from_pretrained(checkpoint).eval()
    extractor = AutoFeatureExtractor.from_pretrained(checkpoint)
    records = ecg.load_ecg_dataset(corpus, data_dir=data_dir, split="test")
    features = extract_features(model, extractor, records, num_crops=3, readout="per_lead")
    np.savez(output, features=features, record_ids=np.asarray(records["record_id"]))
    print(f"{features.shape[0]} records, {features.shape[1]} features each, in {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
