"""The ground floor: console, files, configurations, devices, processes, checkpoints. Knows nothing of audio."""
