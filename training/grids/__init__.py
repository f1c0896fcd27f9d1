"""The published grids of Demucs experiments; `training.xp_grids` says what a grid is."""
