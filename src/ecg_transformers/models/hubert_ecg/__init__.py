"""HuBERT-ECG: a HuBERT encoder over the twelve leads joined to one series."""
