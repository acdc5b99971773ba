"""CPC: contrastive prediction of the future, with an LSTM or structured-state-space context network."""
