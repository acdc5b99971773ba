"""wav2vec 2.0 for ECG: the one network behind ECG-FM, DeepECG-SSL, MELP and D-BETA, and the pre-training of ECG-FM."""
