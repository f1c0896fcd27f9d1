"""The options of a BandSplitRNN that takes moments."""

SMALL_BSRNN = {
    "sr": 8000,
    "n_fft": 256,
    "hop_length": 64,
    "bandsplits": [[1000, 250], [2000, 500]],
    "fc_dim": 8,
    "rnn_dim": 6,
    "num_layers": 1,
    "mlp_dim": 10,
    "segment_samples": 4096,
}
