"""ECG-SL: learning heartbeat by heartbeat (Yu, Yang, Sano, 2023)."""
