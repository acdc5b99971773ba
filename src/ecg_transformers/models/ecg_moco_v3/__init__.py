"""MoCo v3 for ECG: two augmented crops of a record, a momentum encoder, symmetric InfoNCE; any encoder as backbone."""
