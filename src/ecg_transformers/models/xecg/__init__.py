"""xECG of BenchECG: patches over all leads through a stack of xLSTM cells that reads forwards and backwards."""
